//! What the tests run against: the real daemon, a real mosquitto, a device, a recording proxy, a CA, and a broker that the
//! test plays itself. Each has its own temporary folder and free ports on loopback, is bounded in time, and ends with its value.

pub(crate) mod authority;
pub(crate) mod daemon;
pub(crate) mod device;
pub(crate) mod fake_broker;
pub(crate) mod inside;
pub(crate) mod manager;
pub(crate) mod mosquitto;
pub(crate) mod proxy;

pub(crate) use daemon::Daemon;
pub(crate) use device::{Device, Message};
pub(crate) use fake_broker::FakeBroker;
pub(crate) use mosquitto::Mosquitto;
pub(crate) use proxy::Proxy;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Nothing in these tests takes longer when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A copy of the committed bundle that a test may damage.
pub(crate) fn copy_of_bundle() -> TempDir {
    let folder = TempDir::new().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/home-en"), folder.path());
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until `condition` holds; panics with `what` after [`PATIENCE`].
#[track_caller]
pub(crate) fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, condition);
}

/// The same with its own limit.
#[track_caller]
pub(crate) fn wait_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_millis(200)).is_ok()
}

/// Sends a signal, such as `TERM`.
fn signal(child: &Child, name: &str) {
    let sent = std::process::Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill -s {name} {}", child.id());
}
