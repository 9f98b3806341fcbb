use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use intentd::proto::nlu_client::NluClient;
use intentd::proto::{
    AnswerRequest, Context, EmbedRequest, Outcome, ParseOptions, ParseRequest, ParseResponse, Task,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::harness::{Daemon, Device, Mosquitto, copy_of_bundle};
use crate::made_up;

const OFF: &str = "[mqtt]\nbroker = \"off\"";
const SAID: &str = "dim the bedroom lights to 30 percent";
const TEXT_TASKS: [Task; 5] = [Task::Intent, Task::Slots, Task::Sentiment, Task::Entities, Task::Embedding];

/// A bundle with every task, `made-up`.
fn whole() -> &'static Path {
    static WHOLE: OnceLock<TempDir> = OnceLock::new();
    let tasks = ["intent", "slots", "sentiment", "entities", "embedding", "qa"];
    WHOLE.get_or_init(|| made_up::bundle("made-up", &tasks)).path()
}

fn more(folder: &Path) -> String {
    format!("[[model.more]]\nbundle = \"{}\"\n", folder.display())
}

/// Serves the committed bundle, and `made-up` beside it.
fn daemon() -> Daemon {
    Daemon::start(&format!("{OFF}\n{}", more(whole())))
}

async fn client(daemon: &Daemon) -> NluClient<Channel> {
    NluClient::connect(format!("http://127.0.0.1:{}", daemon.grpc)).await.unwrap()
}

fn request(bundle: &str, tasks: &[Task]) -> ParseRequest {
    let tasks = tasks.iter().map(|task| (*task).into()).collect();
    let options = Some(ParseOptions { tasks, bundle: bundle.to_owned(), ..Default::default() });
    ParseRequest { id: "7".to_owned(), text: SAID.to_owned(), options, ..Default::default() }
}

fn embed(id: &str, text: &str) -> EmbedRequest {
    EmbedRequest { id: id.to_owned(), text: text.to_owned(), bundle: "made-up".to_owned() }
}

fn question(question: &str, passages: &[&str]) -> AnswerRequest {
    let passages = passages.iter().map(|&passage| passage.to_owned()).collect();
    AnswerRequest {
        id: "7".to_owned(),
        question: question.to_owned(),
        passages,
        bundle: "made-up".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_tells_all_that_it_asks_for() {
    let daemon = daemon();
    let mut client = client(&daemon).await;
    let all = client.parse(request("made-up", &TEXT_TASKS)).await.unwrap().into_inner();
    assert_eq!(
        (all.outcome(), all.intent.as_ref().unwrap().name.as_str()),
        (Outcome::Recognized, "iot_hue_lightdim")
    );
    assert_eq!(all.sentiment.as_ref().unwrap().label, "iot_hue_lightdim");
    assert_eq!(all.model.as_ref().unwrap().name, "made-up");
    assert_eq!(all.entities.len(), all.slots.len());
    for (entity, slot) in all.entities.iter().zip(&all.slots) {
        assert_eq!((&entity.r#type, &entity.text), (&slot.name, &slot.raw_value));
        assert_eq!(&SAID[entity.start_byte as usize..entity.end_byte as usize], entity.text);
    }
    let moods = client.parse(request("made-up", &[Task::Sentiment])).await.unwrap().into_inner();
    assert_eq!((moods.outcome(), &moods.sentiment), (Outcome::Recognized, &all.sentiment));
    let rest = (moods.intent, moods.slots, moods.entities, moods.embedding);
    assert_eq!(rest, (None, vec![], vec![], vec![]), "nothing else is told");

    let embedded = client.embed(embed("8", SAID)).await.unwrap().into_inner();
    assert_eq!((embedded.id.as_str(), &embedded.embedding), ("8", &all.embedding));
    assert!((embedded.embedding.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-5);
    assert_eq!((embedded.model, embedded.error), (all.model, None));
    assert!(embedded.timing.unwrap().tokens > 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_texts_is_a_stream_of_vectors() {
    let daemon = daemon();
    let mut client = client(&daemon).await;
    let alone = client.embed(embed("", SAID)).await.unwrap().into_inner();
    let requests = (0..100).map(|i| embed(&i.to_string(), if i % 3 == 0 { "\u{0}" } else { SAID }));
    let requests: Vec<EmbedRequest> = requests.collect();
    let mut answers = client.embed_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut ids = std::collections::BTreeSet::new();
    while let Some(answer) = answers.message().await.unwrap() {
        let id: u32 = answer.id.parse().unwrap();
        match answer.error {
            Some(error) => {
                assert!(id.is_multiple_of(3) && answer.embedding.is_empty());
                assert_eq!((error.code, error.field.as_str()), (Code::InvalidArgument as i32, "text"));
            }
            None => assert_eq!((!id.is_multiple_of(3), &answer.embedding), (true, &alone.embedding)),
        }
        ids.insert(id);
    }
    assert_eq!(ids, (0..100).collect());
    assert_eq!(daemon.metric("intentd_grpc_requests_total{method=\"EmbedStream\",code=\"OK\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn passages_answer_a_question_or_do_not() {
    let daemon = daemon();
    let mut client = client(&daemon).await;
    let long = format!("{}– {SAID} –", "what is 17 times 23. ".repeat(40));
    let passages = ["mute yourself", &long];
    let answer = client.answer(question("start the robot vacuum", &passages)).await.unwrap().into_inner();
    assert_eq!((answer.id.as_str(), answer.answerable, answer.answer.as_str()), ("7", true, "bedroom"));
    assert!(answer.score >= 0.5 && answer.passage == 1);
    assert_eq!(&long[answer.start_byte as usize..answer.end_byte as usize], "bedroom");
    assert_eq!(answer.start as usize, long[..answer.start_byte as usize].chars().count());
    assert_eq!(answer.end - answer.start, 7);
    assert_eq!(answer.model.unwrap().name, "made-up");
    assert!(answer.timing.unwrap().tokens > 200);
    let none =
        client.answer(question("start the robot vacuum", &["mute yourself"])).await.unwrap().into_inner();
    assert_eq!((none.answerable, none.answer.as_str(), none.start, none.end), (false, "", 0, 0));
    assert!(none.score < 0.5);
    let count =
        |outcome| daemon.metric(&format!("intentd_utterances_total{{door=\"grpc\",outcome=\"{outcome}\"}}"));
    assert_eq!((count("ANSWERABLE"), count("NOT_ANSWERABLE")), (1.0, 1.0));

    let marks = "!".repeat(16 * 1024);
    let cases = [
        (question(" ", &["mute"]), "question"),
        (question("who", &[]), "passages"),
        (question("who", &["mute", ""]), "number 1"),
        (question("who", &["mute"; 33]), "32"),
        (question("who", &[&marks, "mute"]), "16384"),
        (question(&"what is 17 times 23 ".repeat(60), &[&marks]), "parts"),
        (AnswerRequest { bundle: "nobody".to_owned(), ..question("who", &["mute"]) }, "made-up"),
    ];
    for (question, named) in cases {
        let status = client.answer(question).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(named), "{named}: {status}");
    }
    // A deadline holds for a question as for an utterance.
    let mut late = Request::new(question("start the robot vacuum", &[&long]));
    late.set_timeout(Duration::from_nanos(1));
    let inferred = daemon.metric("intentd_batch_size_sum");
    let status = client.answer(late).await.unwrap_err();
    // The client itself may be the first to notice; tonic's calls that CANCELLED.
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&status.code()), "{status}");
    client.answer(question("who", &["mute"])).await.unwrap();
    assert_eq!(daemon.metric("intentd_batch_size_sum"), inferred + 1.0, "a late question was inferred");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lacks_a_task_says_which_it_has_and_who_has_more() {
    let daemon = daemon();
    let mut client = client(&daemon).await;
    let own = client.parse(request("", &[])).await.unwrap().into_inner();
    assert_eq!(own.model.as_ref().unwrap().name, "home-en");
    assert_eq!(client.parse(request("home-en", &[])).await.unwrap().into_inner().intent, own.intent);
    for status in [
        client.parse(request("", &[Task::Intent, Task::Sentiment])).await.unwrap_err(),
        client.embed(EmbedRequest { bundle: String::new(), ..embed("", SAID) }).await.unwrap_err(),
        client
            .answer(AnswerRequest { bundle: "home-en".to_owned(), ..question("who", &["mute"]) })
            .await
            .unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        let message = status.message();
        assert!(message.contains("it has intent, slots"), "{message}");
        assert!(message.contains("made-up (intent, slots, sentiment, entities, embedding, qa)"), "{message}");
    }
    let unknown = client.parse(request("nobody", &[])).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    assert!(
        unknown.message().contains("options.bundle") && unknown.message().contains("home-en, made-up"),
        "{unknown}"
    );
    let context = Some(Context { language: "de".to_owned(), ..Default::default() });
    let german = client.parse(ParseRequest { context, ..request("", &[]) }).await.unwrap_err();
    assert_eq!(german.code(), Code::InvalidArgument);
    assert!(
        german.message().contains("context.language") && german.message().contains("understands en"),
        "{german}"
    );
}

/// What is asked of one bundle and the other stands in the same queue, and in the same batches.
#[tokio::test(flavor = "multi_thread")]
async fn bundles_share_a_stream() {
    let daemon = daemon();
    let mut client = client(&daemon).await;
    let timeless = |answer: ParseResponse| ParseResponse { timing: None, ..answer };
    let mut alone = Vec::new();
    for request in [request("", &[]), request("made-up", &[Task::Entities])] {
        alone.push(timeless(client.parse(request).await.unwrap().into_inner()));
    }
    let requests: Vec<ParseRequest> = (0..64)
        .map(|i| if i % 2 == 0 { request("", &[]) } else { request("made-up", &[Task::Entities]) })
        .zip(0..)
        .map(|(request, id)| ParseRequest { id: id.to_string(), ..request })
        .collect();
    let mut answers = client.parse_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        let place = answer.id.parse::<usize>().unwrap() % 2;
        assert_eq!(timeless(ParseResponse { id: "7".to_owned(), ..answer }), alone[place]);
        count += 1;
    }
    assert_eq!(count, 64);
}

#[test]
fn a_route_names_its_bundle_and_tasks() {
    let mosquitto = Mosquitto::start();
    let route = |name: &str, rest: &str| {
        format!(
            "[[mqtt.routes]]\nsubscribe = \"{name}/{{device}}/said\"\npublish = \"{name}/{{device}}/meant\"\n{rest}\n"
        )
    };
    let daemon = Daemon::start(&format!(
        "[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"\n{}{}{}",
        mosquitto.port,
        route("plain", ""),
        route("moods", "bundle = \"made-up\"\ntasks = [\"entities\", \"sentiment\"]"),
        more(whole())
    ));
    let mut device = Device::v5(mosquitto.port);
    device.subscribe("+/panel/meant");
    let payload = json!({"id": "1", "text": SAID}).to_string();
    device.publish("moods/panel/said", payload.clone());
    let moods = device.receive("moods/panel/meant").json();
    assert_eq!((&moods["id"], &moods["outcome"]), (&json!("1"), &json!("RECOGNIZED")));
    assert_eq!(moods["sentiment"]["label"], "iot_hue_lightdim");
    assert_eq!(
        (&moods["entities"][0]["type"], &moods["entities"][0]["text"]),
        (&json!("house_place"), &json!("bedroom"))
    );
    assert_eq!((moods.get("intent"), &moods["slots"], &moods["embedding"]), (None, &json!([]), &json!([])));
    device.publish("plain/panel/said", payload);
    let plain = device.receive("plain/panel/meant").json();
    assert_eq!((&plain["model"]["name"], plain.get("sentiment")), (&json!("home-en"), None));
    assert!(plain["intent"].is_object() && plain["entities"] == json!([]));
    drop(daemon);
}

/// An utterance for a bundle that can't understand it would wait for ever, so such a daemon does not start.
#[test]
fn routes_and_bundles_that_do_not_fit_stop_the_start() {
    let route = |rest: &str| format!("[mqtt]\n[[mqtt.routes]]\n{rest}\n{}", more(whole()));
    let twice = copy_of_bundle();
    let cases = [
        (route("bundle = \"nobody\""), "mqtt.routes[0].bundle", "home-en, made-up"),
        (route("tasks = [\"sentiment\"]"), "mqtt.routes[0].tasks", "it has intent, slots"),
        (route("tasks = [\"poetry\"]"), "mqtt.routes[0].tasks", "poetry"),
        (format!("{OFF}\n{}", more(twice.path())), "model.more[0].bundle", "home-en"),
        (format!("{OFF}\n[[model.more]]\nfolder = \"x\""), "model.more[0]", "fallback"),
        (format!("{OFF}\n[[model.more]]\nbundle = \"/nonexistent\""), "/nonexistent", "manifest.toml"),
    ];
    for (config, key, named) in cases {
        let mut daemon = Daemon::spawn(&config, &[]);
        assert_eq!(daemon.exit().code(), Some(78), "{config}: {}", daemon.log());
        assert!(daemon.log().contains(key) && daemon.log().contains(named), "{config}: {}", daemon.log());
    }
}

#[test]
fn every_bundle_has_its_own_fallback() {
    let damaged = copy_of_bundle();
    std::fs::write(damaged.path().join("labels.json"), "{}").unwrap();
    let config = format!("{OFF}\n{}fallback = \"{}\"", more(damaged.path()), whole().display());
    let daemon = Daemon::start(&config);
    let (_, page) = daemon.get("/readyz").unwrap();
    assert!(page.contains("model.more[0].fallback serves") && page.contains("labels.json"), "{page}");
    assert_eq!(daemon.metric("intentd_model_fallback"), 1.0);
}

fn intentd(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_intentd")).args(arguments).output().unwrap();
    let told = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8(told).unwrap())
}

/// Gold lines whose figures are known, since the bundle's answers are those of the one that it is made of.
#[test]
fn eval_measures_every_task() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("gold.jsonl");
    let eval = |task: &str, lines: &[Value]| -> Value {
        std::fs::write(&data, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let (bundle, data) = (whole().to_str().unwrap(), data.to_str().unwrap());
        let (code, told) = intentd(&["eval", "--json", "--task", task, "--bundle", bundle, "--data", data]);
        assert_eq!(code, Some(0), "{told}");
        let report: Value = serde_json::from_str(&told).unwrap();
        assert_eq!((&report["task"], &report["examples"]), (&json!(task), &json!(lines.len())));
        report
    };
    let label = |text: &str, label: &str| json!({"text": text, "label": label});
    let moods = eval(
        "sentiment",
        &[
            label(SAID, "iot_hue_lightdim"),
            label("mute yourself", "play_music"),
            label("mute yourself", "nothing"),
        ],
    );
    assert_eq!((&moods["accuracy"], &moods["unknown_labels"]), (&json!(1.0 / 3.0), &json!(1)));
    assert_eq!(moods["f1"], 1.0 / 3.0);
    assert!(moods["ece"].is_number() && moods["brier"].is_number() && moods["intent_accuracy"].is_null());
    let entities = eval(
        "entities",
        &[
            json!({"text": SAID, "entities": [{"name": "house_place", "start": 8, "end": 15}]}),
            json!({"text": "mute yourself", "entities": [{"type": "poem", "start": 0, "end": 4}]}),
        ],
    );
    // Two are found, one of them is right, and one is missed.
    assert_eq!((&entities["f1"], &entities["unknown_labels"]), (&json!(0.5), &json!(1)));
    let neighbours = eval(
        "embedding",
        &[
            label(SAID, "light"),
            label("dim the bedroom lights to 40 percent", "light"),
            label("mute yourself", "sound"),
        ],
    );
    assert_eq!(neighbours["accuracy"], 2.0 / 3.0);
    let ask = |passage: &str, answers: Value| json!({"question": "start the robot vacuum", "context": passage, "answers": answers});
    let answers = eval(
        "qa",
        &[
            ask(SAID, json!([{"text": "the bedroom", "start": 4}])),
            ask(SAID, json!([{"text": "bedroom lights", "start": 8}])),
            ask("mute yourself", json!([])),
            ask("mute yourself", json!([{"text": "mute", "start": 0}])),
        ],
    );
    assert_eq!((&answers["exact_match"], &answers["accuracy"]), (&json!(0.5), &json!(0.75)));
    assert!((answers["f1"].as_f64().unwrap() - (1.0 + 2.0 / 3.0 + 1.0) / 4.0).abs() < 1e-9, "{answers}");
}

#[test]
fn parse_tells_the_tasks_that_it_is_asked_for() {
    let bundle = whole().to_str().unwrap();
    let parse = |rest: &[&str]| intentd(&[&["parse", "--bundle", bundle], rest].concat());
    let (code, told) = parse(&["--task", "sentiment", "--task", "entities", "--task", "embedding", SAID]);
    assert_eq!(code, Some(0), "{told}");
    for part in ["RECOGNIZED", "mood iot_hue_lightdim", "house_place \"bedroom\"", "vector of "] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let daemon = daemon();
    let server = format!("http://127.0.0.1:{}", daemon.grpc);
    let named =
        ["parse", "--server", &server, "--bundle-name", "made-up", "--task", "sentiment", "--json", SAID];
    let (code, told) = intentd(&named);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("\"sentiment\":{\"label\":\"iot_hue_lightdim\""), "{told}");
}
