//! Everything that reads bytes from outside: MQTT payloads, topics and templates, configuration, manifest, tokenizer, gRPC
//! requests. Each reader asserts what must hold whatever it is fed, and returns the outcome's name. cargo-fuzz feeds it by
//! coverage (`fuzz_targets`), `tests/it/fuzz.rs` by outcomes, in every run of the tests.

use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use intentd::config::{Config, Sources};
use intentd::convert;
use intentd::mqtt::codec::{Format, Sender, decode, is_harmless};
use intentd::proto::ParseRequest;
use intentd_core::topic::{Route, filters_overlap, topic_matches_filter, valid_topic_name};
use intentd_core::utterance::MAX_TEXT_BYTES;
use intentd_engine::tokenizer::Tokenizer;
use intentd_engine::{Manifest, TokenTypes};
use prost::Message as _;

/// The project's folder: this file belongs to two packages, one there and one below.
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(|folder| folder.join("models").is_dir()).expect("the project's folder")
}

/// The outcome's name: letters alone, so that numbers and quotations don't make every outcome new.
fn name(outcome: impl std::fmt::Debug) -> String {
    format!("{outcome:?}").chars().filter(char::is_ascii_alphabetic).take(40).collect()
}

/// The payload of a device, by each codec.
pub fn payloads(bytes: &[u8]) -> String {
    let sender = Sender { site: "home", device: "kitchen", id: Some("property") };
    let [json, text] = [Format::Json, Format::Text].map(|format| decode(format, bytes, sender));
    for decoded in [&json, &text] {
        match decoded {
            Ok(decoded) => {
                decoded.utterance.validate().expect("what is decoded is valid");
                assert_eq!(
                    (&*decoded.utterance.context.site, &*decoded.utterance.context.device),
                    ("home", "kitchen")
                );
            }
            Err(bad) => assert!(is_harmless(&bad.id) && !bad.message.is_empty()),
        }
    }
    name((json.map(|_| ()).map_err(|bad| bad.message), text.map(|_| ()).map_err(|bad| bad.reason)))
}

/// Template of the subscription, template of the publication, topic: a line each.
pub fn topics(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (subscribe, publish, topic) = (line(), line(), line());
    let route = match Route::new(subscribe, publish) {
        Ok(route) => route,
        Err(error) => return name(error),
    };
    let matched = route.matches(topic);
    if matched.is_some() {
        assert!(topic_matches_filter(topic, &route.subscription()), "{topic:?}");
    }
    let Some(Ok(captures)) = matched else { return name(matched.map(|m| m.map(|_| ()))) };
    let intent = route.intent_topic(&captures);
    if let Ok(intent) = &intent {
        // Never outside its template, never a wildcard.
        assert!(valid_topic_name(intent), "{intent:?}");
        assert!(filters_overlap(&route.publication(), intent), "{intent:?}");
    }
    name(intent.map(|_| ()))
}

/// A configuration file.
pub fn configurations(bytes: &[u8]) -> String {
    // In memory where there is such a place: flash would wear out. A file of its own for each process.
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
        folder.join(format!("intentd-fuzz-{}.toml", std::process::id()))
    });
    std::fs::write(&*FILE, bytes).expect("the folder can be written");
    let loaded = Config::load(&Sources { file: Some(FILE.clone()), flags: Vec::new() });
    std::fs::remove_file(&*FILE).expect("it was written");
    match loaded {
        Ok(config) => name(config.mqtt.map(|mqtt| mqtt.broker)),
        Err(mistakes) => {
            let told = mistakes.0.iter().all(|m| !m.key.is_empty() && !m.message.is_empty());
            assert!(told, "{mistakes:?}");
            name(mistakes.0.iter().map(|mistake| &mistake.key).collect::<Vec<_>>())
        }
    }
}

/// The manifest of a bundle.
pub fn manifests(bytes: &[u8]) -> String {
    let manifest = Manifest::read(Path::new("manifest.toml"), &String::from_utf8_lossy(bytes));
    if let Ok(manifest) = &manifest {
        for file in &manifest.files {
            let mut parts = Path::new(&file.path).components();
            assert!(parts.all(|part| matches!(part, Component::Normal(_))), "{file:?}");
        }
    }
    name(manifest.map(|_| ()).map_err(|error| error.to_string().replace("manifest.toml", "")))
}

/// The text of an utterance, by the tokenizer of a committed bundle.
pub fn utterances(bytes: &[u8]) -> String {
    static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
        let json = std::fs::read(root().join("models/home-en-tiny/tokenizer.json"));
        let types = TokenTypes { cases: true, passage_offset: 4 };
        Tokenizer::read(&json.expect("the bundle is there"), 128, types).expect("it is a tokenizer")
    });
    let text = String::from_utf8_lossy(bytes);
    let text = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
    let tokens = match TOKENIZER.tokenize(text) {
        Ok(tokens) => tokens,
        Err(error) => {
            assert!(!matches!(error, intentd_core::ParseError::Internal(_)), "{error}");
            return name(error);
        }
    };
    assert!((2..=128).contains(&tokens.ids.len()));
    let mut last = 0;
    for word in &tokens.words {
        assert!(text.get(word.bytes.clone()).is_some() && word.bytes.start >= last, "{word:?}");
        assert!(word.first_piece < tokens.ids.len());
        last = word.bytes.start;
    }
    format!("{} {}", tokens.ids.len(), tokens.words.len())
}

/// A `ParseRequest` as it comes over the wire.
pub fn grpc_requests(bytes: &[u8]) -> String {
    let Ok(request) = ParseRequest::decode(bytes) else { return "no message".to_owned() };
    let checked = convert::utterance(request).and_then(|utterance| utterance.validate().map(|()| utterance));
    match checked {
        Ok(utterance) => format!("{:?} {}", utterance.options.tasks, utterance.context.attributes.len()),
        Err(invalid) => {
            let answer = convert::refusal(String::new(), &invalid.clone().into());
            assert!(serde_json::from_str::<serde_json::Value>(&convert::to_json(&answer)).is_ok());
            assert_eq!(convert::status(&invalid.clone().into()).code(), tonic::Code::InvalidArgument);
            name(invalid)
        }
    }
}
