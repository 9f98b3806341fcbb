//! What a site demands of a bundle beside its being whole: a signature by a key that the site trusts, and a version
//! that is not too old. Both are asked for before anything else of the bundle is opened.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use minisign_verify::{PublicKey, Signature};

use super::verify::read_bounded;
use crate::OpenError;

/// Signature of the manifest, which vouches for every other file by its checksum.
pub(super) const SIGNATURE: &str = "manifest.toml.minisig";

/// A signature has four short lines.
const SIGNATURE_BYTES_MAX: u64 = 4096;

/// A site's demands; none by default.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// One of these must have signed the manifest; empty: no signature is asked for.
    pub keys: Vec<TrustedKey>,
    /// Older bundles are refused, so that nobody can bring back one whose faults are known.
    pub minimum_version: Option<Version>,
}

/// A public key of minisign, as the second line of its `.pub` file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey(PublicKey);

impl FromStr for TrustedKey {
    type Err = minisign_verify::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        PublicKey::from_base64(text).map(Self)
    }
}

/// Major, minor and patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u32; 3]);

/// The text is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version like 0.1.0")]
pub struct NoVersion;

impl FromStr for Version {
    type Err = NoVersion;

    /// A suffix such as `-rc1` counts as the release itself; without a patch it is 0.
    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let release = text.split(['-', '+']).next().unwrap_or_default();
        let mut parts = release.split('.').map(|part| part.parse().map_err(|_| NoVersion));
        let mut part = || parts.next();
        let version = [part().ok_or(NoVersion)??, part().ok_or(NoVersion)??, part().unwrap_or(Ok(0))?];
        if parts.next().is_none() { Ok(Self(version)) } else { Err(NoVersion) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl Trust {
    /// The bytes of the manifest, before any parser sees them.
    pub(super) fn check_signature(&self, folder: &Path, manifest: &[u8]) -> Result<(), OpenError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let path = folder.join(SIGNATURE);
        let bytes = match read_bounded(&path, SIGNATURE_BYTES_MAX) {
            Err(OpenError::Unreadable { path, source }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::Unsigned { path });
            }
            read => read?,
        };
        let text = str::from_utf8(&bytes).map_err(|_| minisign_verify::Error::InvalidEncoding);
        let wrong = |source| OpenError::Signature { path: path.clone(), source };
        let signature = text.and_then(Signature::decode).map_err(wrong)?;
        let mut reason = minisign_verify::Error::UnexpectedKeyId;
        for TrustedKey(key) in &self.keys {
            match key.verify(manifest, &signature, false) {
                Ok(()) => return Ok(()),
                // Of another key: says less than what the key that was named by the signature says.
                Err(minisign_verify::Error::UnexpectedKeyId) => {}
                Err(error) => reason = error,
            }
        }
        Err(wrong(reason))
    }

    /// The version that the manifest tells.
    pub(super) fn check_version(&self, path: &Path, version: &str) -> Result<(), OpenError> {
        match self.minimum_version {
            Some(minimum) if version.parse().is_ok_and(|version: Version| version >= minimum) => Ok(()),
            Some(minimum) => {
                Err(OpenError::TooOld { path: path.to_owned(), found: version.to_owned(), minimum })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let version = |text: &str| text.parse::<Version>();
        assert!(version("0.10.0").unwrap() > version("0.9.9").unwrap());
        assert_eq!(version("1.2"), version("1.2.0-rc1"));
        assert_eq!(version("1.2.3+build").unwrap().to_string(), "1.2.3");
        for wrong in ["", "1", "1.x", "1.2.3.4", "v1.2.3", "-1.0.0", "99999999999.0.0"] {
            assert_eq!(version(wrong), Err(NoVersion), "{wrong}");
        }
    }
}
