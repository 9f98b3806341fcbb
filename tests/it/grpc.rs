mod deadlines;
mod floods;
mod peer;
mod translate;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use intentd::proto::nlu_client::NluClient;
use intentd::proto::{Context, Outcome, ParseOptions, ParseRequest, ParseResponse, WatchRequest};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::harness::{Daemon, wait_for};

const OFF: &str = "[mqtt]\nbroker = \"off\"";
const SAID: &str = "turn on the light in the kitchen";
const SOON: Duration = Duration::from_secs(10);

/// One thread and a long patience: what is sent at once waits.
const BUSY: [(&str, &str); 2] =
    [("INTENTD__ENGINE__THREADS", "1"), ("INTENTD__ADMISSION__QUEUE_WAIT", "1min")];

fn busy() -> Daemon {
    let daemon = Daemon::spawn(OFF, &BUSY);
    daemon.wait_ready();
    daemon
}

fn endpoint(daemon: &Daemon) -> Endpoint {
    Endpoint::from_shared(format!("http://127.0.0.1:{}", daemon.grpc)).unwrap()
}

async fn client(daemon: &Daemon) -> NluClient<Channel> {
    NluClient::new(endpoint(daemon).connect().await.unwrap())
}

fn request(id: impl ToString, text: &str) -> ParseRequest {
    ParseRequest { id: id.to_string(), text: text.to_owned(), ..Default::default() }
}

/// About as many wordpieces as a text may have.
fn long() -> String {
    "turn on the light ".repeat(28)
}

/// Everything but the times, which alone may differ.
fn timeless(mut answer: ParseResponse) -> ParseResponse {
    answer.timing = None;
    answer
}

async fn collect(mut answers: tonic::Streaming<ParseResponse>) -> (Vec<ParseResponse>, Result<(), Status>) {
    let mut all = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => all.push(answer),
            Ok(None) => return (all, Ok(())),
            Err(status) => return (all, Err(status)),
        }
    }
}

/// Keeps the one thread of a [`busy`] daemon occupied with `n` utterances, which are waiting when this returns.
async fn occupy(daemon: &Daemon, n: usize) -> JoinSet<Result<ParseResponse, Status>> {
    let mut waiting = JoinSet::new();
    // Calls beyond these would wait in the client.
    assert!(n <= 64, "a connection takes 64 streams");
    let client = client(daemon).await;
    for i in 0..n {
        let mut client = client.clone();
        waiting
            .spawn(async move { client.parse(request(i, &long())).await.map(tonic::Response::into_inner) });
    }
    wait_for("a queue", || daemon.metric("intentd_queue_depth") > n as f64 / 3.0);
    waiting
}

#[tokio::test(flavor = "multi_thread")]
async fn an_utterance_is_understood() {
    let daemon = Daemon::start(OFF);
    let mut client = client(&daemon).await;
    let attributes = BTreeMap::from([("wakeword".to_owned(), "hey".to_owned())]);
    let context =
        Context { site: "home".to_owned(), area: "kitchen".to_owned(), attributes, ..Default::default() };
    let mut asked = request("7", SAID);
    asked.context = Some(context.clone());
    let answer = client.parse(asked).await.unwrap().into_inner();
    assert_eq!((answer.id.as_str(), answer.text.as_str()), ("7", SAID));
    assert_eq!(answer.context, Some(context));
    assert!(matches!(answer.outcome(), Outcome::Recognized | Outcome::Uncertain), "{answer:?}");
    assert!(
        answer.intent.as_ref().is_some_and(|intent| (0.0..=1.0).contains(&intent.confidence)),
        "{answer:?}"
    );
    assert!(answer.model.as_ref().is_some_and(|model| !model.name.is_empty() && !model.version.is_empty()));
    assert!(answer.timing.is_some_and(|timing| timing.tokens > 2 && timing.total_us >= timing.inference_us));
    assert_eq!(answer.error, None);
    for slot in &answer.slots {
        assert_eq!(answer.text[slot.start_byte as usize..slot.end_byte as usize], slot.raw_value);
    }
    let bare = client.parse(request("", SAID)).await.unwrap().into_inner();
    assert_eq!((bare.id.as_str(), bare.context), ("", None));
    assert_eq!(daemon.metric("intentd_grpc_requests_total{method=\"Parse\",code=\"OK\"}"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_every_item_good_or_bad() {
    let daemon = busy();
    let mut client = client(&daemon).await;
    let alone = client.parse(request("", SAID)).await.unwrap().into_inner();
    let requests: Vec<_> = (0..200).map(|i| request(i, if i % 2 == 0 { SAID } else { "\u{0}" })).collect();
    let answers = client.parse_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let (answers, end) = timeout(SOON, collect(answers)).await.unwrap();
    end.unwrap();

    let ids: BTreeSet<u32> = answers.iter().map(|answer| answer.id.parse().unwrap()).collect();
    assert_eq!((answers.len(), ids), (200, (0..200).collect()));
    for mut answer in answers {
        let id: u32 = std::mem::take(&mut answer.id).parse().unwrap();
        if id.is_multiple_of(2) {
            assert_eq!(timeless(answer), timeless(alone.clone()), "the same utterance, the same answer");
        } else {
            let error = answer.error.clone().unwrap();
            assert_eq!((Code::from(error.code), error.field.as_str()), (Code::InvalidArgument, "text"));
            assert_eq!(ParseResponse { error: Some(error), ..Default::default() }, answer);
        }
    }
    assert_eq!(daemon.metric("intentd_grpc_requests_total{method=\"ParseStream\",code=\"OK\"}"), 1.0);
    wait_for("no open stream", || daemon.metric("intentd_grpc_streams") == 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_have_their_codes() {
    let daemon = Daemon::start(OFF);
    let mut client = client(&daemon).await;
    let options = |options: ParseOptions| ParseRequest { options: Some(options), ..request("", SAID) };
    let not_a_number = ParseOptions { min_confidence: f32::NAN, ..Default::default() };
    let unknown_task = ParseOptions { tasks: vec![99], ..Default::default() };
    let many = ParseOptions { top_k: 33, ..Default::default() };
    let unknown_intent =
        ParseOptions { intent_filter: vec!["no such intent".to_owned()], ..Default::default() };
    let embedding = ParseOptions { tasks: vec![5], ..Default::default() };
    let cases = [
        (request("", ""), Code::InvalidArgument, "text"),
        (request("", " \n\u{3000}"), Code::InvalidArgument, "text"),
        (request("", &"a".repeat(4097)), Code::InvalidArgument, "4096"),
        (request("", "turn on\u{7} the light"), Code::InvalidArgument, "U+0007"),
        (request("i".repeat(257), SAID), Code::InvalidArgument, "id"),
        (options(unknown_task), Code::InvalidArgument, "options.tasks: 99"),
        (options(not_a_number), Code::InvalidArgument, "options.min_confidence"),
        (options(many), Code::InvalidArgument, "options.top_k"),
        (options(unknown_intent), Code::InvalidArgument, "options.intent_filter"),
        (options(embedding), Code::FailedPrecondition, "embedding"),
        (request("", &"a".repeat(70_000)), Code::OutOfRange, "65536"),
    ];
    for (request, code, named) in cases {
        let status = client.parse(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(named), "{named} is missing in {status}");
    }
    let mut late = Request::new(request("", SAID));
    late.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    assert_eq!(client.parse(late).await.unwrap_err().code(), Code::InvalidArgument);
    assert!(client.parse(request("", SAID)).await.is_ok(), "the connection still serves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_ends_its_stream_after_the_answers() {
    let daemon = Daemon::start(OFF);
    let requests = tokio_stream::iter([request(1, SAID), request(2, &"a".repeat(70_000)), request(3, SAID)]);
    let answers = client(&daemon).await.parse_stream(requests).await.unwrap().into_inner();
    let (answers, end) = timeout(SOON, collect(answers)).await.unwrap();
    assert_eq!(answers.iter().map(|answer| answer.id.as_str()).collect::<Vec<_>>(), ["1"]);
    assert_eq!(end.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_refused_with_a_hint_and_cancellation_frees_the_places() {
    let daemon = Daemon::spawn(OFF, &[BUSY[0], BUSY[1], ("INTENTD__ADMISSION__PLACES", "16")]);
    daemon.wait_ready();
    let mut client = client(&daemon).await;
    let mut crowd = JoinSet::new();
    for id in 0..60 {
        let mut client = client.clone();
        crowd.spawn(async move { client.parse(request(id, &long())).await });
    }
    let mut refused = None;
    while refused.is_none() {
        let answer = crowd.join_next().await.expect("all of the crowd were admitted").unwrap();
        refused = answer.err();
    }
    let status = refused.unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let hint = status.metadata().get("grpc-retry-pushback-ms").expect("a hint").to_str().unwrap();
    assert!(hint.parse::<u64>().is_ok_and(|millis| millis > 0), "{hint}");

    crowd.shutdown().await;
    let calls = |code: &str| {
        daemon.metric(&format!("intentd_grpc_requests_total{{method=\"Parse\",code=\"{code}\"}}"))
    };
    wait_for("the daemon hears of it", || calls("CANCELLED") > 0.0);
    assert!(client.parse(request("", SAID)).await.is_ok());
    // At most the batch that ran just then was understood for nobody; had the others kept their places, all 16.
    let (understood, answered) = (daemon.metric("intentd_batch_size_sum"), calls("OK"));
    assert!(understood <= answered + 8.0, "{understood} were understood, {answered} answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_connections_are_bounded() {
    let limits = [("INTENTD__GRPC__MAX_STREAMS", "2"), ("INTENTD__GRPC__MAX_CONNECTIONS", "1")];
    let daemon = Daemon::spawn(OFF, &limits);
    daemon.wait_ready();
    let mut client = client(&daemon).await;
    assert!(client.parse(request("", SAID)).await.is_ok(), "the peer's settings are known from here on");
    let first = client.watch(WatchRequest::default()).await.unwrap();
    let _second = client.watch(WatchRequest::default()).await.unwrap();
    let mut third = Box::pin(client.parse(request("", SAID)));
    assert!(timeout(Duration::from_millis(300), &mut third).await.is_err(), "a third stream was opened");
    drop(first);
    assert!(timeout(SOON, third).await.unwrap().is_ok());

    assert!(!is_served(&daemon).await, "a second connection is served");
    assert!(daemon.metric("intentd_grpc_denied_total{reason=\"max_connections\"}") >= 1.0);
}

/// Whether a new connection is.
async fn is_served(daemon: &Daemon) -> bool {
    match endpoint(daemon).connect().await {
        Ok(channel) => NluClient::new(channel).parse(request("", SAID)).await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_no_more_than_its_share_of_the_connections() {
    let daemon = Daemon::spawn(OFF, &[("INTENTD__GRPC__MAX_CONNECTIONS_PER_ADDRESS", "2")]);
    daemon.wait_ready();
    let (mut first, second) = (client(&daemon).await, client(&daemon).await);
    assert!(first.parse(request("", SAID)).await.is_ok());
    wait_for("both connections", || daemon.metric("intentd_grpc_connections") == 2.0);
    assert!(!is_served(&daemon).await, "a third connection is served");
    let denied = "intentd_grpc_denied_total{reason=\"max_connections_per_address\"}";
    assert!(daemon.metric(denied) >= 1.0);
    assert!(first.parse(request("", SAID)).await.is_ok(), "those that are open stay");
    drop(second);
    wait_for("a free place", || daemon.metric("intentd_grpc_connections") == 1.0);
    assert!(is_served(&daemon).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_off() {
    let daemon = busy();
    // The smallest window: the daemon is soon held up.
    let channel = endpoint(&daemon).initial_stream_window_size(65_535).connect().await.unwrap();
    let attributes = (0..16).map(|key| (key.to_string(), "a".repeat(250))).collect();
    let context = Some(Context { attributes, ..Default::default() });
    let requests = (0..).map(move |id| ParseRequest { context: context.clone(), ..request(id, SAID) });
    let answers =
        NluClient::new(channel).parse_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let stalled = "intentd_grpc_requests_total{method=\"ParseStream\",code=\"RESOURCE_EXHAUSTED\"}";
    wait_for("the stream is cut off", || daemon.metric(stalled) == 1.0);
    let (answers, end) = timeout(SOON, collect(answers)).await.unwrap();
    assert_eq!(end.unwrap_err().code(), Code::ResourceExhausted);
    assert!(answers.len() < 100, "{} answers were kept for it", answers.len());
    let answered = daemon.metric("intentd_batch_size_sum");
    assert!(answered <= answers.len() as f64 + 16.0, "{answered} were understood in vain");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_sends_what_it_asked_for() {
    let daemon = Daemon::start(OFF);
    let mut client = client(&daemon).await;
    let said = |id: &str, site: &str, device: &str| {
        let context = Context { site: site.to_owned(), device: device.to_owned(), ..Default::default() };
        ParseRequest { context: Some(context), ..request(id, SAID) }
    };
    let intent = client.parse(request("", SAID)).await.unwrap().into_inner().intent.unwrap().name;
    let list = |name: &str| vec![name.to_owned()];
    let filters = [
        (WatchRequest::default(), vec!["1", "2", "3"]),
        (WatchRequest { sites: list("shop"), ..Default::default() }, vec!["2", "3"]),
        (WatchRequest { sites: list("shop"), devices: list("mic"), ..Default::default() }, vec!["3"]),
        (
            WatchRequest { intents: list(&intent), devices: list("panel"), ..Default::default() },
            vec!["1", "2"],
        ),
        (WatchRequest { intents: list("no such intent"), ..Default::default() }, vec![]),
    ];
    let mut watches = Vec::new();
    for (filter, expected) in filters {
        watches.push((client.watch(filter).await.unwrap().into_inner(), expected));
    }
    let mut answers = BTreeMap::new();
    for (id, site, device) in [("1", "home", "panel"), ("2", "shop", "panel"), ("3", "shop", "mic")] {
        answers.insert(id, client.parse(said(id, site, device)).await.unwrap().into_inner());
    }
    let _ = client.parse(request("bad", "")).await.unwrap_err();
    for (mut watch, expected) in watches {
        for id in expected {
            let seen = timeout(SOON, watch.message()).await.unwrap().unwrap().unwrap();
            assert_eq!(seen, answers[id], "as its sender got it");
        }
        assert!(timeout(Duration::from_millis(100), watch.message()).await.is_err(), "more than asked for");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services() {
    let daemon = Daemon::start(OFF);
    let mut client = ServerReflectionClient::new(endpoint(&daemon).connect().await.unwrap());
    let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let asked = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("intentd.v1.Nlu".to_owned())),
    ];
    let mut answers = client.server_reflection_info(tokio_stream::iter(asked)).await.unwrap().into_inner();
    let MessageResponse::ListServicesResponse(list) =
        answers.message().await.unwrap().unwrap().message_response.unwrap()
    else {
        panic!("not a list of services");
    };
    let names: BTreeSet<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.is_superset(&BTreeSet::from(["intentd.v1.Nlu", "grpc.health.v1.Health"])), "{names:?}");
    let file = answers.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(file, MessageResponse::FileDescriptorResponse(_)), "{file:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_by_service() {
    let daemon = Daemon::start(OFF);
    let mut client = HealthClient::new(endpoint(&daemon).connect().await.unwrap());
    for service in ["", "intentd.v1.Nlu"] {
        let asked = HealthCheckRequest { service: service.to_owned() };
        let answer = client.check(asked).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = HealthCheckRequest { service: "nobody".to_owned() };
    assert_eq!(client.check(unknown.clone()).await.unwrap_err().code(), Code::NotFound);
    let mut watch = client.watch(unknown).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_what_was_admitted_and_ends_every_stream() {
    let mut daemon = busy();
    let mut client = client(&daemon).await;
    let mut health = HealthClient::new(endpoint(&daemon).connect().await.unwrap());
    let mut serving = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(serving.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let watched = client.watch(WatchRequest::default()).await.unwrap().into_inner();
    let (requests, queued) = mpsc::channel(64);
    for id in 0..16 {
        requests.send(request(id, &long())).await.unwrap();
    }
    let mut answers = client.parse_stream(ReceiverStream::new(queued)).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    wait_for("all are read", || requests.capacity() == requests.max_capacity());

    let start = Instant::now();
    daemon.signal("TERM");
    let notice = timeout(SOON, serving.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(notice.status(), ServingStatus::NotServing);
    assert_eq!(client.parse(request("late", SAID)).await.unwrap_err().code(), Code::Unavailable);
    let (rest, end) = timeout(SOON, collect(answers)).await.unwrap();
    assert_eq!(end.unwrap_err().code(), Code::Unavailable);
    assert!(rest.len() == 15 && rest.iter().all(|answer| answer.error.is_none()), "{} of 15", rest.len());
    assert_eq!(timeout(SOON, collect(watched)).await.unwrap().1.unwrap_err().code(), Code::Unavailable);
    let over = timeout(SOON, serving.message()).await.expect("the health watch goes on");
    assert!(over.unwrap().is_none());
    assert_eq!(daemon.exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    // Held open to the end: not the client's closing ended the stream.
    drop(requests);
}
