//! A bounded stream of answers to one client. Its work runs in a task of its own, so that a client that stops
//! reading is noticed although nobody polls its stream: the work then ends, what it holds is given back, and the
//! client finds the status when it reads on.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::grpc::call::Call;

/// Answers that wait for the client to read them, beside those in HTTP/2's own window.
const QUEUED_MAX: usize = 16;

/// What tonic sends.
pub(super) type Answers<A> = ReceiverStream<Result<A, Status>>;

/// Where the work puts its answers.
pub(super) struct Outgoing<A> {
    answers: mpsc::Sender<Result<A, Status>>,
    patience: Duration,
}

impl<A> Outgoing<A> {
    /// Sends one answer, waiting while the client doesn't read.
    ///
    /// # Errors
    /// The status that the work should end with.
    pub(super) async fn send(&self, answer: A) -> Result<(), Status> {
        match self.answers.send_timeout(Ok(answer), self.patience).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Status::resource_exhausted(format!(
                "no answer was taken for {} s; read the stream while it is open",
                self.patience.as_secs_f32()
            ))),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(cancelled()),
        }
    }
}

/// Runs the work of a streaming call until it ends, its deadline passes, or its client goes away or takes no answer
/// for as long as `patience`.
pub(super) fn stream<A, Work>(
    call: Call,
    patience: Duration,
    work: impl FnOnce(Outgoing<A>) -> Work,
) -> Answers<A>
where
    A: Send + 'static,
    Work: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (answers, receiver) = mpsc::channel(QUEUED_MAX + 1);
    // Reserved now, since the queue is full just when a stalled client has to be told.
    let last_word = answers.clone().try_reserve_owned().expect("a new channel has room");
    let work = work(Outgoing { answers: answers.clone(), patience });
    tokio::spawn(async move {
        let end = tokio::select! {
            end = work => end,
            () = answers.closed() => Err(cancelled()),
            () = passed(call.deadline()) => Err(Status::deadline_exceeded("the deadline of the stream passed")),
        };
        call.finish(end.as_ref().map_or_else(Status::code, |()| Code::Ok));
        if let Err(status) = end {
            last_word.send(Err(status));
        }
    });
    ReceiverStream::new(receiver)
}

fn cancelled() -> Status {
    Status::cancelled("the client went away")
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::proto::ParseResponse;
    use crate::telemetry::Metrics;

    const PATIENCE: Duration = Duration::from_millis(200);

    fn endless(call: Call) -> Answers<ParseResponse> {
        stream(call, PATIENCE, |outgoing| async move {
            loop {
                outgoing.send(ParseResponse::default()).await?;
            }
        })
    }

    async fn read_to_end(answers: Answers<ParseResponse>) -> (usize, Option<Code>) {
        let all: Vec<_> = answers.collect().await;
        let end = all.last().and_then(|last| last.as_ref().err()).map(Status::code);
        (all.iter().filter(|answer| answer.is_ok()).count(), end)
    }

    async fn until_no_stream_is_open(metrics: &Metrics) {
        let all_closed = async {
            while metrics.grpc_streams.get() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE * 20, all_closed).await.expect("the work goes on");
    }

    #[tokio::test]
    async fn a_client_that_stops_reading_is_cut_off_and_told() {
        let (metrics, _registry) = Metrics::new();
        let answers = endless(Call::streaming(&metrics, "Watch", None));
        until_no_stream_is_open(&metrics).await;
        assert_eq!(read_to_end(answers).await, (QUEUED_MAX, Some(Code::ResourceExhausted)));
    }

    #[tokio::test]
    async fn a_slow_client_is_not_cut_off() {
        let (metrics, _registry) = Metrics::new();
        let mut answers = endless(Call::streaming(&metrics, "Watch", None));
        for _ in 0..3 * QUEUED_MAX {
            tokio::time::sleep(PATIENCE / 20).await;
            assert!(answers.next().await.unwrap().is_ok());
        }
    }

    #[tokio::test]
    async fn the_deadline_ends_the_stream() {
        let (metrics, _registry) = Metrics::new();
        let call = Call::streaming(&metrics, "Watch", Some(Instant::now() + Duration::from_millis(20)));
        let answers = stream(call, PATIENCE, |_outgoing| std::future::pending());
        assert_eq!(read_to_end(answers).await, (0, Some(Code::DeadlineExceeded)));
    }

    #[tokio::test]
    async fn a_client_that_goes_away_ends_the_work() {
        let (metrics, _registry) = Metrics::new();
        let call = Call::streaming(&metrics, "Watch", None);
        drop(stream(call, PATIENCE, |_outgoing: Outgoing<ParseResponse>| std::future::pending()));
        until_no_stream_is_open(&metrics).await;
        let cancelled = metrics.grpc_requests.get_or_create(&[("method", "Watch"), ("code", "CANCELLED")]);
        assert_eq!(cancelled.get(), 1);
    }

    #[tokio::test]
    async fn answers_are_followed_by_the_end_of_the_work() {
        let (metrics, _registry) = Metrics::new();
        let call = Call::streaming(&metrics, "ParseStream", None);
        let answers =
            stream(call, PATIENCE, |outgoing| async move { outgoing.send(ParseResponse::default()).await });
        assert_eq!(read_to_end(answers).await, (1, None));
    }
}
