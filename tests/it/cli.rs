//! The commands of the real binary: what they print, and with which exit code they end.

mod translate;

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::{Daemon, free_port};

const LIGHTS: &str = "turn on the kitchen lights";

fn intentd(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_intentd"))
        .args(arguments)
        // The bundle is found from here.
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Fails where the command reads nothing and has ended already.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[track_caller]
fn succeeds(arguments: &[&str], input: &[u8]) -> String {
    let output = intentd(arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output).to_owned()
}

/// Standard error of a command that must end with this exit code.
#[track_caller]
fn fails(code: i32, arguments: &[&str], input: &[u8]) -> String {
    let output = intentd(arguments, input);
    let message = stderr(&output).to_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The answer without what may differ from run to run.
fn timeless(mut answer: Value) -> Value {
    answer.as_object_mut().unwrap().remove("timing");
    answer
}

/// Intent or best guess of an answer.
fn best(answer: &Value) -> &str {
    let intent = answer.get("intent").unwrap_or_else(|| &answer["alternatives"][0]);
    intent["name"].as_str().unwrap()
}

#[test]
fn wrong_use_ends_with_64() {
    for arguments in [
        &["understand"][..],
        &["eval"],
        &["serve", "--set", "log.level"],
        &["parse", "--server", "mqtt://gateway", "x"],
        &["parse", "--server", "h:1", "--bundle", "b", "x"],
        &[],
    ] {
        let message = fails(64, arguments, b"");
        assert!(message.contains("Usage") || message.contains("--help"), "{arguments:?}: {message}");
    }
    assert!(succeeds(&["--version"], b"").contains(env!("CARGO_PKG_VERSION")));
    assert!(succeeds(&["--help"], b"").contains("serve"));
}

#[test]
fn every_mistake_in_the_configuration_is_named_at_once() {
    let arguments = [
        "config",
        "check",
        "--set",
        "grpc.listen=localhost",
        "--set",
        "mqtt.keep_alive=1s",
        "--set",
        "log.colour=red",
        "--set",
        "admission.max_batch=many",
    ];
    let message = fails(78, &arguments, b"");
    for key in ["grpc.listen", "mqtt.keep_alive", "log.colour", "admission.max_batch", "4 mistake"] {
        assert!(message.contains(key), "{key} in {message}");
    }
    fails(78, &["serve", "--config", "/nonexistent/intentd.toml"], b"");
    assert!(succeeds(&["config", "check"], b"").contains("intentd/+/+/utterance"));
    assert!(
        succeeds(&["config", "show", "--set", "grpc.max_streams=7"], b"").contains("max_streams = \"7\"")
    );
}

#[test]
fn no_bundle_ends_with_78() {
    let empty = tempfile::tempdir().unwrap();
    let folder = empty.path().to_str().unwrap();
    for arguments in [
        &["parse", "--bundle", folder, LIGHTS][..],
        &["model", "inspect", folder],
        &["model", "verify", folder],
        &["bench", "--bundle", folder],
    ] {
        let message = fails(78, arguments, b"");
        assert!(message.contains(folder), "{message}");
    }
}

#[test]
fn parse_takes_arguments_and_lines() {
    let answers = json_lines(&succeeds(&["parse", "--json", LIGHTS, "play some jazz"], b""));
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0]["text"], LIGHTS);
    assert_ne!(answers[0]["outcome"], "NOT_RECOGNIZED", "{}", answers[0]);
    assert!(answers[0]["timing"]["tokens"].as_u64().unwrap() >= 7);

    let lines = format!("{LIGHTS}\r\nplay some jazz\n");
    let piped = json_lines(&succeeds(&["parse", "--json"], lines.as_bytes()));
    let timeless = |answers: Vec<Value>| answers.into_iter().map(timeless).collect::<Vec<_>>();
    assert_eq!(timeless(piped), timeless(answers.clone()));

    let block = succeeds(&["parse", LIGHTS], b"");
    for part in [LIGHTS, answers[0]["outcome"].as_str().unwrap(), best(&answers[0]), "kitchen"] {
        assert!(block.contains(part), "{part} in {block}");
    }
}

#[test]
fn a_bad_line_is_answered_and_the_next_one_too() {
    let input =
        [LIGHTS.as_bytes(), b"\n\n\xff\xfe\n", "x ".repeat(3000).as_bytes(), b"\nplay some jazz\n"].concat();
    let output = intentd(&["parse", "--json"], &input);
    assert_eq!(output.status.code(), Some(65));
    let answers = json_lines(stdout(&output));
    let errors: Vec<bool> = answers.iter().map(|answer| answer.get("error").is_some()).collect();
    assert_eq!(errors, [false, true, true, true, false]);
    assert!(stderr(&output).contains("3 of 5"), "{}", stderr(&output));
    assert!(fails(65, &["parse", " "], b"").contains("empty"));
}

#[test]
fn parse_asks_a_running_daemon() {
    let daemon = Daemon::start("");
    let uri = format!("http://127.0.0.1:{}", daemon.grpc);
    let asked =
        json_lines(&succeeds(&["parse", "--json", "--server", &uri], format!("{LIGHTS}\n").as_bytes()));
    let own = json_lines(&succeeds(&["parse", "--json", LIGHTS], b""));
    assert_eq!(timeless(asked[0].clone()), timeless(own[0].clone()), "the same answer through every door");
    assert!(fails(65, &["parse", "--server", &uri, ""], b"").contains("empty"));

    let report: Value = serde_json::from_str(&succeeds(&["bench", "--json", "--server", &uri], b"")).unwrap();
    let cells = report["grpc"].as_array().unwrap();
    assert_eq!(cells.len(), 6);
    assert!(cells.iter().all(|cell| cell["answers"].as_u64() > Some(0)), "{report}");
}

#[test]
fn an_unreachable_server_ends_with_69() {
    let uri = format!("127.0.0.1:{}", free_port());
    for arguments in [["parse", "--server", &uri, LIGHTS].as_slice(), &["bench", "--server", &uri]] {
        assert!(fails(69, arguments, b"").contains(&uri));
    }
}

/// Gold lines made of the bundle's own answers, so that the figures are known whatever the bundle.
#[test]
fn eval_scores_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (data, predictions) = (folder.path().join("gold.jsonl"), folder.path().join("predictions.jsonl"));
    let texts = [LIGHTS, "play some jazz", "wake me up at seven tomorrow morning"];
    let answers = json_lines(&succeeds(&[&["parse", "--json"][..], &texts].concat(), b""));
    let slots = |answer: &Value| answer["slots"].as_array().unwrap().clone();
    let gold: Vec<Value> = answers
        .iter()
        .map(|answer| json!({"text": answer["text"], "intent": best(answer), "slots": slots(answer)}))
        .chain([json!({"text": LIGHTS, "intent": "no_such_label", "slots": []})])
        .collect();
    std::fs::write(&data, gold.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let (data, file) = (data.to_str().unwrap(), predictions.to_str().unwrap());

    let report = succeeds(&["eval", "--data", data, "--predictions", file, "--json"], b"");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["task"], &report["examples"]), (&json!("intent"), &json!(4)));
    assert_eq!(report["intent_accuracy"], 0.75);
    assert_eq!(report["frame_accuracy"], 0.75);
    assert_eq!(report["unknown_labels"], 1);
    let (right, of_the_last): (usize, usize) =
        (answers.iter().map(|a| slots(a).len()).sum(), slots(&answers[0]).len());
    let f1 = 2.0 * right as f64 / (2 * right + of_the_last) as f64;
    assert!((report["slot_f1"].as_f64().unwrap() - f1).abs() < 1e-9, "{report}");
    for absent in ["in_scope_accuracy", "oos_recall", "auroc", "accuracy", "f1", "exact_match"] {
        assert_eq!(report[absent], Value::Null, "{absent}");
    }
    assert!(report["latency_us"]["p99"].as_f64() >= report["latency_us"]["p50"].as_f64());
    let written = json_lines(&std::fs::read_to_string(&predictions).unwrap());
    assert_eq!(written.len(), 4);
    assert!(written.iter().zip(&gold).all(|(answer, gold)| answer["text"] == gold["text"]));

    let table = succeeds(&["eval", "--data", data], b"");
    for part in ["intent accuracy", "75.0 %", "no_such_label (1)", "Worst confusions"] {
        assert!(table.contains(part), "{part} in {table}");
    }
}

#[test]
fn eval_tells_scope() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("oos.jsonl");
    let answers = json_lines(&succeeds(&["parse", "--json", LIGHTS], b""));
    let lines = format!(
        "{}\n\n{}\n{}\n",
        json!({"text": LIGHTS, "intent": best(&answers[0])}),
        json!({"text": "what does my neighbour's second cousin think of cubism", "intent": null}),
        json!({"text": "transfer fifty dollars to my savings account", "intent": "oos"}),
    );
    std::fs::write(&data, lines).unwrap();
    let report = succeeds(&["eval", "--task", "oos", "--json", "--data", data.to_str().unwrap()], b"");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["examples"], &report["in_scope_accuracy"]), (&json!(3), &json!(1.0)));
    assert_eq!(report["false_rejection_rate"], 0.0);
    for figure in ["auroc", "oos_recall", "oos_recall_at_threshold", "ece", "brier"] {
        assert!(
            report[figure].as_f64().is_some_and(|value| (0.0..=1.0).contains(&value)),
            "{figure}: {report}"
        );
    }
    assert_eq!((&report["intent_accuracy"], &report["slot_f1"]), (&Value::Null, &Value::Null));
}

#[test]
fn eval_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("bad.jsonl");
    std::fs::write(&data, "{\"text\": \"lights on\", \"intent\": \"a\"}\n{\"text\": \"x\"}\n").unwrap();
    let data = data.to_str().unwrap();
    let message = fails(65, &["eval", "--data", data], b"");
    assert!(message.contains("line 2") && message.contains("intent"), "{message}");
    assert!(fails(65, &["eval", "--data", data, "--task", "qa"], b"").contains("no such task as qa"));
    fails(65, &["eval", "--data", "/nonexistent.jsonl"], b"");
}

#[test]
fn inspect_shows_what_runs_in_8_bits() {
    let bundle: Value = serde_json::from_str(&succeeds(&["model", "inspect", "--json"], b"")).unwrap();
    let kernel = bundle["kernel"].as_str().unwrap();
    let operators = bundle["operators"].as_array().unwrap();
    let ours: Vec<&Value> = operators.iter().filter(|operator| operator["kernel"] == kernel).collect();
    assert_eq!(ours.len(), 3, "the encoder and two heads run on {kernel}");
    let left = operators.iter().find(|o| o["kernel"].is_null() && o["operator"] != "Source");
    assert_eq!(left, None, "something that our operators did not replace");
    assert!(ours.iter().all(|operator| operator["precision"].as_str().unwrap().contains("int8")), "{ours:?}");

    let table = succeeds(&["model", "inspect"], b"");
    for part in ["home-en", "encoder.onnx", "int8", kernel] {
        assert!(table.contains(part), "{part} in {table}");
    }
    // With the shapes of every node, which depend on the batch.
    assert!(succeeds(&["model", "inspect", "--all"], b"").contains("tokens,384"));
    assert!(succeeds(&["model", "verify"], b"").contains("self-test passed"));
}

#[test]
fn bench_measures_every_length_and_batch() {
    let report: Value = serde_json::from_str(&succeeds(&["bench", "--json"], b"")).unwrap();
    assert_eq!(report["bundle"], "home-en");
    assert!(report["resident_bytes"].as_u64().is_some() && report["kernels"][0].is_string());
    let cells = report["in_process"].as_array().unwrap();
    assert_eq!(cells.len() % 3, 0);
    for (cell, tokens) in cells.chunks(3).zip([4, 8, 12, 16, 32, 64, 128]) {
        assert!(
            cell.iter().all(|cell| cell["tokens"] == tokens && cell["median_us"].is_number()),
            "{cell:?}"
        );
    }
}

/// Settings that keep a demo away from whatever else runs here.
fn free_ports() -> Vec<String> {
    let setting = |key: &str| format!("{key}=127.0.0.1:{}", free_port());
    vec![setting("grpc.listen"), setting("mqtt.embedded.listen"), "http.listen=off".to_owned()]
}

fn demo(settings: &[String]) -> Vec<&str> {
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    ["demo", "--once"].into_iter().chain(settings).collect()
}

#[test]
fn the_demo_plays_through_both_doors() {
    let table = succeeds(&demo(&free_ports()), b"");
    for part in ["MQTT", "gRPC", "RECOGNIZED", "NOT_RECOGNIZED", "ñandú", LIGHTS] {
        assert!(table.contains(part), "{part} in {table}");
    }
    assert!(!table.contains(" error "), "{table}");
    let mut without = free_ports();
    without.push("mqtt.broker=off".to_owned());
    assert!(!succeeds(&demo(&without), b"").contains("MQTT │"));
}

#[test]
fn the_demo_names_a_port_in_use() {
    for (i, key) in ["grpc.listen", "mqtt.embedded.listen"].into_iter().enumerate() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let mut settings = free_ports();
        settings[i] = format!("{key}={address}");
        let message = fails(69, &demo(&settings), b"");
        assert!(message.contains(&address) && message.contains(key), "{message}");
    }
}

/// The bundle's thresholds are its author's; a site may ask for more.
#[test]
fn a_site_sets_its_own_thresholds() {
    let parse = |key: &str, value: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_intentd"));
        command.args(["parse", "--json", LIGHTS]).current_dir(env!("CARGO_MANIFEST_DIR")).env(key, value);
        command.output().unwrap()
    };
    let outcome = |output: Output| json_lines(stdout(&output))[0]["outcome"].as_str().unwrap().to_owned();
    assert_eq!(outcome(parse("INTENTD__MODEL__RECOGNIZED", "1")), "UNCERTAIN");
    assert_eq!(outcome(parse("INTENTD__MODEL__RECOGNIZED", "0.5")), "RECOGNIZED");
    let refused = parse("INTENTD__MODEL__RECOGNIZED", "0");
    assert_eq!(refused.status.code(), Some(78), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("model.recognized"), "{}", stderr(&refused));
}
