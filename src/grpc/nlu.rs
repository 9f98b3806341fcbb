//! The service of the contract: takes requests in, has them understood, sends answers out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use intentd_core::ParseError;
use intentd_core::admission::Door;
use tokio::sync::{broadcast, watch};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::convert;
use crate::grpc::call::Call;
use crate::grpc::deadline;
use crate::grpc::exchange::Exchange;
use crate::grpc::outgoing::{Answers, Outgoing, stream};
use crate::grpc::translate::translate;
use crate::inference::{Inference, Parsed};
use crate::proto::nlu_server;
use crate::proto::{AnswerRequest, AnswerResponse, EmbedRequest, EmbedResponse};
use crate::proto::{ParseRequest, ParseResponse, WatchRequest};
use crate::proto::{TranslateRequest, TranslateResponse};
use crate::telemetry::Metrics;

/// A client that takes no answer of its stream for this long is cut off.
const STALLED_AFTER: Duration = Duration::from_secs(10);

pub(super) const DRAINING: ParseError = ParseError::Unavailable("the daemon is draining; try again");

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

    fn exchange<Q>(&self, call: &Call, requests: Request<Streaming<Q>>) -> Exchange<Q> {
        Exchange {
            inference: self.inference.clone(),
            deadline: call.deadline(),
            requests: requests.into_inner(),
            draining: self.draining.clone(),
        }
    }
}

/// The end of a call with one answer.
fn finish<A>(call: Call, answer: Result<A, ParseError>) -> Result<Response<A>, Status> {
    let answer = answer.map_err(|error| convert::status(&error));
    call.finish(answer.as_ref().map_or_else(Status::code, |_| Code::Ok));
    answer.map(Response::new)
}

#[tonic::async_trait]
impl nlu_server::Nlu for Nlu {
    async fn parse(&self, request: Request<ParseRequest>) -> Result<Response<ParseResponse>, Status> {
        let call = self.admit(Call::unary(&self.metrics, "Parse", deadline::of(&request)))?;
        let parsed = understand(&self.inference, request.into_inner(), call.deadline()).await;
        finish(call, parsed.map(|parsed| convert::answer(&parsed)))
    }

    type ParseStreamStream = Answers<ParseResponse>;

    async fn parse_stream(
        &self,
        request: Request<Streaming<ParseRequest>>,
    ) -> Result<Response<Self::ParseStreamStream>, Status> {
        let call = self.admit(Call::streaming(&self.metrics, "ParseStream", deadline::of(&request)))?;
        let work = self.exchange(&call, request);
        Ok(Response::new(stream(call, STALLED_AFTER, |outgoing| work.run(outgoing, answer))))
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let call = self.admit(Call::unary(&self.metrics, "Embed", deadline::of(&request)))?;
        let utterance = convert::to_embed(request.into_inner());
        let parsed = self.inference.submit(Door::Grpc, utterance, call.deadline()).await;
        finish(call, parsed.map(|parsed| convert::embedded(&parsed)))
    }

    type EmbedStreamStream = Answers<EmbedResponse>;

    async fn embed_stream(
        &self,
        request: Request<Streaming<EmbedRequest>>,
    ) -> Result<Response<Self::EmbedStreamStream>, Status> {
        let call = self.admit(Call::streaming(&self.metrics, "EmbedStream", deadline::of(&request)))?;
        let work = self.exchange(&call, request);
        Ok(Response::new(stream(call, STALLED_AFTER, |outgoing| work.run(outgoing, embed))))
    }

    async fn answer(&self, request: Request<AnswerRequest>) -> Result<Response<AnswerResponse>, Status> {
        let call = self.admit(Call::unary(&self.metrics, "Answer", deadline::of(&request)))?;
        let question = convert::question(request.into_inner());
        let answered = self.inference.ask(Door::Grpc, question, call.deadline()).await;
        finish(call, answered.map(convert::answered))
    }

    type WatchStream = Answers<ParseResponse>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
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

async fn answer(inference: Inference, request: ParseRequest, deadline: Option<Instant>) -> ParseResponse {
    let id = request.id.clone();
    match understand(&inference, request, deadline).await {
        Ok(parsed) => convert::answer(&parsed),
        Err(error) => convert::refusal(id, &error),
    }
}

async fn embed(inference: Inference, request: EmbedRequest, deadline: Option<Instant>) -> EmbedResponse {
    let id = request.id.clone();
    match inference.submit(Door::Grpc, convert::to_embed(request), deadline).await {
        Ok(parsed) => convert::embedded(&parsed),
        Err(error) => convert::not_embedded(id, &error),
    }
}

/// The work of one Watch call.
async fn send_watched(
    mut parsed: broadcast::Receiver<Arc<Parsed>>,
    filter: Filter,
    mut draining: watch::Receiver<bool>,
    outgoing: Outgoing<ParseResponse>,
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
pub(super) async fn began(draining: &mut watch::Receiver<bool>) {
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
                sentiment: None,
                entities: Vec::new(),
                embedding: Vec::new(),
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
