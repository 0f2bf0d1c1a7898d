//! The exporter of traces: OTLP over HTTP, one request at a time on one connection.
//!
//! Traces that arrive during a request go with the next one. A request to an unavailable or busy
//! receiver is retried with a doubling delay, while the queue fills and then drops traces.

use std::{convert::Infallible, net::SocketAddr, pin::pin, time::Duration};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use hyper::{
    Request, StatusCode,
    client::conn::http1::{SendRequest, handshake},
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use metrics::Counter;
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{file_trace::FileTrace, spans};
use crate::{limits, policy::Otlp};

/// Sends traces until the stop. Dropping it drops unsent traces.
#[derive(Debug)]
pub struct OtlpExporter {
    traces: mpsc::Receiver<FileTrace>,
    dropped: Counter,
    address: SocketAddr,
    path: String,
    /// Traces of the next request. They stay until a request is accepted.
    batch: Vec<FileTrace>,
    connection: Option<OtlpConnection>,
    is_unavailable: bool,
}

/// A connection. Dropping it closes it.
#[derive(Debug)]
struct OtlpConnection {
    requests: SendRequest<Body>,
    _driver: AbortOnDropHandle<()>,
}

type OtlpError = Box<dyn std::error::Error + Send + Sync>;

/// Result of a request.
enum OtlpResponse {
    Accepted,
    /// The receiver would reject it again.
    Rejected(StatusCode),
}

impl OtlpExporter {
    pub(super) fn new(otlp: &Otlp, traces: mpsc::Receiver<FileTrace>, dropped: Counter) -> Self {
        let path = format!("{}/v1/traces", otlp.base);
        let (address, batch, connection) = (otlp.address, Vec::new(), None);
        Self { traces, dropped, address, path, batch, connection, is_unavailable: false }
    }

    /// Sends until `stop` resolves, and then flushes for at most [`limits::OTLP_FLUSH_TIMEOUT`].
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Infallible> {
        let mut stop = pin!(stop);
        let mut delay = limits::OTLP_BATCH_DELAY;
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = self.gather(delay) => {}
            }
            let sent = tokio::select! {
                () = &mut stop => break,
                sent = self.send_all() => sent,
            };
            delay = match sent {
                Ok(()) => limits::OTLP_BATCH_DELAY,
                Err(_) => (delay * 2).min(limits::OTLP_RETRY_MAX),
            };
        }
        // A request that the stop cancelled may have arrived; the flush repeats its spans.
        let flushed = timeout(limits::OTLP_FLUSH_TIMEOUT, self.send_all()).await;
        let unsent = self.batch.len() + self.take(usize::MAX).len();
        if unsent > 0 {
            self.dropped.increment(unsent as u64);
            tracing::warn!(
                event = "otlp.dropped",
                files = unsent,
                timed_out = flushed.is_err(),
                "last OTLP traces not sent"
            );
        }
        Ok(())
    }

    /// Waits for a trace, and then for `wait`, to gather a batch.
    async fn gather(&mut self, wait: Duration) {
        if self.batch.is_empty() && self.traces.recv_many(&mut self.batch, 1).await == 0 {
            // All tracers were dropped.
            return std::future::pending().await;
        }
        sleep(wait).await;
    }

    /// Takes waiting traces out of the queue, at most `max`.
    pub(super) fn take(&mut self, max: usize) -> Vec<FileTrace> {
        std::iter::from_fn(|| self.traces.try_recv().ok()).take(max).collect()
    }

    async fn send_all(&mut self) -> Result<(), OtlpError> {
        loop {
            let more = self.take(limits::OTLP_BATCH_TRACES_MAX.saturating_sub(self.batch.len()));
            self.batch.extend(more);
            if self.batch.is_empty() {
                return Ok(());
            }
            let body = spans::request(&self.batch).into();
            let response = timeout(limits::OTLP_TIMEOUT, self.post(body)).await;
            let response = response.map_err(OtlpError::from).flatten();
            self.log_response(&response);
            match response {
                Ok(OtlpResponse::Accepted) => {}
                Ok(OtlpResponse::Rejected(_)) => self.dropped.increment(self.batch.len() as u64),
                Err(failure) => return Err(failure),
            }
            self.batch.clear();
        }
    }

    async fn post(&mut self, body: Bytes) -> Result<OtlpResponse, OtlpError> {
        let open = self.connection.take().filter(|connection| !connection.requests.is_closed());
        let mut connection = match open {
            Some(connection) => connection,
            None => OtlpConnection::open(self.address).await?,
        };
        let request = Request::post(&self.path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Body::from(body))?;
        connection.requests.ready().await?;
        let (head, body) = connection.requests.send_request(request).await?.into_parts();
        // Reading the body to its end lets the connection be reused.
        to_bytes(Body::new(body), limits::OTLP_RESPONSE_BYTES_MAX).await?;
        self.connection = Some(connection);
        match head.status {
            status if status.is_success() => Ok(OtlpResponse::Accepted),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(format!("status {}", head.status).into()),
            status => Ok(OtlpResponse::Rejected(status)),
        }
    }

    /// Logs when the receiver becomes unavailable, and when it is available again.
    fn log_response(&mut self, response: &Result<OtlpResponse, OtlpError>) {
        let was_unavailable = std::mem::replace(
            &mut self.is_unavailable,
            !matches!(response, Ok(OtlpResponse::Accepted)),
        );
        match response {
            Ok(OtlpResponse::Accepted) if was_unavailable => {
                tracing::info!(event = "otlp.resumed", address = %self.address, "OTLP export resumed");
            }
            Ok(OtlpResponse::Rejected(status)) if !was_unavailable => {
                tracing::warn!(event = "otlp.rejected", address = %self.address, %status, "OTLP traces rejected and dropped");
            }
            Err(error) if !was_unavailable => {
                tracing::warn!(event = "otlp.unavailable", address = %self.address, error, "cannot send OTLP traces, retrying");
            }
            _ => {}
        }
    }
}

impl OtlpConnection {
    async fn open(address: SocketAddr) -> Result<Self, OtlpError> {
        let stream = TcpStream::connect(address).await?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(event = "otlp.closed", %error, "OTLP connection closed");
            }
        });
        Ok(Self { requests, _driver: AbortOnDropHandle::new(driver) })
    }
}
