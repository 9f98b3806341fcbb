//! Logs and metrics: the one place that sets up tracing, and the one list of what is counted.

use std::io::IsTerminal as _;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat};
use crate::model::Models;

/// Starts logging to standard error or the journal. A second call in one process has no effect.
pub fn start_logging(log: &Log) {
    // The embedded broker's own lines are noise, an error at each goodbye among them: `mqtt::embedded` tells what matters.
    let directives = format!("rumqttd=off,{}", log.level);
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let started = match effective_format(log.format) {
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(journal) => registry.with(journal).try_init(),
            Err(_) => registry.with(json_layer()).try_init(),
        },
        LogFormat::Json => registry.with(json_layer()).try_init(),
        LogFormat::Auto | LogFormat::Pretty => {
            let ansi = std::io::stderr().is_terminal();
            let pretty = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
            registry.with(pretty.with_target(false)).try_init()
        }
    };
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
}

fn json_layer<S>() -> impl tracing_subscriber::Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)
}

fn effective_format(format: LogFormat) -> LogFormat {
    match format {
        LogFormat::Auto if std::io::stderr().is_terminal() => LogFormat::Pretty,
        // systemd sets JOURNAL_STREAM for a service whose standard error goes to the journal (systemd.exec(5)).
        LogFormat::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => LogFormat::Journald,
        LogFormat::Auto => LogFormat::Json,
        chosen => chosen,
    }
}

/// One label, such as `door="mqtt"`.
pub type Label = [(&'static str, &'static str); 1];
/// Two labels, such as `method="Parse", code="OK"`.
pub type Labels = [(&'static str, &'static str); 2];

/// Everything that is counted. Names follow the Prometheus conventions; times are in seconds.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// `intentd_utterances_total{door, outcome}`: answered utterances and questions; outcome is that of the answer,
    /// `ANSWERABLE` or `NOT_ANSWERABLE` of a question's, or `error`.
    pub utterances: Family<Labels, Counter>,
    /// `intentd_refused_total{door, reason}`: utterances turned away before inference.
    pub refused: Family<Labels, Counter>,
    /// `intentd_inference_seconds`: tokenising to decoding of one utterance.
    pub inference: Histogram,
    /// `intentd_queue_seconds`: waiting for a worker thread.
    pub queue: Histogram,
    /// `intentd_batch_size`: utterances in one batch.
    pub batch_size: Histogram,
    /// `intentd_queue_depth`: utterances that wait now.
    pub queue_depth: Gauge,
    /// `intentd_model_fallback`: 1 while a fallback serves, since its bundle was refused.
    pub model_fallback: Gauge,
    /// `intentd_grpc_requests_total{method, code}`: finished calls by gRPC status code.
    pub grpc_requests: Family<Labels, Counter>,
    /// `intentd_grpc_denied_total{reason}`: connections and calls turned away for their certificate or token, and
    /// connections cut off for their number, silence, not reading or floods.
    pub grpc_denied: Family<Label, Counter>,
    /// `intentd_grpc_connections`: open connections.
    pub grpc_connections: Gauge,
    /// `intentd_grpc_streams`: open ParseStream, EmbedStream and Watch calls.
    pub grpc_streams: Gauge,
    /// `intentd_mqtt_connected`: 1 while subscribed at the broker.
    pub mqtt_connected: Gauge,
    /// `intentd_mqtt_connections_total`: connections made to the broker.
    pub mqtt_connections: Counter,
    /// `intentd_mqtt_in_flight`: utterances received and not yet acknowledged.
    pub mqtt_in_flight: Gauge,
    /// `intentd_mqtt_events_total{event}`: what happened to messages: received, duplicate, retained, qos0,
    /// unrouted, published, republished, refused, acknowledged, response_topic_ignored, ...
    pub mqtt_events: Family<Label, Counter>,
    /// `intentd_mqtt_dead_letters_total{reason}`.
    pub mqtt_dead_letters: Family<Label, Counter>,
}

impl Metrics {
    /// Creates the list and its registry.
    pub fn new() -> (Self, Registry) {
        let metrics = Self {
            utterances: Family::default(),
            refused: Family::default(),
            inference: Histogram::new(exponential_buckets(0.000_25, 2.0, 12)),
            queue: Histogram::new(exponential_buckets(0.000_1, 4.0, 10)),
            batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            queue_depth: Gauge::default(),
            model_fallback: Gauge::default(),
            grpc_requests: Family::default(),
            grpc_denied: Family::default(),
            grpc_connections: Gauge::default(),
            grpc_streams: Gauge::default(),
            mqtt_connected: Gauge::default(),
            mqtt_connections: Counter::default(),
            mqtt_in_flight: Gauge::default(),
            mqtt_events: Family::default(),
            mqtt_dead_letters: Family::default(),
        };
        let registry = metrics.register();
        (metrics, registry)
    }

    fn register(&self) -> Registry {
        let mut r = Registry::with_prefix("intentd");
        r.register("utterances", "Answered utterances by door and outcome", self.utterances.clone());
        r.register("refused", "Utterances turned away before inference", self.refused.clone());
        let (inference, queue) = (self.inference.clone(), self.queue.clone());
        r.register_with_unit(
            "inference",
            "Tokenising to decoding of one utterance",
            Unit::Seconds,
            inference,
        );
        r.register_with_unit("queue", "Waiting for a worker thread", Unit::Seconds, queue);
        r.register("batch_size", "Utterances in one batch", self.batch_size.clone());
        r.register("queue_depth", "Utterances that wait now", self.queue_depth.clone());
        r.register(
            "model_fallback",
            "1 while a fallback serves in place of its bundle",
            self.model_fallback.clone(),
        );
        r.register("grpc_requests", "Finished gRPC calls by method and status", self.grpc_requests.clone());
        let denied = self.grpc_denied.clone();
        r.register("grpc_denied", "Connections and calls turned away by reason", denied);
        r.register("grpc_connections", "Open gRPC connections", self.grpc_connections.clone());
        r.register(
            "grpc_streams",
            "Open ParseStream, EmbedStream and Watch calls",
            self.grpc_streams.clone(),
        );
        r.register("mqtt_connected", "1 while subscribed at the broker", self.mqtt_connected.clone());
        r.register("mqtt_connections", "Connections made to the broker", self.mqtt_connections.clone());
        r.register("mqtt_in_flight", "Utterances not yet acknowledged", self.mqtt_in_flight.clone());
        r.register("mqtt_events", "What happened to MQTT messages", self.mqtt_events.clone());
        r.register("mqtt_dead_letters", "Dead letters by reason", self.mqtt_dead_letters.clone());
        r
    }
}

/// Registers what never changes: version, revision, bundles and kernel.
pub fn register_build(registry: &mut Registry, models: &Models) {
    let bundles = models.all().iter().map(|engine| engine.model());
    let bundles: Vec<String> = bundles.map(|model| format!("{} {}", model.name, model.version)).collect();
    let labels = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("revision", crate::REVISION.to_owned()),
        ("bundle", bundles.join(", ")),
        ("kernel", models.own().kernel().to_owned()),
    ];
    registry.register("build", "Version, bundles and kernel of this daemon", Info::new(labels));
}
