//! `[model]`: which bundles, and what the site demands of them.

use std::path::{Path, PathBuf};

use intentd_engine::{Thresholds, Trust};
use serde_json::Value;

use super::read::Reader;

/// Where the bundle is looked for when `model.bundle` is empty.
const BUNDLES: [&str; 2] = ["models/home-en", "/usr/share/intentd/models/home-en"];

/// Most bundles of one daemon; each takes memory for its weights.
const MAX_BUNDLES: usize = 8;

/// The bundles and what holds for them.
#[derive(Clone, Debug)]
pub struct Model {
    /// The daemon's own.
    pub own: Bundle,
    /// Those that are loaded beside it, and asked by name.
    pub more: Vec<Bundle>,
    /// What any bundle must fulfil.
    pub trust: Trust,
    /// This site's thresholds for its own bundle, where they differ from the bundle's.
    pub thresholds: Thresholds,
}

/// Where a bundle is, and what the site adds to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Its folder.
    pub folder: PathBuf,
    /// Folder of the bundle that serves when it is refused.
    pub fallback: Option<PathBuf>,
    /// File of the names that slots resolve to.
    pub names: Option<PathBuf>,
}

impl Model {
    pub(super) fn read(read: &mut Reader) -> Self {
        let packaged =
            || BUNDLES.iter().map(Path::new).find(|path| path.is_dir()).unwrap_or(Path::new(BUNDLES[0]));
        Self {
            own: Bundle {
                folder: read.optional("model.bundle").map_or_else(|| packaged().to_path_buf(), PathBuf::from),
                fallback: read.path("model.fallback"),
                names: read.path("model.names"),
            },
            more: more(read, "model.more"),
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

/// Bundles beside the daemon's own. The defaults have none, so that no block can be filled up from them.
fn more(read: &mut Reader, key: &str) -> Vec<Bundle> {
    let blocks = match read.value(key) {
        Value::Array(blocks) => blocks,
        Value::String(none) if none.is_empty() => Vec::new(),
        _ => {
            read.mistake(key, "further bundles come from the file only, each as a block [[model.more]]");
            Vec::new()
        }
    };
    if blocks.len() >= MAX_BUNDLES {
        read.mistake(
            key,
            format!("{} bundles; the limit is {MAX_BUNDLES}, with model.bundle", blocks.len() + 1),
        );
    }
    let bundle = |block: &Value| {
        let block = block.as_object()?;
        let path =
            |name: &str| Some(block.get(name)?.as_str()?).filter(|path| !path.is_empty()).map(PathBuf::from);
        let known = block.keys().all(|key| ["bundle", "fallback", "names"].contains(&key.as_str()));
        let folder = path("bundle")?;
        known.then(|| Bundle { folder, fallback: path("fallback"), names: path("names") })
    };
    let mut found = Vec::new();
    for (i, block) in blocks.iter().enumerate() {
        match bundle(block) {
            Some(bundle) => found.push(bundle),
            None => read.mistake(
                &format!("{key}[{i}]"),
                "needs bundle = \"FOLDER\" and may have fallback = \"FOLDER\" and names = \"FILE\", nothing else",
            ),
        }
    }
    found
}
