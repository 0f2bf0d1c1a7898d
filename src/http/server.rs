//! Connections, and their bounds: how many, how long a request may take to come and to be answered.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpStream, sync::Semaphore};

use super::{App, Bound, router};

/// Connections at one time; more wait to be accepted.
const CONNECTIONS: usize = 64;
/// From the first byte of a request to the last of its head.
const HEAD: Duration = Duration::from_secs(5);
/// A connection's whole life: a scraper makes another.
const CONNECTION: Duration = Duration::from_mins(10);
/// What open requests get at the stop.
const GRACE: Duration = Duration::from_secs(2);

/// Answers until `stop` resolves; then finishes the requests that are open, for two seconds at most.
pub async fn serve(
    bound: Bound,
    app: App,
    stop: impl Future<Output = ()>,
) -> Result<(), std::io::Error> {
    let router = router(app);
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            break;
        };
        let stream = tokio::select! {
            () = &mut stop => break,
            accepted = bound.listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    continue;
                }
            },
        };
        let answering = graceful.watch(connection(stream, &router));
        tokio::spawn(async move {
            // A client that breaks off, or is too slow, has itself to blame.
            drop(tokio::time::timeout(CONNECTION, answering).await);
            drop(permit);
        });
    }
    drop(tokio::time::timeout(GRACE, graceful.shutdown()).await);
    Ok(())
}

type Connection =
    hyper::server::conn::http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>>;

fn connection(stream: TcpStream, router: &Router) -> Connection {
    let service = TowerToHyperService::new(router.clone());
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
}
