//! The doors for tools that speak plain HTTP, on the port of the gRPC services: `/metrics`, `/healthz` (the process
//! answers), `/readyz` (it has all it should have and takes usage).

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::context::Context;
use crate::metrics;

/// Prometheus' text form.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Adds the pages to the services.
pub fn with_pages(services: Router, context: &Arc<Context>) -> Router {
    let pages = Router::new()
        .route("/metrics", get(page))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .with_state(context.clone());
    services.merge(pages)
}

async fn page(State(context): State<Arc<Context>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], metrics::page(&context))
}

async fn health(State(context): State<Arc<Context>>) -> (StatusCode, String) {
    match context.fate.sealed() {
        None => (StatusCode::OK, "alive\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("stopping: {reason}\n")),
    }
}

async fn ready(State(context): State<Arc<Context>>) -> (StatusCode, String) {
    if context.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    match context.missing() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n")),
    }
}
