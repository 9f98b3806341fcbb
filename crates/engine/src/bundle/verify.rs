//! Reads and verifies every listed file. The bytes that are hashed are the bytes that are parsed: no file is opened
//! a second time, so it cannot change in between.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::{FileEntry, Manifest};
use crate::OpenError;

const MANIFEST: &str = "manifest.toml";
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// SqueezeBERT base in 8 bits has 51 MB; several times that is another kind of model.
const GRAPH_BYTES_MAX: u64 = 256 << 20;
/// A tokenizer of 120,000 wordpieces has 9 MB.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// A bundle whose listed files are all there and as the manifest says.
pub(crate) struct Verified {
    /// What the bundle says about itself.
    pub(crate) manifest: Manifest,
    folder: PathBuf,
    contents: HashMap<String, Vec<u8>>,
}

/// Reads the manifest and verifies everything that it lists. Files that it does not list are ignored.
pub(crate) fn verify(folder: &Path) -> Result<Verified, OpenError> {
    let path = folder.join(MANIFEST);
    let bytes = read_bounded(&path, MANIFEST_BYTES_MAX)?;
    let text = String::from_utf8(bytes)
        .map_err(|e| OpenError::Manifest { path: path.clone(), message: format!("is not UTF-8: {e}") })?;
    let manifest = Manifest::read(&path, &text)?;
    let mut contents = HashMap::new();
    for entry in &manifest.files {
        let bytes = read_verified(&folder.join(&entry.path), entry)?;
        // Documents are verified and let go; the engine keeps in memory only what it parses.
        if matches!(extension(&entry.path), "onnx" | "json" | "jsonl") {
            contents.insert(entry.path.clone(), bytes);
        }
    }
    Ok(Verified { manifest, folder: folder.to_owned(), contents })
}

impl Verified {
    /// Hands over the verified bytes of a file that the tasks need.
    pub(crate) fn take(&mut self, path: &str) -> Result<Vec<u8>, OpenError> {
        self.contents
            .remove(path)
            .ok_or_else(|| OpenError::Unlisted { path: self.path(MANIFEST), listed: path.to_owned() })
    }

    /// Where a file stands, for messages.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }
}

fn read_verified(path: &Path, entry: &FileEntry) -> Result<Vec<u8>, OpenError> {
    let limit = if extension(&entry.path) == "onnx" { GRAPH_BYTES_MAX } else { TEXT_BYTES_MAX };
    let bytes = read_bounded(path, limit)?;
    if bytes.len() as u64 != entry.bytes {
        return Err(OpenError::SizeMismatch {
            path: path.to_owned(),
            expected: entry.bytes,
            found: bytes.len() as u64,
        });
    }
    let found = hex(&Sha256::digest(&bytes));
    if !found.eq_ignore_ascii_case(&entry.sha256) {
        return Err(OpenError::ChecksumMismatch {
            path: path.to_owned(),
            expected: entry.sha256.clone(),
            found,
        });
    }
    Ok(bytes)
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, OpenError> {
    let unreadable = |source| OpenError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    if size > limit {
        return Err(OpenError::TooLarge { path: path.to_owned(), bytes: size, limit });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
    // The file may grow while it is read; it is still read no further than the limit.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(OpenError::TooLarge { path: path.to_owned(), bytes: bytes.len() as u64, limit });
    }
    Ok(bytes)
}

fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
