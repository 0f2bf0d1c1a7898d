//! The HTTP server: metrics, probes, the API and its page. On loopback unless configured otherwise,
//! and at a Unix socket for the operator.

mod connection;
mod export;
mod get;
mod guard;
mod page;
mod post;
mod problem;
mod quarantine;
mod server;
mod state;
mod stream;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::IntoResponse,
    routing::{MethodRouter, get, post},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use connection::Listener;
pub use guard::{Token, TokenError};
pub use server::serve;
pub use state::{ApiState, ReloadRefused, Reloaded, Reloads};

use self::problem::Problem;
use crate::{
    config::Http,
    limits,
    observe::{Exporter, Observer},
};

/// A listening socket. Dropping it closes it.
#[derive(Debug)]
pub struct Bound {
    pub listener: Listener,
    pub address: SocketAddr,
    /// The default address, if another program has it.
    pub taken: Option<SocketAddr>,
}

/// The configured address is not available.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: choose another with `--http ADDRESS:PORT`, or `--http off`")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Listens at the configured address; `None` where HTTP is off. Only the default address may be
/// replaced by another port.
pub async fn bind(http: Http) -> Result<Option<Bound>, BindError> {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, limits::HTTP_PORT));
    match http {
        Http::Off => Ok(None),
        Http::At(address) => listen(address, None).await.map(Some),
        Http::Default => match listen(default, None).await {
            Ok(bound) => Ok(Some(bound)),
            Err(taken) if taken.source.kind() == io::ErrorKind::AddrInUse => {
                let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                listen(any, Some(default)).await.map(Some)
            }
            Err(error) => Err(error),
        },
    }
}

async fn listen(address: SocketAddr, taken: Option<SocketAddr>) -> Result<Bound, BindError> {
    let failed = |source| BindError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener: Listener::Tcp(listener), address, taken })
}

/// The transport of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    /// The Unix socket: its clients have the rights of the service.
    Socket,
}

/// The sources of the answers over one transport.
#[derive(Clone, Debug)]
pub struct App {
    /// `None` where no metrics are kept.
    pub exporter: Option<Exporter>,
    pub observer: Arc<Observer>,
    pub api_state: Arc<ApiState>,
    pub transport: Transport,
    /// Cancelled when the server closes: streams end.
    ending: CancellationToken,
}

impl App {
    pub fn new(
        exporter: Option<Exporter>,
        observer: Arc<Observer>,
        api_state: Arc<ApiState>,
        transport: Transport,
    ) -> Self {
        Self { exporter, observer, api_state, transport, ending: CancellationToken::new() }
    }
}

/// A path with its method.
type Route = (&'static str, &'static str, MethodRouter<App>);

/// Paths without access control: their answers name no file.
fn open_routes() -> Vec<Route> {
    vec![
        ("GET", "/metrics", get(metrics)),
        ("GET", "/livez", get(alive)),
        ("GET", "/readyz", get(ready)),
    ]
}

/// Paths that [`guard`] protects.
fn guarded_routes() -> Vec<Route> {
    vec![
        ("GET", "/", get(page::index)),
        ("GET", "/api/v1/openapi.json", get(page::openapi)),
        ("GET", "/api/v1/status", get(get::status)),
        ("GET", "/api/v1/work", get(get::work)),
        ("GET", "/api/v1/series", get(get::series)),
        ("GET", "/api/v1/outcomes", get(get::outcomes)),
        ("GET", "/api/v1/outcomes/export", get(export::export)),
        ("GET", "/api/v1/quarantine", get(quarantine::quarantine)),
        ("GET", "/api/v1/explain", get(get::explain)),
        ("GET", "/api/v1/config", get(get::config)),
        ("GET", "/api/v1/stream", get(stream::stream)),
        ("POST", "/api/v1/pause", post(post::pause)),
        ("POST", "/api/v1/resume", post(post::resume)),
        ("POST", "/api/v1/drain", post(post::drain)),
        ("POST", "/api/v1/rescan", post(post::rescan)),
        ("POST", "/api/v1/reload", post(post::reload)),
        ("POST", "/api/v1/requeue", post(post::requeue)),
    ]
}

fn router(app: App) -> Router {
    let add = |router: Router<App>, (_, path, answers): Route| router.route(path, answers);
    let guarded = guarded_routes().into_iter().chain(page::routes()).fold(Router::new(), add);
    let guarded = guarded.route_layer(from_fn_with_state(app.clone(), guard::guard));
    open_routes()
        .into_iter()
        .fold(guarded, add)
        .fallback(|| async { Problem::not_found("/ lists the paths") })
        .method_not_allowed_fallback(|| async {
            let detail = "this path needs another method, see `Allow`";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail)
        })
        .with_state(app)
}

async fn metrics(State(app): State<App>) -> Result<impl IntoResponse, Problem> {
    let Some(exporter) = &app.exporter else {
        return Err(Problem::not_found("no metrics are kept with `--http off`"));
    };
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, exporter.render()))
}

async fn alive(State(app): State<App>) -> (StatusCode, String) {
    match app.observer.not_alive() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("stalled: {why}\n")),
    }
}

async fn ready(State(app): State<App>) -> (StatusCode, String) {
    match app.observer.not_ready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

#[cfg(test)]
mod tests;
