//! The HTTP server: metrics, probes, status. Reading only; on loopback unless the user says otherwise.

mod server;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

pub use server::serve;

use crate::{
    config::Http,
    limits,
    observe::{Exporter, Observer, Status},
};

/// A listening socket. Dropping it closes it.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    pub address: SocketAddr,
    /// What the user should know about the address.
    pub note: Option<String>,
}

/// The address that was named cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: choose another with `--http ADDRESS:PORT`, or `--http off`")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Listens where the configuration says; `None` where it says not to. Only the default address
/// may be replaced by another port.
pub async fn bind(http: Http) -> Result<Option<Bound>, BindError> {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, limits::HTTP_PORT));
    match http {
        Http::Off => Ok(None),
        Http::At(address) => listen(address, None).await.map(Some),
        Http::Default => match listen(default, None).await {
            Ok(bound) => Ok(Some(bound)),
            Err(taken) if taken.source.kind() == io::ErrorKind::AddrInUse => {
                let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let note = format!("{default} is taken: another port is used");
                listen(any, Some(note)).await.map(Some)
            }
            Err(error) => Err(error),
        },
    }
}

async fn listen(address: SocketAddr, note: Option<String>) -> Result<Bound, BindError> {
    let failed = |source| BindError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, address, note })
}

/// What the answers are made from.
#[derive(Clone, Debug)]
pub struct App {
    pub exporter: Exporter,
    pub observer: Arc<Observer>,
}

const INDEX: &str = "Tidemill
/metrics        Prometheus text
/livez          200 while the process lives
/readyz         200 while files are taken in; else 503 and why not
/api/v1/status  JSON
";

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/api/v1/status", get(status))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found: see / for what there is\n") })
        .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, "only GET\n") })
        .with_state(app)
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, app.exporter.render())
}

async fn ready(State(app): State<App>) -> (StatusCode, String) {
    match app.observer.status().not_ready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn status(State(app): State<App>) -> Json<Status> {
    Json(app.observer.status())
}

#[cfg(test)]
mod tests;
