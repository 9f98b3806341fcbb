//! `intentd demo`: the whole daemon on its defaults, asked some twenty things through both doors, and one of everything
//! else that its bundles can do.

mod beside;
mod device;
mod utterances;

use std::io::Write as _;
use std::pin::pin;
use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::Table;
use tokio::sync::oneshot;

use self::beside::Shown;
use self::device::Device;
use super::client::{Client, Server};
use super::{Failure, Settings, answer, bundle, screen};
use crate::config::{Broker, Config, Mqtt, Sources};
use crate::model::Models;
use crate::proto::{ParseRequest, ParseResponse};
use crate::{App, mqtt};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// End after the table instead of staying up.
    #[arg(long)]
    once: bool,
}

/// One utterance as it was asked and answered.
struct Played {
    door: &'static str,
    text: &'static str,
    answer: ParseResponse,
    /// From asking to the answer, as the device or client saw it.
    round_trip: Duration,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let sources = Sources::from(arguments.settings);
    let mut config = Config::load(&sources)?;
    beside::load_neighbour(&mut config.model);
    if is_locked(&config) {
        return Err(Failure::config(
            "the demo asks in plain text and without a token; leave grpc.tls, grpc.tokens_file and mqtts:// out",
        ));
    }
    bundle::start_quiet_logging(&config.log, sources.flags.iter().any(|(key, _)| key == "log.level"));
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(demonstrate(config, arguments.once))
}

fn is_locked(config: &Config) -> bool {
    let broker = config.mqtt.as_ref().map(|mqtt| &mqtt.broker);
    let secure_broker = matches!(broker, Some(Broker::Remote { tls: Some(_), .. }));
    config.grpc.tls.is_some() || config.grpc.tokens_file.is_some() || secure_broker
}

async fn demonstrate(config: Config, once: bool) -> Result<(), Failure> {
    let app = App::build(config.clone()).await?;
    let models = app.inference().models().clone();
    let names =
        models.all().iter().map(|engine| format!("{} {}", engine.model().name, engine.model().version));
    introduce(&format!("{}, kernel {}", names.collect::<Vec<_>>().join(" and "), models.own().kernel()))?;

    let (end, ended) = oneshot::channel::<()>();
    let signals = crate::signals()?;
    let mut daemon = pin!(app.run_until(async move {
        tokio::select! {
            _ = ended => "the end of the demo",
            Ok(signal) = signals => signal,
        }
    }));
    let played = tokio::select! {
        stopped = &mut daemon => return Ok(stopped?),
        played = play(&config, &models) => played,
    };
    let shown = played.and_then(|(played, others)| show(&played, &others, &config, once));
    if once || shown.is_err() {
        // Received by the daemon above, which is still there.
        let _ = end.send(());
        daemon.await?;
        return shown;
    }
    Ok(daemon.await?)
}

fn introduce(bundle: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "intentd {} with {bundle}", env!("CARGO_PKG_VERSION"))?;
    out.flush()
}

/// Every utterance in turn, the doors alternating; with MQTT off all through gRPC. Then the rest through gRPC.
async fn play(config: &Config, models: &Models) -> Result<(Vec<Played>, Vec<Shown>), Failure> {
    let uri = format!("http://{}", config.grpc.listen);
    let mut client = Server::open(&uri).connect().await?;
    let mut device = match &config.mqtt {
        Some(mqtt) => Some(Device::connect(mqtt, &mqtt::status_topic(&config.gateway)).await?),
        None => None,
    };
    let mut played = Vec::new();
    for (i, text) in utterances::UTTERANCES.into_iter().enumerate() {
        let began = Instant::now();
        let (door, answer) = match &mut device {
            Some(device) if i % 2 == 0 => ("MQTT", device.ask(&format!("demo-{i}"), text).await?),
            _ => ("gRPC", ask(&mut client, &uri, text).await?),
        };
        played.push(Played { door, text, answer, round_trip: began.elapsed() });
    }
    if let Some(device) = device {
        device.disconnect().await;
    }
    let others = beside::ask(&mut client, models).await.map_err(|status| Failure::status(&uri, &status))?;
    Ok((played, others))
}

async fn ask(client: &mut Client, uri: &str, text: &str) -> Result<ParseResponse, Failure> {
    let request = ParseRequest { text: text.to_owned(), ..ParseRequest::default() };
    let answered = client.parse(request).await;
    Ok(answered.map_err(|status| Failure::status(uri, &status))?.into_inner())
}

fn show(played: &[Played], others: &[Shown], config: &Config, once: bool) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", table(played))?;
    writeln!(
        out,
        "✓ RECOGNIZED: act on it. ? UNCERTAIN: ask back. ✗ NOT_RECOGNIZED: don't act (best guess in brackets)."
    )?;
    writeln!(
        out,
        "Time is the daemon's own; the round trip is what the asker saw, with MQTT twice through the broker."
    )?;
    if !others.is_empty() {
        writeln!(out, "\nBeside intents, each from one pass through the model:\n{}", beside::table(others))?;
    }
    if !once {
        invite(&mut out, config)?;
    }
    out.flush()?;
    Ok(())
}

fn table(played: &[Played]) -> Table {
    let mut table =
        screen::table(&["door", "utterance", "outcome", "intent", "sure", "slots", "time", "round trip"]);
    let wide = screen::is_wide(&table);
    if !wide {
        table.set_header(["door", "utterance", "", "intent", "sure", "slots", "time", "round trip"]);
        screen::squeeze(&mut table);
    }
    for Played { door, text, answer, round_trip } in played {
        let (intent, confidence) = answer::best(answer).unwrap_or(("", 0.0));
        let intent = if answer.intent.is_none() { format!("({intent}?)") } else { intent.to_owned() };
        let slots: Vec<String> = answer.slots.iter().map(answer::slot).collect();
        let time = answer.timing.as_ref().map(|spent| screen::micros(spent.total_us.into()));
        table.add_row([
            (*door).into(),
            (*text).into(),
            screen::outcome(answer::outcome(answer), wide),
            intent.into(),
            screen::number(format!("{:.0} %", confidence * 100.0)),
            slots.join("\n").into(),
            screen::number(time.unwrap_or_default()),
            screen::number(screen::micros(round_trip.as_secs_f64() * 1e6)),
        ]);
    }
    table
}

/// Where it listens and how to talk to it.
fn invite(out: &mut impl std::io::Write, config: &Config) -> std::io::Result<()> {
    let grpc = config.grpc.listen;
    let program = std::env::args().next().unwrap_or_else(|| "intentd".to_owned());
    writeln!(out, "\nUp until Ctrl-C. Try it yourself from another terminal:")?;
    writeln!(out, "  gRPC on {grpc}, with reflection")?;
    writeln!(out, "    {program} parse --server http://{grpc} \"turn on the kitchen lights\"")?;
    writeln!(
        out,
        "    grpcurl -plaintext -d '{{\"text\": \"wake me at seven\"}}' {grpc} intentd.v1.Nlu/Parse"
    )?;
    writeln!(out, "    python3, with grpcio-reflection: the README has the few lines")?;
    if let Some(mqtt) = &config.mqtt {
        invite_device(out, mqtt)?;
    }
    if let Some(http) = config.http {
        writeln!(out, "  Metrics and health on http://{http}/metrics, /readyz, /healthz")?;
    }
    Ok(())
}

fn invite_device(out: &mut impl std::io::Write, mqtt: &Mqtt) -> std::io::Result<()> {
    let (host, port) = device::address(&mqtt.broker);
    let (utterances, intents) = device::topics(mqtt);
    writeln!(out, "  MQTT on {host}:{port}")?;
    writeln!(out, "    mosquitto_sub -h {host} -p {port} -t {intents} &")?;
    let payload = device::payload(mqtt, "1", "set an alarm for half past six");
    writeln!(out, "    mosquitto_pub -h {host} -p {port} -q 1 -t {utterances} -m '{payload}'")?;
    if matches!(mqtt.broker, Broker::Embedded(_)) {
        writeln!(
            out,
            "    This broker is embedded, for trying out: MQTT 3.1.1, no authentication, and it promises nothing across a\n    \
             crash or restart. For the delivery promise set mqtt.broker = \"mqtt://HOST:PORT\"."
        )?;
    }
    Ok(())
}
