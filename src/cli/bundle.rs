//! Opening a bundle for one command.

use std::path::{Path, PathBuf};

use intentd_engine::{Engine, Thresholds};

use super::Failure;
use crate::config::{self, Bundle, Config, Log, LogFormat, Sources};
use crate::model::{give_names, read_names};
use crate::telemetry;

/// Set by somebody who wants to see more of a command than its warnings.
const LEVEL_VARIABLE: &str = "INTENTD__LOG__LEVEL";

/// The embedded broker of a demo complains of every connection that its end cuts.
const QUIET: &str = "warn,rumqttd=off";

/// Opens the bundle in this folder, else the configured one, and runs its self-test.
pub(super) fn open(folder: Option<&Path>) -> Result<Engine, Failure> {
    let config = Config::load(&Sources::default())?;
    start_quiet_logging(&config.log, false);
    // The site's thresholds and names were set for the site's bundle; what it trusts holds for any.
    let config::Model { own, trust, thresholds, .. } = config.model;
    let (bundle, thresholds) = match folder {
        Some(folder) => {
            (Bundle { folder: PathBuf::from(folder), ..Default::default() }, Thresholds::default())
        }
        None => (own, thresholds),
    };
    let names = read_names("model", &bundle)?;
    let engine = Engine::open(&bundle.folder, &trust, thresholds).map_err(|error| {
        Failure::config(format!("no usable bundle in {}: {error}", bundle.folder.display()))
    })?;
    Ok(give_names("model", engine, names)?)
}

/// Logs for a person at a terminal: warnings only, unless a level was asked for.
pub(super) fn start_quiet_logging(log: &Log, level_was_set: bool) {
    let asked = level_was_set || std::env::var_os(LEVEL_VARIABLE).is_some();
    let level = if asked { log.level.clone() } else { QUIET.to_owned() };
    let format = if log.format == LogFormat::Auto { LogFormat::Pretty } else { log.format };
    telemetry::start_logging(&Log { format, level });
}
