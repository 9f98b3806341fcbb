//! Many requests and their answers over one stream: read while there is room, answered as answers come.

use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Status, Streaming};

use crate::convert;
use crate::grpc::nlu::{DRAINING, began};
use crate::grpc::outgoing::Outgoing;
use crate::inference::Inference;

/// Requests of one stream that are read before the first is answered. Enough to keep every thread busy; few enough
/// that a stream on its own never waits so long that its requests are refused, on a slow CPU either.
const IN_FLIGHT_MAX: usize = 16;

/// The work of one call. Dropping it takes what is in flight out of the queue.
pub(super) struct Exchange<Q> {
    pub(super) inference: Inference,
    pub(super) deadline: Option<Instant>,
    pub(super) requests: Streaming<Q>,
    pub(super) draining: watch::Receiver<bool>,
}

impl<Q> Exchange<Q> {
    /// Ends when nothing more is read and all are answered. A bad request is answered as such, and the stream goes on.
    pub(super) async fn run<A, Answering>(
        mut self,
        outgoing: Outgoing<A>,
        answer: impl Fn(Inference, Q, Option<Instant>) -> Answering,
    ) -> Result<(), Status>
    where
        A: Send + 'static,
        Answering: Future<Output = A> + Send + 'static,
    {
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
