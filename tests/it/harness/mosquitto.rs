//! A real mosquitto with persistence, on a port and in a folder of its own.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{free_port, listens, signal, wait_for};

/// A running or stopped broker.
pub(crate) struct Mosquitto {
    child: Option<Child>,
    folder: TempDir,
    /// Its port, the same after a restart.
    pub(crate) port: u16,
}

impl Mosquitto {
    /// Starts it and waits until it listens. Its own defaults would silently drop what waits behind 1,000 messages.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more lines of configuration.
    pub(crate) fn start_with(more: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let port = free_port();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n\
             persistence_location {}/\nmax_queued_messages 0\nmax_inflight_messages 1000\nlog_dest none\n{more}\n",
            folder.path().display()
        );
        std::fs::write(folder.path().join("mosquitto.conf"), config).unwrap();
        let mut broker = Self { child: None, folder, port };
        broker.resume();
        broker
    }

    /// Ends it with SIGTERM, so that it writes its sessions to disk.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(&child, "TERM");
            child.wait().unwrap();
        }
    }

    /// SIGKILL: what it hasn't written to disk is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP: its connections stand, and it does nothing.
    pub(crate) fn freeze(&self) {
        signal(self.child.as_ref().unwrap(), "STOP");
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        signal(self.child.as_ref().unwrap(), "CONT");
    }

    /// Starts it again.
    pub(crate) fn resume(&mut self) {
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is installed");
        self.child = Some(child);
        wait_for("mosquitto listens", || listens(self.port));
    }

    /// SIGHUP: it reads its access list and its passwords again.
    pub(crate) fn reload(&self) {
        signal(self.child.as_ref().expect("mosquitto runs"), "HUP");
    }

    /// What a broker without its disk knows after a restart: nothing. To be called while it is stopped.
    pub(crate) fn forget(&self) {
        std::fs::remove_file(self.folder.path().join("mosquitto.db")).unwrap();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
