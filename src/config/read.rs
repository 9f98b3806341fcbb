//! Typed access to the tree of settings; every mistake is noted under its key and reading goes on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;
use tracing_subscriber::EnvFilter;

use super::{Broker, Mistake, Mistakes};
use crate::credentials::Secret;
use crate::tls::{ClientFiles, ServerFiles};

/// Default ports of MQTT and of MQTT over TLS (IANA).
const MQTT_PORT: u16 = 1883;
const MQTTS_PORT: u16 = 8883;

/// Scheme of a broker that is reached by TLS.
const MQTTS: &str = "mqtts://";

/// Reads settings and collects what is wrong with them.
pub(super) struct Reader {
    tree: Value,
    defaults: Value,
    mistakes: Vec<Mistake>,
}

impl Reader {
    /// Notes every key that the defaults don't have.
    pub(super) fn new(tree: Value, defaults: Value) -> Self {
        let mut reader = Self { tree, defaults, mistakes: Vec::new() };
        let mut unknown = Vec::new();
        find_unknown(&reader.tree, &reader.defaults, "", &mut unknown);
        reader.mistakes.extend(unknown);
        reader
    }

    /// The configuration, if nothing was wrong.
    pub(super) fn finish<T>(self, config: T) -> Result<T, Mistakes> {
        if self.mistakes.is_empty() { Ok(config) } else { Err(Mistakes(self.mistakes)) }
    }

    /// Notes a mistake.
    pub(super) fn mistake(&mut self, key: &str, message: impl Into<String>) {
        self.mistakes.push(Mistake::new(key, message));
    }

    pub(super) fn optional(&mut self, key: &str) -> Option<String> {
        Some(self.text(key)).filter(|text| !text.is_empty())
    }

    pub(super) fn whole<T: TryFrom<u64>>(&mut self, key: &str, least: u64, most: u64) -> T {
        let expected = format!("a whole number from {least} to {most}");
        let number = self.parse(key, &expected, |text| {
            u64::from_str(text).ok().filter(|n| (least..=most).contains(n)).and_then(|n| T::try_from(n).ok())
        });
        // The limits of every key fit its type, and so do its defaults.
        number.or_else(|| T::try_from(least).ok()).expect("the least value fits its type")
    }

    /// A probability; none when empty.
    pub(super) fn probability(&mut self, key: &str) -> Option<f32> {
        let legal = |text: &str| f32::from_str(text).ok().filter(|p| (0.0..=1.0).contains(p));
        self.parse(key, "a number from 0 to 1, or empty for the bundle's own", |text| match text {
            "" => Some(None),
            text => legal(text).map(Some),
        })
        .flatten()
    }

    /// A value that its own type knows to read; none when empty.
    pub(super) fn parsed<T: FromStr>(&mut self, key: &str, expected: &str) -> Option<T> {
        self.parse(key, expected, |text| match text {
            "" => Some(None),
            text => text.parse().ok().map(Some),
        })
        .flatten()
    }

    /// A list of such values.
    pub(super) fn each<T: FromStr>(&mut self, key: &str, expected: &str) -> Vec<T> {
        let mut values = Vec::new();
        for item in self.list(key) {
            match item.parse() {
                Ok(value) => values.push(value),
                Err(_) => self.mistake(key, format!("\"{item}\" is not {expected}")),
            }
        }
        values
    }

    pub(super) fn duration(&mut self, key: &str, least: &str, most: &str) -> Duration {
        let limit = |text: &str| humantime::parse_duration(text).unwrap_or_default();
        let (low, high) = (limit(least), limit(most));
        let expected = format!("a duration from {least} to {most}, such as \"250ms\", \"10s\" or \"24h\"");
        let parsed = self.parse(key, &expected, |text| {
            humantime::parse_duration(text).ok().filter(|d| (low..=high).contains(d))
        });
        parsed.unwrap_or(low)
    }

    pub(super) fn address(&mut self, key: &str) -> SocketAddr {
        let expected = "an address with a port, such as \"127.0.0.1:50051\" or \"[::1]:50051\"";
        self.parse(key, expected, |text| text.parse().ok())
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// None when switched off. Its pages know neither encryption nor authentication, so it is asked for twice that
    /// other hosts may read them.
    pub(super) fn http(&mut self, key: &str, allow_remote: &str) -> Option<SocketAddr> {
        let remote = self.choice(allow_remote, &[("false", false), ("true", true)]);
        let address = (self.text(key) != "off").then(|| self.address(key))?;
        if !remote && !address.ip().is_loopback() {
            let message = format!(
                "{address} can be reached from other hosts, and metrics and health are neither encrypted nor \
                 protected; listen on 127.0.0.1 or [::1], or set {allow_remote} = true"
            );
            self.mistake(key, message);
        }
        Some(address)
    }

    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.optional(key).map(PathBuf::from)
    }

    /// None where the door speaks plain text.
    pub(super) fn server_files(&mut self, section: &str) -> Option<ServerFiles> {
        let identity = self.identity(section);
        let (name, client_ca) = self.named_path(section, "client_ca");
        if identity.is_none() && client_ca.is_some() {
            self.mistake(
                &name,
                format!("asks for client certificates, which needs {section}.cert and {section}.key"),
            );
        }
        identity.map(|(cert, key)| ServerFiles { cert, key, client_ca })
    }

    pub(super) fn client_files(&mut self, section: &str) -> ClientFiles {
        let identity = self.identity(section);
        let (_, ca) = self.named_path(section, "ca");
        ClientFiles { ca, identity, alpn: self.list(&format!("{section}.alpn")) }
    }

    /// Certificate and key: both or none.
    fn identity(&mut self, section: &str) -> Option<(PathBuf, PathBuf)> {
        match (self.named_path(section, "cert"), self.named_path(section, "key")) {
            ((_, Some(cert)), (_, Some(key))) => Some((cert, key)),
            ((set, Some(_)), (missing, None)) | ((missing, None), (set, Some(_))) => {
                self.mistake(
                    &missing,
                    format!("is empty, and {set} is set; a certificate and its key go together"),
                );
                None
            }
            ((_, None), (_, None)) => None,
        }
    }

    fn named_path(&mut self, section: &str, key: &str) -> (String, Option<PathBuf>) {
        let name = format!("{section}.{key}");
        let path = self.path(&name);
        (name, path)
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> T {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let expected = format!("one of {}", names.join(", "));
        let find = |text: &str| choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        self.parse(key, &expected, find).unwrap_or(choices[0].1)
    }

    pub(super) fn list(&mut self, key: &str) -> Vec<String> {
        match self.value(key) {
            Value::Array(items) if items.iter().all(Value::is_string) => {
                items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            // From the environment or a flag: separated by commas.
            Value::String(text) => {
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
            }
            other => {
                self.mistake(key, format!("{other} is not a list of strings"));
                Vec::new()
            }
        }
    }

    pub(super) fn gateway(&mut self, key: &str) -> String {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        match self.optional(key) {
            Some(name) => {
                if name.len() > 64 || !name.chars().all(legal) {
                    self.mistake(key, format!("\"{name}\" is not 1 to 64 of [A-Za-z0-9_-]"));
                }
                name
            }
            None => {
                let host = gethostname::gethostname().to_string_lossy().into_owned();
                let name: String = host.chars().map(|c| if legal(c) { c } else { '-' }).take(64).collect();
                if name.is_empty() { "gateway".to_owned() } else { name }
            }
        }
    }

    pub(super) fn log_level(&mut self, key: &str) -> String {
        let expected =
            "a level (error, warn, info, debug, trace) or directives such as \"info,intentd::mqtt=debug\"";
        let parsed = self.parse(key, expected, |text| EnvFilter::try_new(text).ok().map(|_| text.to_owned()));
        parsed.unwrap_or_default()
    }

    /// The file of a secret, which can be read now. Whoever uses the secret reads it again.
    pub(super) fn secret(&mut self, key: &str) -> Option<PathBuf> {
        let path = self.path(key)?;
        if let Err(message) = Secret::read(&path) {
            self.mistake(key, message);
        }
        Some(path)
    }

    /// None when switched off.
    pub(super) fn broker(&mut self, key: &str, embedded: SocketAddr, tls: ClientFiles) -> Option<Broker> {
        let text = self.text(key);
        // The password must not end up in the message.
        if without_login(&text) != text {
            self.mistake(key, "names a user; set mqtt.username and mqtt.password_file instead");
            return None;
        }
        if !text.starts_with(MQTTS) && tls != ClientFiles::default() {
            self.mistake(
                "mqtt.tls",
                format!("is set, but {key} is not \"{MQTTS}HOST[:PORT]\": nothing is encrypted"),
            );
        }
        let expected = "\"embedded\", \"off\", \"mqtt://HOST[:PORT]\" or \"mqtts://HOST[:PORT]\"";
        self.parse(key, expected, |text| match text {
            "embedded" => Some(Some(Broker::Embedded(embedded))),
            "off" => Some(None),
            url => match url.strip_prefix(MQTTS) {
                Some(authority) => remote(authority, MQTTS_PORT, Some(tls)).map(Some),
                None => remote(url.strip_prefix("mqtt://")?, MQTT_PORT, None).map(Some),
            },
        })
        .flatten()
    }

    /// Strings as they are, other scalars as they are written; the environment knows only strings.
    pub(super) fn text(&mut self, key: &str) -> String {
        match self.value(key) {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            other => {
                self.mistake(key, format!("{other} is not a single value"));
                String::new()
            }
        }
    }

    fn parse<T>(&mut self, key: &str, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(key);
        let parsed = parse(&text);
        if parsed.is_none() {
            self.mistake(key, format!("\"{text}\" is not {expected}"));
        }
        parsed
    }

    /// The value of a key; what a route leaves out comes from the default route.
    pub(super) fn value(&self, key: &str) -> Value {
        let found = lookup(&self.tree, key).or_else(|| lookup(&self.defaults, &default_key(key)));
        found.cloned().unwrap_or(Value::Null)
    }
}

fn lookup<'a>(tree: &'a Value, key: &str) -> Option<&'a Value> {
    let pointer = format!("/{}", key.replace('[', "/").replace(']', "").replace('.', "/"));
    tree.pointer(&pointer)
}

/// `mqtt.routes[3].qos` has its default at `mqtt.routes[0].qos`.
fn default_key(key: &str) -> String {
    match (key.find('['), key.find(']')) {
        (Some(open), Some(close)) => format!("{}[0]{}", &key[..open], &key[close + 1..]),
        _ => key.to_owned(),
    }
}

fn find_unknown(tree: &Value, known: &Value, path: &str, unknown: &mut Vec<Mistake>) {
    match (tree, known) {
        (Value::Object(tree), Value::Object(known)) => {
            for (key, value) in tree {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match known.get(key) {
                    Some(known) => find_unknown(value, known, &path, unknown),
                    None => unknown.push(Mistake { message: unknown_key(key, known.keys()), key: path }),
                }
            }
        }
        (other, Value::Object(_)) => {
            unknown.push(Mistake {
                key: path.to_owned(),
                message: format!("{other} stands where a section is expected"),
            });
        }
        (Value::Array(items), Value::Array(known)) => {
            if let Some(known @ Value::Object(_)) = known.first() {
                for (i, item) in items.iter().enumerate() {
                    find_unknown(item, known, &format!("{path}[{i}]"), unknown);
                }
            }
        }
        _ => {}
    }
}

fn unknown_key<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<&str> = known.map(String::as_str).collect();
    format!("there is no key \"{key}\" here; known: {}", known.join(", "))
}

fn remote(authority: &str, default_port: u16, tls: Option<ClientFiles>) -> Option<Broker> {
    let authority = authority.trim_end_matches('/');
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let legal = !host.is_empty() && !host.contains(['/', '@', ' ']);
    legal.then(|| Broker::Remote { host: host.to_owned(), port, tls })
}

/// A URL without `user:password@`, which should not be there.
pub(super) fn without_login(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://[redacted]@{host}"),
        _ => url.to_owned(),
    }
}
