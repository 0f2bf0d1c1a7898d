//! Connections and their limits: their number, the time for a request and its answer, and the time
//! that a client may leave an answer unread.

use std::{pin::pin, time::Duration};

use axum::{Router, body::Body, http::Response};
use hyper::{Request, body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    App,
    connection::{Listener, WriteTimeout},
    router,
    stream::OpenStreams,
};

/// Connections at one time; more wait to be accepted. Of these, at most [`crate::limits::STREAMS_MAX`]
/// are streams.
pub(super) const CONNECTIONS: usize = 64;
/// From the end of one request, or the connection's begin, to the end of the next one's head.
pub(super) const HEAD: Duration = Duration::from_secs(5);
/// The most bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;
/// How long a connection stays open for further requests: a scraper opens another.
const CONNECTION: Duration = Duration::from_secs(30);
/// The time for a request that is open then to be answered and read.
const REQUEST: Duration = Duration::from_secs(10);
/// The time for open requests at the stop.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// The wait after a failed accept, for example when no descriptor is free.
const AGAIN: Duration = Duration::from_millis(200);

/// Serves until `stop` resolves; then finishes open requests for at most two seconds.
/// Owns every connection: none remains when it returns or is dropped.
pub async fn serve(
    listener: Listener,
    app: App,
    stop: impl Future<Output = ()>,
) -> Result<(), std::io::Error> {
    let ending = app.ending.clone();
    let router = router(app);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let has_room = connections.len() < CONNECTIONS;
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener), if has_room => if let Some(stream) = accepted {
                connections.spawn(answer(stream, router.clone(), ending.clone()));
            },
        }
    }
    drop(listener);
    ending.cancel();
    let finished = async { while connections.join_next().await.is_some() {} };
    // Unfinished requests are cut off.
    drop(timeout(GRACE, finished).await);
    connections.shutdown().await;
    Ok(())
}

async fn accept(listener: &Listener) -> Option<WriteTimeout> {
    match listener.accept().await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(event = "http.accept_failed", %error, "cannot accept a connection");
            sleep(AGAIN).await;
            None
        }
    }
}

/// Lets an answer mark its connection as a stream.
struct Serving {
    router: TowerToHyperService<Router>,
    open: OpenStreams,
}

impl Service<Request<Incoming>> for Serving {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.open.clone());
        self.router.call(request)
    }
}

/// Serves one connection to its end. Errors of a client that disconnects or is too slow are ignored.
async fn answer(stream: WriteTimeout, router: Router, ending: CancellationToken) {
    let open = OpenStreams::default();
    let serving = Serving { router: TowerToHyperService::new(router), open: open.clone() };
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), serving)
    );
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = ending.cancelled() => break,
            () = sleep(CONNECTION) => if !open.is_streaming() { break },
        }
    }
    connection.as_mut().graceful_shutdown();
    drop(timeout(REQUEST, connection).await);
}
