use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use intentd::convert;
use intentd::proto::nlu_client::NluClient;
use intentd::proto::{ParseRequest, ParseResponse};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{Daemon, Device, Mosquitto, PATIENCE, wait_for};

const UTTERANCE: &str = "intentd/home/kitchen/utterance";
const INTENT: &str = "intentd/home/kitchen/intent";

fn texts() -> Vec<String> {
    let rooms = ["kitchen", "bedroom", "garden", "hall", "office"];
    let wants = [
        "turn on the lights in the",
        "what is the weather like near the",
        "play jazz in the",
        "please clean the",
    ];
    let when = ["", " at seven thirty", " tomorrow morning", " every day after sunset", " now"];
    let mut texts = Vec::new();
    for room in rooms {
        for want in wants {
            texts.extend(when.map(|when| format!("{want} {room}{when}")));
        }
    }
    texts
}

fn request(id: usize, text: &str) -> ParseRequest {
    ParseRequest { id: id.to_string(), text: text.to_owned(), ..ParseRequest::default() }
}

async fn connect(daemon: &Daemon) -> NluClient<Channel> {
    NluClient::connect(format!("http://127.0.0.1:{}", daemon.grpc)).await.unwrap()
}

/// What is said, and nothing of when, where and by whom.
fn said(mut answer: Value) -> Value {
    let fields = answer.as_object_mut().unwrap();
    fields.remove("timing");
    fields.remove("context");
    answer
}

async fn over_a_stream(daemon: &Daemon, texts: &[String]) -> BTreeMap<String, Value> {
    let requests: Vec<_> = texts.iter().enumerate().map(|(id, text)| request(id, text)).collect();
    let stream = connect(daemon).await.parse_stream(tokio_stream::iter(requests)).await;
    let (mut stream, mut answers) = (stream.unwrap().into_inner(), BTreeMap::new());
    while let Some(answer) = stream.message().await.unwrap() {
        let json = serde_json::from_str(&convert::to_json(&answer)).unwrap();
        answers.insert(answer.id, said(json));
    }
    answers
}

/// The same utterances through both doors, several times, with one thread and with four.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_utterance_gets_the_same_answer_through_both_doors() {
    let (mosquitto, texts) = (Mosquitto::start(), texts());
    let broker = format!("[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"\n", mosquitto.port);
    let mut known: Option<BTreeMap<String, Value>> = None;
    for threads in ["1", "4"] {
        // On a busy machine two streams at once could have to wait longer than half a second, and this is not about overload.
        let patient = ("INTENTD__ADMISSION__QUEUE_WAIT", "1min");
        let daemon = Daemon::spawn(&broker, &[("INTENTD__ENGINE__THREADS", threads), patient]);
        daemon.wait_ready();
        let mut device = Device::v5(mosquitto.port);
        device.subscribe(INTENT);
        for (id, text) in texts.iter().enumerate() {
            device.publish(UTTERANCE, format!(r#"{{"id": "{id}", "text": "{text}"}}"#));
        }
        let mut published = BTreeMap::new();
        while published.len() < texts.len() {
            let answer = device.receive(INTENT).json();
            published.insert(answer["id"].as_str().unwrap().to_owned(), said(answer));
        }
        let streams = tokio::join!(over_a_stream(&daemon, &texts), over_a_stream(&daemon, &texts));
        for answers in [published, streams.0, streams.1] {
            assert_eq!(answers.len(), texts.len());
            assert_eq!(known.get_or_insert_with(|| answers.clone()), &answers, "{threads} threads");
        }
    }
}

/// Streams with an utterance on its way, and many more at the broker: the first are answered, none of the others is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_breaks_nothing() {
    let mosquitto = Mosquitto::start();
    let broker = format!("[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"\n", mosquitto.port);
    let mut daemon = Daemon::spawn(&broker, &[("INTENTD__GRPC__MAX_CONNECTIONS_PER_ADDRESS", "64")]);
    daemon.wait_ready();
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);
    let mut streams = JoinSet::new();
    let (go, _) = tokio::sync::broadcast::channel::<()>(1);
    for _ in 0..50 {
        let (mut client, mut start) = (connect(&daemon).await, go.subscribe());
        streams.spawn(async move {
            let (requests, outgoing) = mpsc::channel(1);
            let mut answers = client.parse_stream(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
            start.recv().await.unwrap();
            requests.send(request(0, &"turn on the light ".repeat(20))).await.unwrap();
            let first = answers.message().await;
            (first, answers.message().await)
        });
    }
    go.send(()).unwrap();
    for id in 0..500 {
        device.publish(UTTERANCE, format!(r#"{{"id": "{id}", "text": "turn on the lights"}}"#));
    }
    device.wait_acknowledged();
    let start = Instant::now();
    daemon.signal("TERM");
    let (mut answered, mut refused) = (0, 0);
    while let Some(ends) = streams.join_next().await {
        match ends.unwrap() {
            (Ok(Some(ParseResponse { error: None, .. })), Err(end)) if end.code() == Code::Unavailable => {
                answered += 1
            }
            (Ok(Some(ParseResponse { error: Some(error), .. })), _)
                if error.code == Code::Unavailable as i32 =>
            {
                refused += 1
            }
            (Err(end), _) if end.code() == Code::Unavailable => refused += 1,
            broken => panic!("{broken:?}"),
        }
    }
    assert_eq!(daemon.exit().code(), Some(0));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");

    daemon.restart();
    let (mut ids, mut duplicates) = (std::collections::BTreeSet::new(), 0);
    let end = Instant::now() + PATIENCE;
    while ids.len() < 500 && Instant::now() < end {
        if let Some(message) = device.receive_within(Duration::from_millis(100), INTENT) {
            duplicates += usize::from(!ids.insert(message.json()["id"].to_string()));
        }
    }
    wait_for("nothing is in flight", || daemon.metric("intentd_mqtt_in_flight") == 0.0);
    println!(
        "FIGURE F26: 50 streams: {answered} answered, {refused} told to go elsewhere, 0 broken; stopped within {:.1} s; \
         {} of 500 utterances answered across the stop, {duplicates} twice",
        took.as_secs_f64(),
        ids.len()
    );
    assert_eq!((ids.len(), duplicates), (500, 0));
}
