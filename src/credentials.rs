//! Files with passwords, tokens, keys and certificates: read whole and bounded. One that holds a secret is refused
//! while anyone but its owner and group can read it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Largest file that is read. The certificates that a system trusts have a quarter of it.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reading or writing by others.
const OTHERS: u32 = 0o006;

/// A password: never printed.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Reads a file of one line.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = String::from_utf8(read_secret(path)?);
        let text = text.map_err(|_| format!("{}: is not UTF-8", path.display()))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(format!("{}: the file is empty", path.display())),
            secret => Ok(Self(secret.to_owned())),
        }
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A file that anybody may read, such as a certificate.
pub fn read_public(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| failed(path, &error))?;
    read(path, file)
}

/// A file that others must not be able to read.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| failed(path, &error))?;
    let mode = file.metadata().map_err(|error| failed(path, &error))?.permissions().mode();
    if mode & OTHERS != 0 {
        let path = path.display();
        return Err(format!(
            "{path}: others can read or write it (mode {:04o}); chmod o= {path}",
            mode & 0o7777
        ));
    }
    read(path, file)
}

fn read(path: &Path, file: File) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(path, &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!(
            "{}: more than {MAX_BYTES} bytes are no key, token or certificate",
            path.display()
        ));
    }
    Ok(bytes)
}

fn failed(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{path}: {error}; a service gets it by LoadCredential= (docs/security.md)")
        }
        _ => format!("{path}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn a_secret_that_others_can_read_or_write_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "canary-4711\n").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, true), (0o644, false), (0o602, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let read = Secret::read(&path);
            assert_eq!(read.is_ok(), good, "{mode:o}");
            if let Err(error) = read {
                assert!(error.contains(&format!("chmod o= {}", path.display())), "{error}");
                assert!(error.contains(&format!("{mode:04o}")) && !error.contains("canary"), "{error}");
            }
        }
        assert!(read_public(&path).is_ok());
    }

    #[test]
    fn a_password_is_one_line_and_is_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let read = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            Secret::read(&path)
        };
        let secret = read(b"canary-4711\r\n").unwrap();
        assert_eq!(secret.expose(), "canary-4711");
        assert!(!format!("{secret:?}").contains("canary"));
        for bad in [&b"\n"[..], b"", b"\xff", &vec![b'x'; MAX_BYTES as usize + 1]] {
            assert!(read(bad).is_err());
        }
        assert!(Secret::read(folder.path()).is_err() && read_public(&folder.path().join("none")).is_err());
    }
}
