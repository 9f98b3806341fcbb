//! `grpc.health.v1` for the services "" and `intentd.v1.Nlu`. The door serves from the moment it is open until
//! the daemon drains, whatever the broker does. A watch ends after NOT_SERVING, so that it doesn't hold up the stop.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::proto::nlu_server::SERVICE_NAME;

/// Says whether the door serves.
pub(super) struct Serving {
    draining: watch::Receiver<bool>,
}

impl Serving {
    pub(super) fn new(draining: watch::Receiver<bool>) -> Self {
        Self { draining }
    }
}

#[tonic::async_trait]
impl Health for Serving {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        if !is_known(service) {
            return Err(Status::not_found(format!(
                "service: there is no {service:?}; ask for \"\" or {SERVICE_NAME}"
            )));
        }
        Ok(Response::new(state(*self.draining.borrow())))
    }

    type WatchStream = States;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<States>, Status> {
        let known = is_known(&request.get_ref().service);
        Ok(Response::new(States { draining: WatchStream::new(self.draining.clone()), known, over: false }))
    }
}

/// The state now and its changes, of which there is one at most.
pub(super) struct States {
    draining: WatchStream<bool>,
    known: bool,
    over: bool,
}

impl Stream for States {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let draining = ready!(Pin::new(&mut self.draining).poll_next(cx));
        self.over = draining != Some(false);
        Poll::Ready(draining.map(|draining| Ok(if self.known { state(draining) } else { UNKNOWN })))
    }
}

/// What the health protocol asks for in a watch of a service that doesn't exist.
const UNKNOWN: HealthCheckResponse = HealthCheckResponse { status: ServingStatus::ServiceUnknown as i32 };

fn is_known(service: &str) -> bool {
    matches!(service, "" | SERVICE_NAME)
}

fn state(draining: bool) -> HealthCheckResponse {
    let status = if draining { ServingStatus::NotServing } else { ServingStatus::Serving };
    HealthCheckResponse { status: status.into() }
}
