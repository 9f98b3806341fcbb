//! Turns away calls without a token that allows them. It stands before every service, so that a new one is closed
//! until somebody is allowed to use it.

use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tower_layer::Layer;

use super::access::Access;
use super::tokens::Denied;
use crate::telemetry::Metrics;

/// A probe that asks whether the door serves learns nothing else.
const OPEN: &str = "grpc.health.v1.Health";

/// Puts a [`Guarded`] before a service.
#[derive(Clone)]
pub(super) struct Guard {
    access: Access,
    metrics: Metrics,
}

impl Guard {
    pub(super) fn new(access: Access, metrics: Metrics) -> Self {
        Self { access, metrics }
    }

    fn admit(&self, path: &str, headers: &mut HeaderMap) -> Result<(), Status> {
        let service = path.split('/').nth(1).unwrap_or_default();
        // Nothing behind this has a use for it, and what isn't there can't be logged.
        let authorization = headers.remove(AUTHORIZATION);
        let Some(tokens) = self.access.tokens() else { return Ok(()) };
        if service == OPEN {
            return Ok(());
        }
        let admitted = tokens.admit(authorization.as_ref().map(|value| value.as_bytes()), service);
        admitted
            .map(|caller| tracing::debug!(caller, path, "a call"))
            .map_err(|denied| self.refuse(denied, service))
    }

    fn refuse(&self, denied: Denied, service: &str) -> Status {
        let (reason, status) = match denied {
            Denied::Missing => {
                let message = "a token is needed: send the header authorization: Bearer TOKEN";
                ("no_token", Status::unauthenticated(message))
            }
            Denied::Unknown => {
                let message = "the token is not one of this gateway's; ask whoever keeps its tokens file";
                ("wrong_token", Status::unauthenticated(message))
            }
            Denied::Service { caller } => {
                tracing::debug!(caller, service, "a call of a service that the caller may not use");
                let message =
                    format!("{caller} may not use {service}; ask whoever keeps this gateway's tokens file");
                ("service_not_allowed", Status::permission_denied(message))
            }
        };
        self.metrics.grpc_denied.get_or_create(&[("reason", reason)]).inc();
        status
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.clone(), inner }
    }
}

/// A service behind a [`Guard`].
#[derive(Clone)]
pub(super) struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S, I, O> Service<Request<I>> for Guarded<S>
where
    S: Service<Request<I>, Response = Response<O>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    O: Default + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<I>) -> Self::Future {
        let path = request.uri().path().to_owned();
        match self.guard.admit(&path, request.headers_mut()) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}
