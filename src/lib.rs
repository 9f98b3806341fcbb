//! intentd: a daemon for IoT gateways that understands what people say to their devices.
//!
//! # Map
//! - [`config`]: settings, all mistakes at once. [`cli`]: the commands.
//! - [`grpc`] and [`mqtt`]: the two doors. [`convert`] and [`proto`]: their common contract.
//! - [`model`]: which bundles serve. [`inference`] and [`attempts`]: worker threads around `intentd_engine`, behind `intentd_core::admission`.
//! - [`translate`]: an intent and its slots, said in another language.
//! - [`tls`] and [`credentials`]: certificates, keys and secrets of both doors, from their files.
//! - [`health`], [`telemetry`], [`http`]: what the daemon tells about itself.
//!
//! [`App`] is the only place that knows all parts: [`App::build`] opens, loads, binds and checks everything,
//! [`App::run`] serves until a signal and drains.

#![forbid(unsafe_code)]

pub mod attempts;
pub mod cli;
pub mod config;
pub mod convert;
pub mod credentials;
pub mod grpc;
pub mod health;
pub mod http;
pub mod inference;
pub mod model;
pub mod mqtt;
pub mod proto;
pub mod telemetry;
pub mod tls;
pub mod translate;

use std::net::SocketAddr;
use std::time::Duration;

use intentd_core::admission::Limits;
use intentd_engine::OpenError;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::attempts::AttemptsFile;
use crate::config::{Broker, Config, Mistake};
use crate::grpc::Access;
use crate::health::Health;
use crate::inference::{Inference, Workers};
use crate::mqtt::embedded::{Embedded, EmbeddedError};
use crate::telemetry::Metrics;

/// Revision of the source that this binary was built from.
pub const REVISION: &str = env!("INTENTD_REVISION");

/// After a signal everything admitted is answered within this time, or broken off. systemd kills after 20 s.
const DRAIN: Duration = Duration::from_secs(9);

/// Why the daemon can't start, or can't go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operator gives another bundle.
    #[error("no usable bundle in {path}: {source}{fallback}")]
    Bundle {
        /// Folder that was tried.
        path: String,
        /// What is wrong with it.
        source: Box<OpenError>,
        /// What is wrong with the fallback; empty where there is none.
        fallback: String,
    },
    /// The operator mends a file that a key of the configuration names.
    #[error(transparent)]
    Setting(#[from] Mistake),
    /// Something else has the port, perhaps for a moment.
    #[error(
        "{key} = \"{address}\" can't be listened on: {source}; stop what uses the port (ss -ltnp shows it) or set {key} to another"
    )]
    Port {
        /// Key of the configuration.
        key: &'static str,
        /// Address that was tried.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// A door failed while it served; the log says why. Whoever supervises starts again.
    #[error("a door has closed by itself, see the log")]
    DoorClosed,
    /// The system lacks something that every daemon needs.
    #[error("the system refused a thread or a signal handler: {0}")]
    System(#[from] std::io::Error),
}

/// A daemon that has loaded, bound and tested everything it needs.
pub struct App {
    config: Config,
    inference: Inference,
    workers: Workers,
    metrics: Metrics,
    registry: Registry,
    health: Health,
    grpc: TcpListener,
    access: Access,
    http: Option<TcpListener>,
    broker: Option<Embedded>,
}

impl App {
    /// Binds every port, opens the bundle and runs its self-test.
    pub async fn build(config: Config) -> Result<Self, StartError> {
        let access = Access::open(&config.grpc)?;
        let grpc = bind("grpc.listen", config.grpc.listen).await?;
        let http = match config.http {
            Some(address) => Some(bind("http.listen", address).await?),
            None => None,
        };
        let broker = start_broker(&config)?;
        let model::Opened { models, fallback } = model::open(&config.model)?;
        models.check_routes(config.mqtt.as_ref().map_or(&[][..], |mqtt| mqtt.routes.as_slice()))?;
        let (metrics, mut registry) = Metrics::new();
        telemetry::register_build(&mut registry, &models);
        metrics.model_fallback.set(fallback.is_some().into());
        let health = Health::new(fallback);
        let attempts = AttemptsFile::open(&config.gateway);
        let (inference, workers) =
            Inference::start(models, attempts, limits(&config), metrics.clone(), health.clone())?;
        Ok(Self { config, inference, workers, metrics, registry, health, grpc, access, http, broker })
    }

    /// The engines behind admission, for a caller in this process.
    pub fn inference(&self) -> &Inference {
        &self.inference
    }

    /// Serves until SIGTERM or SIGINT, then drains. A second signal ends the process at once.
    pub async fn run(self) -> Result<(), StartError> {
        let asked = signals()?;
        self.run_until(async { asked.await.unwrap_or("no signal handler") }).await
    }

    /// Serves until `asked` resolves to the reason of the stop, then drains for 9 s at most.
    pub async fn run_until(self, asked: impl Future<Output = &'static str>) -> Result<(), StartError> {
        let Self { config, inference, workers, metrics, registry, health, grpc, access, http, broker } = self;
        let reload = signal(SignalKind::hangup())?;
        let follower = tokio::spawn(access.clone().follow(reload));
        let (stop, stopping) = watch::channel(false);
        let mut doors = JoinSet::new();
        if let Some(listener) = http {
            let pages = http::serve(listener, registry, health.clone(), stopped(stopping.clone()));
            doors.spawn(async { log_failure("http", pages.await) });
        }
        {
            let (inference, metrics, health, stopping) =
                (inference.clone(), metrics.clone(), health.clone(), stopping.clone());
            let settings = config.grpc.clone();
            let calls = async move {
                grpc::serve(grpc, &settings, access, inference, metrics, health, stopping).await
            };
            doors.spawn(async { log_failure("grpc", calls.await) });
        }
        if let Some(mqtt) = &config.mqtt {
            let link = mqtt::start(mqtt, &config.gateway, inference, metrics, health.clone(), stopping);
            doors.spawn(async { log_failure("mqtt", link.await) });
        }
        health.serving();
        let addresses = (config.grpc.listen, config.http);
        tracing::info!(grpc = %addresses.0, http = ?addresses.1, gateway = config.gateway, "serving");
        health.keep_watchdog()?;

        let end = tokio::select! {
            reason = asked => Ok(reason),
            Some(_) = doors.join_next() => Err(StartError::DoorClosed),
        };
        tracing::info!(reason = end.as_ref().unwrap_or(&"a door has closed by itself"), "draining");
        health.draining();
        stop.send_replace(true);
        drain(doors, workers).await;
        follower.abort();
        drop(broker);
        end.map(drop)
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Port { key, address, source })
}

fn start_broker(config: &Config) -> Result<Option<Embedded>, StartError> {
    let Some(Broker::Embedded(address)) = config.mqtt.as_ref().map(|mqtt| &mqtt.broker) else {
        return Ok(None);
    };
    match Embedded::start(*address) {
        Ok(broker) => Ok(Some(broker)),
        Err(EmbeddedError::Bind { listen, source }) => {
            Err(StartError::Port { key: "mqtt.embedded.listen", address: listen, source })
        }
        Err(EmbeddedError::Thread(error)) => Err(StartError::System(error)),
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        threads: config.threads,
        grpc_places: config.admission.places,
        mqtt_places: config.mqtt.as_ref().map_or(1, mqtt::places),
        max_batch: config.admission.max_batch,
        queue_wait: config.admission.queue_wait,
        batch_wait: config.admission.batch_wait,
    }
}

/// Resolves to the first signal's name. The second ends the process at once: a handler, once registered, takes the
/// place of the default action for good.
fn signals() -> Result<oneshot::Receiver<&'static str>, StartError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (first, asked) = oneshot::channel();
    tokio::spawn(async move {
        let mut first = Some(first);
        loop {
            let (name, number) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", SignalKind::terminate()),
                _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt()),
            };
            match first.take() {
                // Fails only when the daemon is ending anyway.
                Some(first) => drop(first.send(name)),
                None => std::process::exit(128 + number.as_raw_value()),
            }
        }
    });
    Ok(asked)
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone: that is a stop as well.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

fn log_failure<T, E: std::fmt::Display>(door: &str, result: Result<T, E>) {
    if let Err(error) = result {
        tracing::error!(door, %error, "a door has failed");
    }
}

/// The doors first: they still hand in what the broker or a stream has given them.
async fn drain(mut doors: JoinSet<()>, workers: Workers) {
    let drained = async {
        while doors.join_next().await.is_some() {}
        tokio::task::spawn_blocking(|| workers.drain()).await
    };
    match tokio::time::timeout(DRAIN, drained).await {
        Ok(_) => tracing::info!("drained"),
        Err(_) => tracing::warn!(
            "broke off what was not answered in time; the broker delivers its utterances again"
        ),
    }
}
