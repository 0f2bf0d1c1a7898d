//! The page for a browser and its parts; a short index for other programs.

use axum::{
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::Route;

/// The page loads only its own parts, connects only to this service, and no other page frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The parts of the page except its index: path, content type and text. A new module of the script
/// needs a line here.
const PARTS: [(&str, &str, &str); 16] = [
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/page.css", STYLE, include_str!("page/page.css")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/actions.js", SCRIPT, include_str!("page/actions.js")),
    ("/calls.js", SCRIPT, include_str!("page/calls.js")),
    ("/charts.js", SCRIPT, include_str!("page/charts.js")),
    ("/config.js", SCRIPT, include_str!("page/config.js")),
    ("/diagram.js", SCRIPT, include_str!("page/diagram.js")),
    ("/listing.js", SCRIPT, include_str!("page/listing.js")),
    ("/pace.js", SCRIPT, include_str!("page/pace.js")),
    ("/quarantine.js", SCRIPT, include_str!("page/quarantine.js")),
    ("/records.js", SCRIPT, include_str!("page/records.js")),
    ("/scales.js", SCRIPT, include_str!("page/scales.js")),
    ("/state.js", SCRIPT, include_str!("page/state.js")),
    ("/words.js", SCRIPT, include_str!("page/words.js")),
    ("/work.js", SCRIPT, include_str!("page/work.js")),
];

const INDEX: &str = "Tidemill
/metrics              Prometheus text
/livez                200 while the service makes progress; 503 while it is stalled
/readyz               200 while files are taken in; else 503 and the reason
/api/v1/status        JSON; /api/v1/openapi.json describes the rest
";

fn part(kind: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // Each version of the service has its own parts.
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

pub(super) fn routes() -> impl Iterator<Item = Route> {
    let answer = |(path, kind, text)| ("GET", path, get(async move || part(kind, text)));
    PARTS.into_iter().map(answer)
}

pub async fn openapi() -> Response {
    part("application/json", include_str!("openapi.json"))
}
