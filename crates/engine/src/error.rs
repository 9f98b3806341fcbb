//! Why a bundle does not open. Each message names the file and what to do about it.

use std::path::PathBuf;

use crate::bundle::Version;

/// Why a bundle was refused. The operator must act: fetch the bundle again, or another bundle or version of intentd.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file that the bundle needs cannot be read.
    #[error("{}: {source}; copy the whole bundle again", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The site's thresholds contradict each other or the bundle's.
    #[error("model.recognized and model.not_recognized together with those of the bundle: {0}")]
    Thresholds(String),
    /// The site asks for a signature.
    #[error("{}: is not there, and model.trusted_keys asks for a signature; fetch the bundle with its signature, or sign it with minisign", path.display())]
    Unsigned {
        /// The signature.
        path: PathBuf,
    },
    /// The signature is not one of the manifest by a trusted key.
    #[error("{}: {source}; the bundle is damaged, or signed by none of model.trusted_keys: do not use it", path.display())]
    Signature {
        /// The signature.
        path: PathBuf,
        /// What is wrong with it.
        source: minisign_verify::Error,
    },
    /// The site asks for a newer bundle.
    #[error("{}: version {found} is older than model.minimum_version, {minimum}; install a newer bundle", path.display())]
    TooOld {
        /// The manifest.
        path: PathBuf,
        /// What the manifest says.
        found: String,
        /// What the site asks for.
        minimum: Version,
    },
    /// The manifest is not one.
    #[error("{}: {message}; fetch the bundle again", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The manifest's layout is not known to this version.
    #[error("{}: schema {found} is not known, this intentd knows schema {known}; install a newer intentd or an older bundle", path.display())]
    UnknownSchema {
        /// The manifest.
        path: PathBuf,
        /// What the manifest says.
        found: u32,
        /// What this version knows.
        known: u32,
    },
    /// The bundle was made for a newer version.
    #[error("{}: the bundle needs intentd {minimum} or newer, this is {running}; upgrade intentd or install an older bundle", path.display())]
    NeedsNewer {
        /// The manifest.
        path: PathBuf,
        /// What the manifest asks for.
        minimum: String,
        /// This version.
        running: &'static str,
    },
    /// The bundle promises tasks that this version cannot do.
    #[error("{}: the tasks {} are not known to this intentd, which knows {}; upgrade intentd or install another bundle", path.display(), unknown.join(", "), known.join(", "))]
    UnsupportedTasks {
        /// The manifest.
        path: PathBuf,
        /// What the manifest lists.
        unknown: Vec<String>,
        /// What this version can do.
        known: Vec<&'static str>,
    },
    /// The manifest lists a path outside the bundle.
    #[error("{}: the listed path {listed:?} leaves the bundle's folder; do not use this bundle", path.display())]
    PathOutside {
        /// The manifest.
        path: PathBuf,
        /// What it lists.
        listed: String,
    },
    /// A file that the bundle's tasks need has no checksum in the manifest.
    #[error("{}: does not list {listed}, which its tasks need; fetch the bundle again", path.display())]
    Unlisted {
        /// The manifest.
        path: PathBuf,
        /// The file that it should list.
        listed: String,
    },
    /// A file, or the whole bundle, over its limit.
    #[error("{}: {bytes} bytes; the limit is {limit} bytes; use a smaller bundle", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A file of another size than the manifest says.
    #[error("{}: {found} bytes, but the manifest says {expected}; the file is damaged, fetch the bundle again", path.display())]
    SizeMismatch {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// A file of another content than the manifest says.
    #[error("{}: sha256 {found}, but the manifest says {expected}; the file is damaged, fetch the bundle again", path.display())]
    ChecksumMismatch {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A verified tokenizer, labels or calibration file whose content makes no sense.
    #[error("{}: {message}; the bundle was made wrongly, use another one", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A verified graph that cannot be run.
    #[error("{}: the graph is not understood: {message}; use a bundle made by this project's training", path.display())]
    Graph {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The engine gives another answer than the bundle's author got.
    #[error("{}: line {line}: {message}; the bundle does not work on this machine, use another one", path.display())]
    SelfTest {
        /// The vectors.
        path: PathBuf,
        /// Which one, from 1.
        line: usize,
        /// What differs.
        message: String,
    },
}

/// A thread's worker could not be made: out of memory, or a fault of ours.
#[derive(Debug, thiserror::Error)]
#[error("no worker for {graph}: {message}; restart intentd, and report this if it comes again")]
pub struct WorkerError {
    /// Which graph would not start.
    pub graph: &'static str,
    /// What the runtime says.
    pub message: String,
}
