//! The readers: MQTT payloads, topics and templates, configuration, manifest, tokenizer, gRPC requests.

use std::path::{Component, Path};

use intentd::config::{Config, DEFAULTS, Sources};
use intentd::convert;
use intentd::mqtt::codec::{Format, Sender, decode, is_harmless};
use intentd::proto::{Context, ParseOptions, ParseRequest};
use intentd_core::topic::{Route, filters_overlap, topic_matches_filter, valid_topic_name};
use intentd_engine::Manifest;
use intentd_engine::tokenizer::Tokenizer;
use prost::Message as _;

use super::fuzz;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/home-en-tiny");

/// The outcome's name: letters alone, so that numbers and quotations don't make every outcome new.
fn name(outcome: impl std::fmt::Debug) -> String {
    format!("{outcome:?}").chars().filter(char::is_ascii_alphabetic).take(40).collect()
}

#[test]
fn payloads() {
    let samples: [&[u8]; 4] = [
        br#"{"id": "7", "text": "licht an", "language": "de", "session": "s", "area": "k\u00fcche", "attributes": {"volume": "3"}, "timestamp": "2026-03-01T08:30:00+01:00"}"#,
        br#"{"text": "on", "id": null, "timestamp": 1772350200000, "more": [1, {"a": [true]}]}"#,
        "schalte das licht in der küche an".as_bytes(),
        b"\n",
    ];
    fuzz("payloads", &samples, |bytes| {
        let sender = Sender { site: "home", device: "kitchen", id: Some("property") };
        let [json, text] = [Format::Json, Format::Text].map(|format| decode(format, bytes, sender));
        for decoded in [&json, &text] {
            match decoded {
                Ok(decoded) => {
                    decoded.utterance.validate().unwrap();
                    assert_eq!(
                        (&*decoded.utterance.context.site, &*decoded.utterance.context.device),
                        ("home", "kitchen")
                    );
                }
                Err(bad) => assert!(is_harmless(&bad.id) && !bad.message.is_empty()),
            }
        }
        name((json.map(|_| ()).map_err(|bad| bad.message), text.map(|_| ()).map_err(|bad| bad.reason)))
    });
}

/// Template of the subscription, template of the publication, topic: a line each.
#[test]
fn topics() {
    let samples: [&[u8]; 4] = [
        b"intentd/{site}/{device}/utterance\nintentd/{site}/{device}/intent\nintentd/home/kitchen/utterance",
        "küche/{device}/gesagt\nküche/{device}/gemeint\nküche/herd.1/gesagt".as_bytes(),
        b"{site}\n{site}/x\n$SYS",
        b"a/{device}/{room}/+\n#\na/b",
    ];
    fuzz("topics", &samples, |bytes| {
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
    });
}

#[test]
fn configurations() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("intentd.toml");
    let bare: String =
        DEFAULTS.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let samples: [&[u8]; 3] = [
        bare.as_bytes(),
        b"gateway = \"g\"\n[mqtt]\nbroker = \"mqtt://[::1]:1884\"\nkeep_alive = \"1h 5s\"\n[model]\ntrusted_keys = [\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"]\nminimum_version = \"0.2\"\n",
        b"[[mqtt.routes]]\nsubscribe = \"a/{device}/x\"\npublish = \"b/{device}\"\ncodec = \"text\"\nqos = 0\nshare = \"g\"\n[log]\nlevel = \"info,intentd::mqtt=debug\"\n",
    ];
    let sources = Sources { file: Some(file.clone()), flags: Vec::new() };
    fuzz("configurations", &samples, |bytes| {
        std::fs::write(&file, bytes).unwrap();
        match Config::load(&sources) {
            Ok(config) => name(config.mqtt.map(|mqtt| mqtt.broker)),
            Err(mistakes) => {
                assert!(
                    mistakes.0.iter().all(|mistake| !mistake.key.is_empty() && !mistake.message.is_empty())
                );
                name(mistakes.0.iter().map(|mistake| &mistake.key).collect::<Vec<_>>())
            }
        }
    });
}

#[test]
fn manifests() {
    let whole = std::fs::read(Path::new(TINY).join("manifest.toml")).unwrap();
    fuzz("manifests", &[&whole, b"schema = 1\n", b"schema = 2\nminimum_intentd = \"9.0\"\n"], |bytes| {
        let manifest = Manifest::read(Path::new("manifest.toml"), &String::from_utf8_lossy(bytes));
        if let Ok(manifest) = &manifest {
            for file in &manifest.files {
                let mut parts = Path::new(&file.path).components();
                assert!(parts.all(|part| matches!(part, Component::Normal(_))), "{file:?}");
            }
        }
        name(manifest.map(|_| ()).map_err(|error| error.to_string().replace("manifest.toml", "")))
    });
}

#[test]
fn utterances() {
    let json = std::fs::read(Path::new(TINY).join("tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::read(&json, 128).unwrap();
    let samples: [&[u8]; 4] = [
        b"wake me up at seven thirty tomorrow",
        "Schalte das Licht in der Küche aus, 调暗灯光 \u{1f469}\u{200d}\u{1f52c}".as_bytes(),
        "e\u{301}\u{301}\u{301} \u{202e}abc\u{ad}\u{feff} \u{0}[CLS] ##s".as_bytes(),
        b"a b c d e f g h i j k l m n o p q r s t u v w x y z",
    ];
    fuzz("utterances", &samples, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let text = &text[..text.floor_char_boundary(intentd_core::utterance::MAX_TEXT_BYTES)];
        let tokens = match tokenizer.tokenize(text) {
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
    });
}

#[test]
fn grpc_requests() {
    let full = ParseRequest {
        id: "1".to_owned(),
        text: "turn on the light".to_owned(),
        context: Some(Context {
            site: "home".to_owned(),
            device: "kitchen".to_owned(),
            language: "en".to_owned(),
            attributes: [("volume".to_owned(), "3".to_owned())].into(),
            ..Default::default()
        }),
        options: Some(ParseOptions {
            tasks: vec![1, 2],
            intent_filter: vec!["iot_hue_lighton".to_owned()],
            top_k: 3,
            min_confidence: 0.5,
        }),
    };
    let small = ParseRequest { text: "on".to_owned(), ..Default::default() };
    fuzz("grpc_requests", &[&full.encode_to_vec(), &small.encode_to_vec()], |bytes| {
        let Ok(request) = ParseRequest::decode(bytes) else { return "no message".to_owned() };
        let checked =
            convert::utterance(request).and_then(|utterance| utterance.validate().map(|()| utterance));
        match checked {
            Ok(utterance) => format!("{:?} {}", utterance.options.tasks, utterance.context.attributes.len()),
            Err(invalid) => {
                let answer = convert::refusal(String::new(), &invalid.clone().into());
                assert!(serde_json::from_str::<serde_json::Value>(&convert::to_json(&answer)).is_ok());
                assert_eq!(convert::status(&invalid.clone().into()).code(), tonic::Code::InvalidArgument);
                name(invalid)
            }
        }
    });
}
