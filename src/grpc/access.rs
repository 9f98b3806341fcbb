//! What a peer must show before it is let in: certificates and tokens, read from the files of the configuration and
//! kept as they are there. A changed file takes the place of the old one when it is good; a bad one is logged, and what
//! was there before stays in force. Open connections are left alone.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::signal::unix::Signal;
use tokio_rustls::TlsAcceptor;

use super::tokens::Tokens;
use crate::config::{Grpc, Mistake};
use crate::tls::{self, ServerFiles};

/// How often the files are looked at. A certificate is renewed days before it ends.
const INTERVAL: Duration = Duration::from_secs(20);

/// What is asked of peers now; cheap to clone.
#[derive(Clone)]
pub struct Access {
    files: Arc<Files>,
    /// Of the files when they were read for the first time.
    fingerprint: Fingerprint,
    current: Arc<RwLock<Current>>,
}

type Fingerprint = [u8; 32];

struct Files {
    tls: Option<ServerFiles>,
    tokens: Option<PathBuf>,
}

#[derive(Clone)]
struct Current {
    tls: Option<TlsAcceptor>,
    tokens: Option<Arc<Tokens>>,
}

impl Access {
    /// Reads the files for the first time.
    pub fn open(settings: &Grpc) -> Result<Self, Mistake> {
        let files = Files { tls: settings.tls.clone(), tokens: settings.tokens_file.clone() };
        let fingerprint = files.fingerprint();
        let current = Arc::new(RwLock::new(files.read()?));
        Ok(Self { files: Arc::new(files), fingerprint, current })
    }

    /// Takes a connection's handshake; none where the door speaks plain text.
    pub(super) fn tls(&self) -> Option<TlsAcceptor> {
        self.current().tls
    }

    /// Who may call what; none where everybody may call everything.
    pub(super) fn tokens(&self) -> Option<Arc<Tokens>> {
        self.current().tokens
    }

    /// Follows the files, at every signal and every 20 s, without end.
    pub async fn follow(self, mut reload: Signal) {
        let mut fingerprint = self.fingerprint;
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tick.reset();
        loop {
            let asked = tokio::select! {
                _ = tick.tick() => false,
                Some(()) = reload.recv() => true,
            };
            let this = self.clone();
            let known = fingerprint;
            // Files may lie on a disk that takes its time.
            let looked = tokio::task::spawn_blocking(move || this.look(known, asked)).await;
            fingerprint = looked.unwrap_or(fingerprint);
        }
    }

    /// Reads the files again if they have changed, or when asked to. The fingerprint comes first: what changes in
    /// between is found the next time.
    fn look(&self, known: Fingerprint, asked: bool) -> Fingerprint {
        let fingerprint = self.files.fingerprint();
        if asked || fingerprint != known {
            match self.files.read() {
                Ok(read) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
                    tracing::info!("certificates and tokens of the gRPC door were read anew");
                }
                Err(mistake) => tracing::error!(
                    key = mistake.key,
                    problem = mistake.message,
                    "a certificate or the tokens of the gRPC door can't be used; those from before stay in force"
                ),
            }
        }
        fingerprint
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Files {
    fn read(&self) -> Result<Current, Mistake> {
        let tls = self.tls.as_ref().map(tls::server).transpose()?.map(TlsAcceptor::from);
        let tokens = self.tokens.as_deref().map(Tokens::read).transpose()?.map(Arc::new);
        Ok(Current { tls, tokens })
    }

    /// Of the content: a file may be replaced within one second, or come with a date of its own.
    fn fingerprint(&self) -> Fingerprint {
        let tls = self.tls.iter().flat_map(|tls| [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()]);
        let mut all = Sha256::new();
        for path in tls.chain([self.tokens.as_ref()]).flatten() {
            all.update(digest(path));
        }
        all.finalize().into()
    }
}

/// A file that can't be read has none of its own.
fn digest(path: &Path) -> Fingerprint {
    crate::credentials::read_public(path).map_or([0; 32], |bytes| Sha256::digest(bytes).into())
}
