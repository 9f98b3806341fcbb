//! `intentd serve`: the daemon.

use super::Failure;
use crate::App;
use crate::config::{Config, Sources};
use crate::telemetry;

pub(super) fn run(sources: &Sources) -> Result<(), Failure> {
    let config = Config::load(sources)?;
    telemetry::start_logging(&config.log);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), revision = crate::REVISION, "starting");
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async { App::build(config).await?.run().await })?;
    Ok(())
}
