//! `[model]`: which bundle, and what the site demands of it.

use std::path::{Path, PathBuf};

use intentd_engine::{Thresholds, Trust};

use super::read::Reader;

/// Where the bundle is looked for when `model.bundle` is empty.
const BUNDLES: [&str; 2] = ["models/home-en", "/usr/share/intentd/models/home-en"];

/// The bundle and what holds for it.
#[derive(Clone, Debug)]
pub struct Model {
    /// Folder of the bundle.
    pub bundle: PathBuf,
    /// Folder of the bundle that serves when the other is refused.
    pub fallback: Option<PathBuf>,
    /// What any bundle must fulfil.
    pub trust: Trust,
    /// This site's thresholds, where they differ from the bundle's.
    pub thresholds: Thresholds,
}

impl Model {
    pub(super) fn read(read: &mut Reader) -> Self {
        let packaged =
            || BUNDLES.iter().map(Path::new).find(|path| path.is_dir()).unwrap_or(Path::new(BUNDLES[0]));
        Self {
            bundle: read.optional("model.bundle").map_or_else(|| packaged().to_path_buf(), PathBuf::from),
            fallback: read.optional("model.fallback").map(PathBuf::from),
            trust: Trust {
                keys: read.each(
                    "model.trusted_keys",
                    "a public key of minisign: the second line of its .pub file, 56 characters",
                ),
                minimum_version: read.parsed("model.minimum_version", "a version like 0.1.0, or empty"),
            },
            thresholds: Thresholds {
                recognized: read.probability("model.recognized"),
                not_recognized: read.probability("model.not_recognized"),
            },
        }
    }
}
