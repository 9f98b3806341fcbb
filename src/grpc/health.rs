//! `grpc.health.v1` for the services "" and `intentd.v1.Nlu`. The door serves from the moment it is open until
//! the daemon drains, whatever the broker does. A watch ends after NOT_SERVING, so that it doesn't hold up the stop.

use std::pin::Pin;

use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};
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

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = is_known(&request.get_ref().service);
        let mut over = false;
        let states = WatchStream::new(self.draining.clone())
            .take_while(move |draining| !std::mem::replace(&mut over, *draining))
            .map(move |draining| Ok(if known { state(draining) } else { UNKNOWN }));
        Ok(Response::new(Box::pin(states)))
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
