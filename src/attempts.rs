//! The attempts file: who was in inference when the process died. `intentd_core::attempts` decides; this writes its
//! record into memory that outlives the process but no boot, so that flash is spared, and runs suspects alone.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use intentd_core::attempts::{Attempts, Fingerprint};

/// Far more than the largest record.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// What was tried, and the file that tells it to the next process.
#[derive(Default)]
pub struct AttemptsFile {
    kept: Mutex<Kept>,
    /// Held for writing by a suspect, so that nobody else is in inference with it.
    inference: RwLock<()>,
}

#[derive(Default)]
struct Kept {
    attempts: Attempts,
    /// None: nothing is remembered across crashes.
    file: Option<File>,
}

impl AttemptsFile {
    /// Takes up what an earlier process of this gateway left. Where the file can't be kept the daemon does without it.
    pub fn open(gateway: &str) -> Self {
        let Some(folder) = runtime_folder() else {
            tracing::info!(
                "neither RUNTIME_DIRECTORY nor XDG_RUNTIME_DIR is set: an utterance that ends the process is not found"
            );
            return Self::default();
        };
        let path = folder.join(format!("attempts-{gateway}"));
        match open(&path) {
            Ok(kept) => {
                let suspects = kept.attempts.suspects();
                if suspects > 0 {
                    tracing::warn!(
                        suspects,
                        "the process before died in inference; these utterances run alone"
                    );
                }
                Self { kept: Mutex::new(kept), ..Self::default() }
            }
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "no attempts file: an utterance that ends the process is not found");
                Self::default()
            }
        }
    }

    /// How often the process has died on this one alone.
    pub fn deaths(&self, fingerprint: Fingerprint) -> u32 {
        self.lock().attempts.deaths(fingerprint)
    }

    /// Has a batch worked on, whole or, with a suspect in it, one by one and with nobody else in inference. `work` is
    /// told which part of the batch.
    pub fn run<T>(&self, batch: &[Fingerprint], mut work: impl FnMut(Range<usize>) -> Vec<T>) -> Vec<T> {
        let suspicious = {
            let kept = self.lock();
            batch.iter().any(|fingerprint| kept.attempts.is_suspect(*fingerprint))
        };
        if suspicious {
            let _alone = self.inference.write().unwrap_or_else(PoisonError::into_inner);
            (0..batch.len()).flat_map(|at| self.try_out(batch, at..at + 1, &mut work)).collect()
        } else {
            let _beside_others = self.inference.read().unwrap_or_else(PoisonError::into_inner);
            self.try_out(batch, 0..batch.len(), &mut work)
        }
    }

    fn try_out<T>(
        &self,
        batch: &[Fingerprint],
        part: Range<usize>,
        work: &mut impl FnMut(Range<usize>) -> Vec<T>,
    ) -> Vec<T> {
        self.note(|attempts| attempts.enter(&batch[part.clone()]));
        let done = work(part.clone());
        self.note(|attempts| attempts.leave(&batch[part]));
        done
    }

    fn note(&self, change: impl FnOnce(&mut Attempts)) {
        let mut kept = self.lock();
        change(&mut kept.attempts);
        if let Err(error) = kept.write() {
            tracing::warn!(%error, "the attempts file can't be written and is given up");
            kept.file = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// One write over the record before; the kernel keeps it whatever becomes of this process.
    fn write(&self) -> io::Result<()> {
        match &self.file {
            Some(file) => file.write_all_at(self.attempts.record().as_bytes(), 0),
            None => Ok(()),
        }
    }
}

/// systemd's `RuntimeDirectory=`, of which the first is ours, else a folder in the session's.
fn runtime_folder() -> Option<PathBuf> {
    let service = std::env::var_os("RUNTIME_DIRECTORY").filter(|folders| !folders.is_empty());
    let session = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    match service {
        Some(folders) => std::env::split_paths(&folders).next(),
        None => session.map(|folder| PathBuf::from(folder).join("intentd")),
    }
}

fn open(path: &Path) -> io::Result<Kept> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    file.try_lock().map_err(|_| io::Error::other("another intentd with this gateway name has it"))?;
    let mut record = Vec::new();
    (&file).take(RECORD_BYTES_MAX).read_to_end(&mut record)?;
    // An empty file is new; what is no record was not written by this version, and says nothing to it.
    let attempts = Attempts::after(&String::from_utf8_lossy(&record)).unwrap_or_default();
    let kept = Kept { attempts, file: Some(file) };
    kept.write()?;
    Ok(kept)
}
