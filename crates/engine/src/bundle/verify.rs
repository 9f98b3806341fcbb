//! Reads and verifies every listed file. The bytes that are hashed are the bytes that are parsed: no file is opened
//! a second time, so it cannot change in between.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::manifest::{FileEntry, Manifest};
use super::trust::Trust;
use crate::OpenError;

const MANIFEST: &str = "manifest.toml";
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// SqueezeBERT base in 8 bits has 51 MB; several times that is another kind of model.
const GRAPH_BYTES_MAX: u64 = 256 << 20;
/// A tokenizer of 120,000 wordpieces has 9 MB.
const TEXT_BYTES_MAX: u64 = 16 << 20;
/// All files together; they are in memory at once while the bundle opens.
const BUNDLE_BYTES_MAX: u64 = 320 << 20;

/// A bundle whose listed files are all there and as the manifest says.
pub(crate) struct Verified {
    /// What the bundle says about itself.
    pub(crate) manifest: Manifest,
    folder: PathBuf,
    contents: HashMap<String, Vec<u8>>,
}

/// Verifies the manifest and everything that it lists. Files that it does not list are ignored.
pub(crate) fn verify(folder: &Path, trust: &Trust) -> Result<Verified, OpenError> {
    let path = folder.join(MANIFEST);
    let bytes = read_bounded(&path, MANIFEST_BYTES_MAX)?;
    trust.check_signature(folder, &bytes)?;
    let text = String::from_utf8(bytes)
        .map_err(|e| OpenError::Manifest { path: path.clone(), message: format!("is not UTF-8: {e}") })?;
    let manifest = Manifest::read(&path, &text)?;
    trust.check_version(&path, &manifest.version)?;
    check_sizes(folder, &manifest)?;
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

/// Parses a verified file.
pub(super) fn read_json<T: DeserializeOwned>(bundle: &mut Verified, file: &str) -> Result<T, OpenError> {
    let bytes = bundle.take(file)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| OpenError::Content { path: bundle.path(file), message: e.to_string() })
}

/// What the manifest announces must fit before any of it is read.
fn check_sizes(folder: &Path, manifest: &Manifest) -> Result<(), OpenError> {
    let too_large = |path, bytes, limit| Err(OpenError::TooLarge { path, bytes, limit });
    let mut all = 0_u64;
    for FileEntry { path, bytes, .. } in &manifest.files {
        let limit = if extension(path) == "onnx" { GRAPH_BYTES_MAX } else { TEXT_BYTES_MAX };
        if *bytes > limit {
            return too_large(folder.join(path), *bytes, limit);
        }
        all += bytes;
    }
    if all > BUNDLE_BYTES_MAX { too_large(folder.to_owned(), all, BUNDLE_BYTES_MAX) } else { Ok(()) }
}

fn read_verified(path: &Path, entry: &FileEntry) -> Result<Vec<u8>, OpenError> {
    let mismatch = |found| OpenError::SizeMismatch { path: path.to_owned(), expected: entry.bytes, found };
    let bytes = read_bounded(path, entry.bytes).map_err(|error| match error {
        OpenError::TooLarge { bytes, .. } => mismatch(bytes),
        other => other,
    })?;
    if bytes.len() as u64 != entry.bytes {
        return Err(mismatch(bytes.len() as u64));
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

/// Reads a file that must not have more bytes than this; a larger one is refused unread.
pub(super) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, OpenError> {
    let unreadable = |source| OpenError::Unreadable { path: path.to_owned(), source };
    // Before it is opened: opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(std::io::Error::other("is not a file")));
    }
    let size = metadata.len();
    if size > limit {
        return Err(OpenError::TooLarge { path: path.to_owned(), bytes: size, limit });
    }
    let file = File::open(path).map_err(unreadable)?;
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
