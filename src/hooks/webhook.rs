//! A webhook: one POST over plain HTTP. Only the status of the response counts.

use std::pin::pin;

use axum::body::Body;
use hyper::{
    Request, Uri,
    client::conn::http1,
    header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::frames::RunEnd;

/// Maximum size of a response's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Sends the lines as a JSON array.
pub async fn run(url: &str, lines: &[String]) -> RunEnd {
    match send(url, lines).await {
        Ok(status) if status.is_success() => RunEnd::Done,
        Ok(status) => RunEnd::Failed(format!("{url} returned {status}")),
        Err(error) => RunEnd::Failed(format!("{url}: {error}")),
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

async fn send(url: &str, lines: &[String]) -> Result<hyper::StatusCode, Error> {
    let uri: Uri = url.parse()?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
    let request = Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, uri.authority().map(ToString::to_string).unwrap_or_default())
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("tidemill/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Body::from(format!("[{}]", lines.join(","))))?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let (mut sending, mut connection) = (pin!(sender.send_request(request)), pin!(connection));
    let response = tokio::select! {
        biased;
        response = &mut sending => response,
        // The connection closed, with a response or without.
        _ = &mut connection => sending.await,
    };
    Ok(response?.status())
}
