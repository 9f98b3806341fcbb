//! Settings: one tree from defaults, file, environment and flags, made into a typed [`Config`].
//!
//! The shipped `config/intentd.toml` is compiled in as the defaults, so the keys, their defaults and their
//! documentation stand in one place. All mistakes are found in one go, each by its key. The only user of the
//! `config` crate.

mod check;
mod model;
mod read;
mod routes;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use config::{Environment, File, FileFormat};
use intentd_core::Task;
use intentd_core::topic::Route as Topics;

use crate::tls::{ClientFiles, ServerFiles};
use read::Reader;

pub use model::{Bundle, Model};

/// Every key with its default: the shipped file.
pub const DEFAULTS: &str = include_str!("../../config/intentd.toml");

/// Read when no `--config` is given and it exists.
pub const SYSTEM_FILE: &str = "/etc/intentd/intentd.toml";

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this daemon at the broker.
    pub gateway: String,
    /// The gRPC door.
    pub grpc: Grpc,
    /// The MQTT door; none when switched off.
    pub mqtt: Option<Mqtt>,
    /// The bundles.
    pub model: Model,
    /// Worker threads, at least one.
    pub threads: usize,
    /// Who may wait, and for how long.
    pub admission: Admission,
    /// Metrics and health; none when switched off.
    pub http: Option<SocketAddr>,
    /// Logs.
    pub log: Log,
}

/// The gRPC door.
#[derive(Clone, Debug)]
pub struct Grpc {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Connections at a time.
    pub max_connections: usize,
    /// Of them, from one address.
    pub max_connections_per_address: usize,
    /// Streams at a time on one connection.
    pub max_streams: u32,
    /// Certificates; none: plain text.
    pub tls: Option<ServerFiles>,
    /// Who may call what; none: everybody everything.
    pub tokens_file: Option<PathBuf>,
}

/// The MQTT door.
#[derive(Clone, Debug)]
pub struct Mqtt {
    /// Which broker.
    pub broker: Broker,
    /// Version of MQTT.
    pub protocol: Protocol,
    /// Client id, never empty.
    pub client_id: String,
    /// User name at the broker.
    pub username: Option<String>,
    /// File with the password at the broker, read for each connection.
    pub password_file: Option<PathBuf>,
    /// How long the broker keeps the session.
    pub session_expiry: Duration,
    /// Utterances that the broker may hand over before the first is acknowledged.
    pub receive_maximum: u16,
    /// Silence after which the connection counts as dead.
    pub keep_alive: Duration,
    /// Whether it is tried out that the broker delivers what it has granted (MQTT 5).
    pub probe: bool,
    /// Where Response Topics may lie.
    pub response_prefixes: Vec<String>,
    /// What is listened to, at least one.
    pub routes: Vec<Route>,
}

/// Which broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broker {
    /// Inside this process, listening here.
    Embedded(SocketAddr),
    /// Elsewhere.
    Remote {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// Certificates; none: plain text.
        tls: Option<ClientFiles>,
    },
}

impl Broker {
    /// Whether what is said to it can be heard on the network.
    pub fn is_overheard(&self) -> bool {
        match self {
            Self::Remote { host, tls: None, .. } => {
                let address = host.parse::<IpAddr>();
                host != "localhost" && !address.is_ok_and(|address| address.is_loopback())
            }
            Self::Embedded(_) | Self::Remote { .. } => false,
        }
    }
}

/// Version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// One route: where utterances come from and where their intents go.
#[derive(Clone, Debug)]
pub struct Route {
    /// Subscription and publication.
    pub topics: Topics,
    /// Form of the payload.
    pub codec: Codec,
    /// Quality of service, 0 or 1.
    pub qos: u8,
    /// Group of a shared subscription.
    pub share: Option<String>,
    /// Older utterances become dead letters.
    pub max_age: Option<Duration>,
    /// Name of the bundle; empty: the daemon's own.
    pub bundle: String,
    /// What is asked about its utterances; none: intent and slots.
    pub tasks: Vec<Task>,
}

/// Form of an utterance's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// A JSON object.
    Json,
    /// The text itself.
    Text,
}

/// Who may wait, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// gRPC utterances that may wait.
    pub places: usize,
    /// Longest wait of a gRPC utterance.
    pub queue_wait: Duration,
    /// How long a batch may wait to grow.
    pub batch_wait: Duration,
    /// Utterances in one batch.
    pub max_batch: usize,
}

/// Logs.
#[derive(Clone, Debug)]
pub struct Log {
    /// Their form.
    pub format: LogFormat,
    /// A level or directives of tracing-subscriber.
    pub level: String,
}

/// Form of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// By where standard error goes.
    Auto,
    /// To systemd's journal, with fields.
    Journald,
    /// A JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key, such as `mqtt.keep_alive`.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Mistake {
    /// Both parts.
    pub fn new(key: &str, message: impl Into<String>) -> Self {
        Self { key: key.to_owned(), message: message.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for Mistake {}

/// All that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} mistake(s)", self.0.len())?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for Mistakes {}

/// Where settings come from, beside the defaults and the environment.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// `--set KEY=VALUE`, in order.
    pub flags: Vec<(String, String)>,
}

impl Config {
    /// Reads and checks all sources.
    pub fn load(sources: &Sources) -> Result<Self, Mistakes> {
        let mut read = Reader::new(merged(sources)?, defaults()?);
        let config = Self::read(&mut read);
        check::contradictions(&config, &mut read);
        read.finish(config)
    }

    fn read(read: &mut Reader) -> Self {
        let gateway = read.gateway("gateway");
        Self {
            grpc: Grpc {
                listen: read.address("grpc.listen"),
                max_connections: read.whole("grpc.max_connections", 1, 4096),
                max_connections_per_address: read.whole("grpc.max_connections_per_address", 1, 4096),
                max_streams: read.whole("grpc.max_streams", 1, 1024),
                tls: read.server_files("grpc.tls"),
                tokens_file: read.path("grpc.tokens_file"),
            },
            mqtt: Mqtt::read(read, &gateway),
            model: Model::read(read),
            threads: threads(read.whole("engine.threads", 0, 64)),
            admission: Admission {
                places: read.whole("admission.places", 1, 65_536),
                queue_wait: read.duration("admission.queue_wait", "1ms", "1min"),
                batch_wait: read.duration("admission.batch_wait", "0s", "1s"),
                max_batch: read.whole("admission.max_batch", 1, 64),
            },
            http: read.http("http.listen", "http.allow_remote"),
            log: Log {
                format: read.choice(
                    "log.format",
                    &[
                        ("auto", LogFormat::Auto),
                        ("journald", LogFormat::Journald),
                        ("json", LogFormat::Json),
                        ("pretty", LogFormat::Pretty),
                    ],
                ),
                level: read.log_level("log.level"),
            },
            gateway,
        }
    }
}

impl Mqtt {
    fn read(read: &mut Reader, gateway: &str) -> Option<Self> {
        let embedded = read.address("mqtt.embedded.listen");
        let tls = read.client_files("mqtt.tls");
        let broker = read.broker("mqtt.broker", embedded, tls);
        let protocol = read.choice("mqtt.protocol", &[("5", Protocol::V5), ("3.1.1", Protocol::V311)]);
        // Read even when MQTT is off, so that mistakes don't wait for the day it is switched on.
        let mqtt = Self {
            protocol: if matches!(broker, Some(Broker::Embedded(_))) { Protocol::V311 } else { protocol },
            broker: broker.clone().unwrap_or(Broker::Embedded(embedded)),
            client_id: read.optional("mqtt.client_id").unwrap_or_else(|| format!("intentd-{gateway}")),
            username: read.optional("mqtt.username"),
            password_file: read.secret("mqtt.password_file"),
            session_expiry: read.duration("mqtt.session_expiry", "0s", "49d"),
            receive_maximum: read.whole("mqtt.receive_maximum", 1, 1024),
            keep_alive: read.duration("mqtt.keep_alive", "5s", "10min"),
            probe: read.choice("mqtt.probe", &[("false", false), ("true", true)]),
            response_prefixes: read.list("mqtt.response_prefixes"),
            routes: read.routes("mqtt.routes"),
        };
        broker.map(|_| mqtt)
    }
}

/// The merged tree as TOML, for `config show`. It holds no secret: those stand in files of their own. A password that
/// was put into the broker's address by mistake is not shown either.
pub fn show(sources: &Sources) -> Result<String, Mistakes> {
    let mut tree = merged(sources)?;
    if let Some(serde_json::Value::String(broker)) = tree.pointer_mut("/mqtt/broker") {
        *broker = read::without_login(broker);
    }
    toml::to_string(&tree).map_err(|error| whole(&error))
}

fn merged(sources: &Sources) -> Result<serde_json::Value, Mistakes> {
    let mut builder = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
    if let Some(file) = file(sources)? {
        builder = builder.add_source(File::from(file).format(FileFormat::Toml));
    }
    let environment = Environment::with_prefix("INTENTD").prefix_separator("__").separator("__");
    builder = builder.add_source(environment);
    for (key, value) in &sources.flags {
        builder = builder.set_override(key, value.as_str()).map_err(|error| one(key, &error.to_string()))?;
    }
    let tree = builder.build().and_then(config::Config::try_deserialize).map_err(|error| whole(&error))?;
    Ok(tree)
}

fn file(sources: &Sources) -> Result<Option<PathBuf>, Mistakes> {
    match &sources.file {
        Some(path) if path.is_file() => Ok(Some(path.clone())),
        Some(path) => Err(one("--config", &format!("{} is not a file", path.display()))),
        None => Ok(Some(PathBuf::from(SYSTEM_FILE)).filter(|path| path.is_file())),
    }
}

fn defaults() -> Result<serde_json::Value, Mistakes> {
    let builder = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
    builder.build().and_then(config::Config::try_deserialize).map_err(|error| whole(&error))
}

fn threads(set: usize) -> usize {
    match set {
        0 => std::thread::available_parallelism().map_or(1, |n| n.get().min(4)),
        n => n,
    }
}

fn one(key: &str, message: &str) -> Mistakes {
    Mistakes(vec![Mistake::new(key, message)])
}

fn whole(error: &dyn fmt::Display) -> Mistakes {
    one("configuration", &error.to_string())
}

#[cfg(test)]
mod tests;
