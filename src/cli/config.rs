//! `intentd config`: what is set, and whether it can be used.

use std::io::Write as _;

use clap::Subcommand;

use super::{Failure, Settings};
use crate::config::{self, Broker, Bundle, Config, Grpc, Sources};
use crate::model::read_names;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Name every mistake in the configuration at once; exit code 78 if there is one.
    Check(Settings),
    /// Print every setting as it stands after defaults, file, environment and flags.
    Show(Settings),
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Check(settings) => check(&settings.into()),
        Command::Show(settings) => show(&settings.into()),
    }
}

fn check(sources: &Sources) -> Result<(), Failure> {
    let config = Config::load(sources)?;
    read_names("model", &config.model.own)?;
    for (i, bundle) in config.model.more.iter().enumerate() {
        read_names(&format!("model.more[{i}]"), bundle)?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "The configuration is good.")?;
    writeln!(out, "  gRPC    {}", grpc(&config.grpc))?;
    match &config.mqtt {
        Some(mqtt) => {
            writeln!(out, "  MQTT    {}", broker(&mqtt.broker))?;
            for route in &mqtt.routes {
                writeln!(out, "          {} -> {}", route.topics.subscription(), route.topics.publication())?;
            }
        }
        None => writeln!(out, "  MQTT    off")?,
    }
    writeln!(out, "  HTTP    {}", config.http.map_or("off".to_owned(), |address| address.to_string()))?;
    for Bundle { folder, fallback, names } in [&config.model.own].into_iter().chain(&config.model.more) {
        writeln!(out, "  bundle  {}", folder.display())?;
        if let Some(fallback) = fallback {
            writeln!(out, "          else {}", fallback.display())?;
        }
        if let Some(names) = names {
            writeln!(out, "          with the names in {}", names.display())?;
        }
    }
    Ok(())
}

fn grpc(grpc: &Grpc) -> String {
    let mut asks = match &grpc.tls {
        None => vec!["plain text"],
        Some(files) if files.client_ca.is_some() => vec!["TLS", "client certificates"],
        Some(_) => vec!["TLS"],
    };
    asks.extend(grpc.tokens_file.as_ref().map(|_| "tokens"));
    format!("{}, {}", grpc.listen, asks.join(", "))
}

fn broker(broker: &Broker) -> String {
    match broker {
        Broker::Embedded(listen) => format!("embedded broker on {listen}"),
        Broker::Remote { host, port, tls } => {
            format!("broker {host}:{port}, {}", if tls.is_some() { "TLS" } else { "plain text" })
        }
    }
}

fn show(sources: &Sources) -> Result<(), Failure> {
    let text = config::show(sources)?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
