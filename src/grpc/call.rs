//! What is counted of a call. A call counts once, with its status, however it ends: a handler that is dropped
//! because its client went away or its deadline passed counts as well.

use std::time::Instant;

use tonic::Code;

use crate::telemetry::Metrics;

/// A call in progress.
pub(super) struct Call {
    metrics: Metrics,
    method: &'static str,
    deadline: Option<Instant>,
    streaming: bool,
    code: Option<Code>,
}

impl Call {
    /// A call with one answer.
    pub(super) fn unary(metrics: &Metrics, method: &'static str, deadline: Option<Instant>) -> Self {
        Self { metrics: metrics.clone(), method, deadline, streaming: false, code: None }
    }

    /// A call with a stream of answers.
    pub(super) fn streaming(metrics: &Metrics, method: &'static str, deadline: Option<Instant>) -> Self {
        metrics.grpc_streams.inc();
        let mut call = Self::unary(metrics, method, deadline);
        call.streaming = true;
        call
    }

    /// When it must have ended.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The handler's own end.
    pub(super) fn finish(mut self, code: Code) {
        self.code = Some(code);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.streaming {
            self.metrics.grpc_streams.dec();
        }
        let late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        let code = self.code.unwrap_or(if late { Code::DeadlineExceeded } else { Code::Cancelled });
        self.metrics.grpc_requests.get_or_create(&[("method", self.method), ("code", name(code))]).inc();
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[track_caller]
    fn check(metrics: &Metrics, method: &'static str, code: &'static str) {
        let counter = metrics.grpc_requests.get_or_create(&[("method", method), ("code", code)]);
        assert_eq!(counter.get(), 1, "{method} {code}");
    }

    #[test]
    fn a_call_counts_once_however_it_ends() {
        let (metrics, _registry) = Metrics::new();
        Call::unary(&metrics, "Parse", None).finish(Code::Ok);
        check(&metrics, "Parse", "OK");
        drop(Call::unary(&metrics, "Parse", Some(Instant::now() + Duration::from_secs(60))));
        check(&metrics, "Parse", "CANCELLED");
        drop(Call::unary(&metrics, "Parse", Some(Instant::now())));
        check(&metrics, "Parse", "DEADLINE_EXCEEDED");
    }

    #[test]
    fn open_streams_are_counted_while_they_last() {
        let (metrics, _registry) = Metrics::new();
        let stream = Call::streaming(&metrics, "Watch", None);
        assert_eq!(metrics.grpc_streams.get(), 1);
        stream.finish(Code::Unavailable);
        assert_eq!(metrics.grpc_streams.get(), 0);
        check(&metrics, "Watch", "UNAVAILABLE");
    }
}
