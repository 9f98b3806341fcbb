//! F18: work whose time has passed, or that nobody waits for any more, is not done.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

use super::{SAID, SOON, busy, client, collect, long, occupy, request};
use crate::harness::wait_within;

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_passes_before_inference() {
    let daemon = busy();
    let mut client = client(&daemon).await;
    let mut waiting = occupy(&daemon, 60).await;
    for id in 0..30 {
        let mut hurried = Request::new(request(id, SAID));
        hurried.set_timeout(Duration::from_millis(1));
        let status = client.parse(hurried).await.unwrap_err();
        // Refused at once, where the wait is known to be longer. Else the client itself may be the first to notice;
        // tonic's calls that CANCELLED.
        let codes = [Code::ResourceExhausted, Code::DeadlineExceeded, Code::Cancelled];
        assert!(codes.contains(&status.code()), "{status}");
    }
    while let Some(answer) = waiting.join_next().await {
        answer.unwrap().unwrap();
    }
    assert_eq!(daemon.metric("intentd_batch_size_sum"), 60.0, "a late utterance was inferred");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_itself_says_that_the_deadline_passed() {
    let daemon = busy();
    let _waiting = occupy(&daemon, 60).await;
    // The header alone: the client keeps no deadline of its own.
    let mut stream = Request::new(ReceiverStream::new(mpsc::channel(1).1).chain(tokio_stream::pending()));
    stream.metadata_mut().insert("grpc-timeout", "50m".parse().unwrap());
    let answers = client(&daemon).await.parse_stream(stream).await.unwrap().into_inner();
    let (_, end) = timeout(SOON, collect(answers)).await.unwrap();
    assert_eq!(end.unwrap_err().code(), Code::DeadlineExceeded);
}

/// Fewer than two batches are done in this time.
const FREED_WITHIN: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_stream_gives_its_places_back() {
    let daemon = busy();
    let _waiting = occupy(&daemon, 60).await;
    let (requests, queued) = mpsc::channel(16);
    for id in 0..16 {
        requests.send(request(id, &long())).await.unwrap();
    }
    let before = daemon.metric("intentd_queue_depth");
    let answers = client(&daemon).await.parse_stream(ReceiverStream::new(queued)).await.unwrap();
    // For all sixteen to be there.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let depth = daemon.metric("intentd_queue_depth");
    // Both halves: while it may still ask, tonic's client cancels nothing.
    drop(requests);
    drop(answers);
    let start = Instant::now();
    let mut looked = start;
    wait_within(Duration::from_secs(2), "its places", || {
        looked = Instant::now();
        daemon.metric("intentd_queue_depth") <= depth - 16.0
    });
    let took = looked - start;
    println!("{before} waited before the stream, {depth} with it; its places came back within {took:?}");
    assert!(took <= FREED_WITHIN, "{took:?}");
}
