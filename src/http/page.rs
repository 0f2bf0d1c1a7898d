//! The page for a browser, and its parts; a short index for other programs.

use axum::{
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
};

/// Only the page's own parts are loaded, nothing frames it, and it speaks to this service only.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const INDEX: &str = "Tidemill
/metrics              Prometheus text
/livez                200 while the process lives
/readyz               200 while files are taken in; else 503 and why not
/api/v1/status        JSON; /api/v1/openapi.json describes the rest
";

fn part(kind: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // Another version of the service has other parts.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

pub async fn index(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let mut response = if accept.is_some_and(|accept| accept.contains("text/html")) {
        part("text/html; charset=utf-8", include_str!("page/index.html"))
    } else {
        part("text/plain; charset=utf-8", INDEX)
    };
    response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("Accept"));
    response
}

pub async fn css() -> Response {
    part("text/css; charset=utf-8", include_str!("page/page.css"))
}

pub async fn js() -> Response {
    part("text/javascript; charset=utf-8", include_str!("page/page.js"))
}

pub async fn openapi() -> Response {
    part("application/json", include_str!("openapi.json"))
}
