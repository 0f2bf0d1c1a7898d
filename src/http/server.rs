//! Connections, and their bounds: how many, how long a request may take to come and to be answered,
//! how long a client may leave an answer unread.

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
/// A request's head is no longer.
const HEAD_BYTES: usize = 16 * 1024;
/// How long a connection is kept for further requests: a scraper makes another.
const CONNECTION: Duration = Duration::from_secs(30);
/// What the request that is open then gets to be answered and read.
const REQUEST: Duration = Duration::from_secs(10);
/// What open requests get at the stop.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// After a failed accept, as when no descriptor is free.
const AGAIN: Duration = Duration::from_millis(200);

/// Answers until `stop` resolves; then finishes the requests that are open, for two seconds at most.
/// Owns every connection: none is left when it returns or is dropped.
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
    // Who is not through by now is cut off.
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

/// Lets an answer tell its connection that it is a stream.
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

/// One connection's life. A client that breaks off, or is too slow, has itself to blame.
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
