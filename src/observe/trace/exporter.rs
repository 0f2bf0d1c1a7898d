//! The task that sends traces: OTLP over HTTP, one request at a time on one connection.
//!
//! What arrives while a request is under way goes with the next one. A receiver that is away, or too
//! busy, gets the same request again after a doubling wait, while the queue fills and then drops.

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

/// Sends traces until the stop. Dropping it drops what was not sent.
#[derive(Debug)]
pub struct OtlpExporter {
    traces: mpsc::Receiver<FileTrace>,
    dropped: Counter,
    address: SocketAddr,
    path: String,
    /// What goes with the next request, and stays until one is taken.
    batch: Vec<FileTrace>,
    link: Option<OtlpConnection>,
    is_away: bool,
}

/// A connection. Dropping it closes it.
#[derive(Debug)]
struct OtlpConnection {
    requests: SendRequest<Body>,
    _driver: AbortOnDropHandle<()>,
}

type OtlpError = Box<dyn std::error::Error + Send + Sync>;

/// What became of a request.
enum OtlpResponse {
    Taken,
    /// It would be refused again.
    Refused(StatusCode),
}

impl OtlpExporter {
    pub(super) fn new(otlp: &Otlp, traces: mpsc::Receiver<FileTrace>, dropped: Counter) -> Self {
        let path = format!("{}/v1/traces", otlp.base);
        let (address, batch, link) = (otlp.address, Vec::new(), None);
        Self { traces, dropped, address, path, batch, link, is_away: false }
    }

    /// Sends until `stop` resolves; then once more, for [`limits::OTLP_FLUSH_TIMEOUT`] at most.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Infallible> {
        let mut stop = pin!(stop);
        let mut again = limits::OTLP_BATCH_DELAY;
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = self.gathered(again) => {}
            }
            let sent = tokio::select! {
                () = &mut stop => break,
                sent = self.send_all() => sent,
            };
            again = match sent {
                Ok(()) => limits::OTLP_BATCH_DELAY,
                Err(_) => (again * 2).min(limits::OTLP_RETRY_MAX),
            };
        }
        // A request that the stop cut off may have arrived: it tells the same spans again.
        let flushed = timeout(limits::OTLP_FLUSH_TIMEOUT, self.send_all()).await;
        let left = self.batch.len() + self.take(usize::MAX).len();
        if left > 0 {
            self.dropped.increment(left as u64);
            tracing::warn!(
                event = "otlp.dropped",
                files = left,
                timed_out = flushed.is_err(),
                "last OTLP traces not sent"
            );
        }
        Ok(())
    }

    /// Waits until there is something to send, and a little more for what comes with it.
    async fn gathered(&mut self, wait: Duration) {
        if self.batch.is_empty() && self.traces.recv_many(&mut self.batch, 1).await == 0 {
            // Nobody is left to make any.
            return std::future::pending().await;
        }
        sleep(wait).await;
    }

    /// What waits, taken out of the queue: at most so many.
    pub(super) fn take(&mut self, most: usize) -> Vec<FileTrace> {
        std::iter::from_fn(|| self.traces.try_recv().ok()).take(most).collect()
    }

    async fn send_all(&mut self) -> Result<(), OtlpError> {
        loop {
            let more = self.take(limits::OTLP_BATCH_TRACES_MAX.saturating_sub(self.batch.len()));
            self.batch.extend(more);
            if self.batch.is_empty() {
                return Ok(());
            }
            let body = spans::request(&self.batch).into();
            let answer = timeout(limits::OTLP_TIMEOUT, self.post(body)).await;
            let answer = answer.map_err(OtlpError::from).flatten();
            self.log_response(&answer);
            match answer {
                Ok(OtlpResponse::Taken) => {}
                Ok(OtlpResponse::Refused(_)) => self.dropped.increment(self.batch.len() as u64),
                Err(failure) => return Err(failure),
            }
            self.batch.clear();
        }
    }

    async fn post(&mut self, body: Bytes) -> Result<OtlpResponse, OtlpError> {
        let mut link = match self.link.take().filter(|link| !link.requests.is_closed()) {
            Some(link) => link,
            None => OtlpConnection::open(self.address).await?,
        };
        let request = Request::post(&self.path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Body::from(body))?;
        link.requests.ready().await?;
        let (head, answer) = link.requests.send_request(request).await?.into_parts();
        // Read to its end, so that the connection can be used again.
        to_bytes(Body::new(answer), limits::OTLP_RESPONSE_BYTES_MAX).await?;
        self.link = Some(link);
        match head.status {
            status if status.is_success() => Ok(OtlpResponse::Taken),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(format!("it answers {}", head.status).into()),
            status => Ok(OtlpResponse::Refused(status)),
        }
    }

    /// Says when the receiver falls away, and when it is back.
    fn log_response(&mut self, answer: &Result<OtlpResponse, OtlpError>) {
        let was_away =
            std::mem::replace(&mut self.is_away, !matches!(answer, Ok(OtlpResponse::Taken)));
        match answer {
            Ok(OtlpResponse::Taken) if was_away => {
                tracing::info!(event = "otlp.resumed", address = %self.address, "OTLP export resumed");
            }
            Ok(OtlpResponse::Refused(status)) if !was_away => {
                tracing::warn!(event = "otlp.rejected", address = %self.address, %status, "OTLP traces rejected and dropped");
            }
            Err(error) if !was_away => {
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
