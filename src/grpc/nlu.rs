//! The service of the contract: takes requests in, has them understood, sends answers out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use intentd_core::ParseError;
use intentd_core::admission::Door;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::convert;
use crate::grpc::call::Call;
use crate::grpc::deadline;
use crate::grpc::outgoing::{Answers, Outgoing, stream};
use crate::grpc::translate::translate;
use crate::inference::{Inference, Parsed};
use crate::proto::nlu_server;
use crate::proto::{ParseRequest, ParseResponse, WatchRequest};
use crate::proto::{TranslateRequest, TranslateResponse};
use crate::telemetry::Metrics;

/// Requests of one stream that are read before the first is answered. Enough to keep every thread busy; few enough
/// that a stream on its own never waits so long that its requests are refused, on a slow CPU either.
const IN_FLIGHT_MAX: usize = 16;

/// A client that takes no answer of its stream for this long is cut off.
const STALLED_AFTER: Duration = Duration::from_secs(10);

const DRAINING: ParseError = ParseError::Unavailable("the daemon is draining; try again");

/// The service `intentd.v1.Nlu`.
pub(super) struct Nlu {
    inference: Inference,
    metrics: Metrics,
    draining: watch::Receiver<bool>,
}

impl Nlu {
    pub(super) fn new(inference: Inference, metrics: Metrics, draining: watch::Receiver<bool>) -> Self {
        Self { inference, metrics, draining }
    }

    /// Refuses a call that begins while the daemon drains.
    fn admit(&self, call: Call) -> Result<Call, Status> {
        if *self.draining.borrow() {
            let status = convert::status(&DRAINING);
            call.finish(status.code());
            return Err(status);
        }
        Ok(call)
    }
}

#[tonic::async_trait]
impl nlu_server::Nlu for Nlu {
    async fn parse(&self, request: Request<ParseRequest>) -> Result<Response<ParseResponse>, Status> {
        let call = self.admit(Call::unary(&self.metrics, "Parse", deadline::of(&request)))?;
        let parsed = understand(&self.inference, request.into_inner(), call.deadline()).await;
        let answer = parsed.map(|parsed| convert::answer(&parsed)).map_err(|error| convert::status(&error));
        call.finish(answer.as_ref().map_or_else(Status::code, |_| Code::Ok));
        answer.map(Response::new)
    }

    type ParseStreamStream = Answers;

    async fn parse_stream(
        &self,
        request: Request<Streaming<ParseRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let call = self.admit(Call::streaming(&self.metrics, "ParseStream", deadline::of(&request)))?;
        let work = ParseStream {
            inference: self.inference.clone(),
            deadline: call.deadline(),
            requests: request.into_inner(),
            draining: self.draining.clone(),
        };
        Ok(Response::new(stream(call, STALLED_AFTER, |outgoing| work.run(outgoing))))
    }

    type WatchStream = Answers;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Answers>, Status> {
        let call = self.admit(Call::streaming(&self.metrics, "Watch", deadline::of(&request)))?;
        let filter = Filter::new(request.into_inner());
        let (parsed, draining) = (self.inference.watch(), self.draining.clone());
        Ok(Response::new(stream(call, STALLED_AFTER, |outgoing| {
            send_watched(parsed, filter, draining, outgoing)
        })))
    }

    async fn translate(
        &self,
        request: Request<TranslateRequest>,
    ) -> Result<Response<TranslateResponse>, Status> {
        let call = self.admit(Call::unary(&self.metrics, "Translate", deadline::of(&request)))?;
        let answer = translate(&self.inference, request.into_inner(), call.deadline()).await;
        call.finish(answer.as_ref().map_or_else(Status::code, |_| Code::Ok));
        answer.map(Response::new)
    }
}

/// One request of a unary call, or of a stream.
pub(super) async fn understand(
    inference: &Inference,
    request: ParseRequest,
    deadline: Option<Instant>,
) -> Result<Arc<Parsed>, ParseError> {
    let utterance = convert::utterance(request)?;
    inference.submit(Door::Grpc, utterance, deadline).await
}

/// The work of one ParseStream call. Dropping it takes what is in flight out of the queue.
struct ParseStream {
    inference: Inference,
    deadline: Option<Instant>,
    requests: Streaming<ParseRequest>,
    draining: watch::Receiver<bool>,
}

impl ParseStream {
    /// Reads while there is room, answers as answers come; ends when nothing more is read and all are answered.
    async fn run(mut self, outgoing: Outgoing) -> Result<(), Status> {
        let mut in_flight = JoinSet::new();
        let mut end = None;
        loop {
            let reading = end.is_none();
            tokio::select! {
                request = self.requests.message(), if reading && in_flight.len() < IN_FLIGHT_MAX => match request {
                    Ok(Some(request)) => {
                        in_flight.spawn(answer(self.inference.clone(), request, self.deadline));
                    }
                    Ok(None) => end = Some(Ok(())),
                    Err(status) => end = Some(Err(status)),
                },
                () = began(&mut self.draining), if reading => end = Some(Err(convert::status(&DRAINING))),
                Some(answer) = in_flight.join_next() => {
                    outgoing.send(answer.map_err(|error| Status::internal(error.to_string()))?).await?;
                }
                else => return end.unwrap_or(Ok(())),
            }
        }
    }
}

async fn answer(inference: Inference, request: ParseRequest, deadline: Option<Instant>) -> ParseResponse {
    let id = request.id.clone();
    match understand(&inference, request, deadline).await {
        Ok(parsed) => convert::answer(&parsed),
        Err(error) => convert::refusal(id, &error),
    }
}

/// The work of one Watch call.
async fn send_watched(
    mut parsed: broadcast::Receiver<Arc<Parsed>>,
    filter: Filter,
    mut draining: watch::Receiver<bool>,
    outgoing: Outgoing,
) -> Result<(), Status> {
    loop {
        let received = tokio::select! {
            received = parsed.recv() => received,
            () = began(&mut draining) => return Err(convert::status(&DRAINING)),
        };
        match received {
            Ok(parsed) if filter.admits(&parsed) => outgoing.send(convert::answer(&parsed)).await?,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                return Err(Status::resource_exhausted(format!(
                    "fell behind by {missed} answers; read faster, or watch fewer sites, devices or intents"
                )));
            }
            Err(broadcast::error::RecvError::Closed) => return Err(convert::status(&DRAINING)),
        }
    }
}

/// Resolves when the daemon begins to drain; when nobody could say so any more, it has ended.
async fn began(draining: &mut watch::Receiver<bool>) {
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Which answers a watcher wants; an empty list admits all.
struct Filter {
    sites: BTreeSet<String>,
    devices: BTreeSet<String>,
    intents: BTreeSet<String>,
}

impl Filter {
    fn new(request: WatchRequest) -> Self {
        Self {
            sites: request.sites.into_iter().collect(),
            devices: request.devices.into_iter().collect(),
            intents: request.intents.into_iter().collect(),
        }
    }

    fn admits(&self, parsed: &Parsed) -> bool {
        let lists = |wanted: &BTreeSet<String>, name: &str| wanted.is_empty() || wanted.contains(name);
        let context = &parsed.utterance.context;
        lists(&self.sites, &context.site)
            && lists(&self.devices, &context.device)
            && parsed.understanding.intent.as_ref().is_some_and(|intent| lists(&self.intents, &intent.name))
    }
}

#[cfg(test)]
mod tests {
    use intentd_core::{Effort, Intent, ModelRef, Outcome, Understanding, Utterance};
    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::inference::Timing;

    fn parsed(id: &str) -> Arc<Parsed> {
        let intent = Some(Intent { name: "TurnOn".to_owned(), confidence: 0.9 });
        Arc::new(Parsed {
            utterance: Utterance { id: id.to_owned(), ..Utterance::default() },
            understanding: Understanding {
                outcome: Outcome::Recognized,
                intent,
                alternatives: Vec::new(),
                slots: Vec::new(),
                effort: Effort::default(),
            },
            model: ModelRef { name: "home-en".to_owned(), version: "1".to_owned() },
            timing: Timing::default(),
        })
    }

    #[tokio::test]
    async fn a_watcher_that_fell_behind_is_told_how_far() {
        let (metrics, _registry) = Metrics::new();
        let (_drain, draining) = watch::channel(false);
        let (answers, parsed_from_now_on) = broadcast::channel(2);
        for id in ["1", "2", "3", "4", "5"] {
            assert!(answers.send(parsed(id)).is_ok());
        }
        let filter = Filter::new(WatchRequest::default());
        let call = Call::streaming(&metrics, "Watch", None);
        let mut sent = stream(call, STALLED_AFTER, |outgoing| {
            send_watched(parsed_from_now_on, filter, draining, outgoing)
        });
        let status = sent.next().await.expect("a status").unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("behind by 3"), "{status}");
        assert!(sent.next().await.is_none());
    }
}
