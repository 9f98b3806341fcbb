//! A service manager as far as the daemon sees one: a socket that it tells how it is (sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Listens until it is dropped.
pub(crate) struct Manager {
    _folder: TempDir,
    path: PathBuf,
    lines: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Manager {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let lines: Arc<Mutex<Vec<_>>> = Arc::default();
        let shared = Arc::downgrade(&lines);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let (Ok(read), Some(lines)) = (socket.recv(&mut buffer), shared.upgrade()) {
                let told = String::from_utf8_lossy(&buffer[..read]);
                let now = Instant::now();
                lines.lock().unwrap().extend(told.lines().map(|line| (now, line.to_owned())));
            }
        });
        Self { _folder: folder, path, lines }
    }

    /// For `NOTIFY_SOCKET`.
    pub(crate) fn socket(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// How often it was told this.
    pub(crate) fn heard(&self, what: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|(_, line)| line == what).count()
    }

    /// When it last heard that all is well.
    pub(crate) fn last_sign(&self) -> Option<Instant> {
        self.signs().last().copied()
    }

    /// The longest time, up to now, without a sign that all is well, after the first.
    pub(crate) fn longest_silence(&self) -> Duration {
        let moments: Vec<_> = self.signs().into_iter().chain([Instant::now()]).collect();
        moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    fn signs(&self) -> Vec<Instant> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|(_, line)| line == "WATCHDOG=1").map(|(when, _)| *when).collect()
    }
}
