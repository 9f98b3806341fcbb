//! The daemon inside the test program, started again as a process of its own: all of intentd's library, and a log
//! subscriber that does to it what the shipped binary has no way to be done to.

use std::path::{Path, PathBuf};
use std::process::Command;

use intentd::App;
use intentd::config::{Config, Sources};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer, Registry};

const CONFIG: &str = "INTENTD_TEST_CONFIG";

/// The command for a test that is such a daemon; it is `#[ignore]`d, and calls [`serve`].
pub(crate) fn command(test: &str, config: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored", "--nocapture"]).env(CONFIG, config);
    command
}

/// Serves until it is told to stop. Returns at once where no test started it.
pub(crate) fn serve(subscriber: impl Layer<Registry> + Send + Sync) {
    let Some(file) = std::env::var_os(CONFIG) else { return };
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).json();
    let levels = tracing_subscriber::EnvFilter::new("info");
    tracing::subscriber::set_global_default(
        Registry::default().with(subscriber).with(log.with_filter(levels)),
    )
    .unwrap();
    let sources = Sources { file: Some(PathBuf::from(file)), flags: Vec::new() };
    let config = Config::load(&sources).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { App::build(config).await.unwrap().run().await.unwrap() });
}
