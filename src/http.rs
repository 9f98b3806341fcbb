//! Metrics and health over HTTP: `/metrics` (OpenMetrics text), `/healthz` (the loops turn), `/readyz` (both doors answer).

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::health::Health;

/// A loop that has not turned for this long is reported as stalled.
const STALLED_AFTER: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Pages {
    registry: Arc<Registry>,
    health: Health,
}

/// Serves until `stop` resolves.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    health: Health,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let pages = Pages { registry: Arc::new(registry), health };
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(pages);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &pages.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            Ok(([(header::CONTENT_TYPE, kind)], text))
        }
        Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

async fn healthz(State(pages): State<Pages>) -> impl IntoResponse {
    let stalled = pages.health.stalled(Instant::now(), STALLED_AFTER);
    if stalled.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("stalled: {stalled:?}\n"))
    }
}

async fn readyz(State(pages): State<Pages>) -> impl IntoResponse {
    match pages.health.unready() {
        None => {
            let degraded = pages.health.degraded().map(|why| format!("; {why}")).unwrap_or_default();
            (StatusCode::OK, format!("ready{degraded}\n"))
        }
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
