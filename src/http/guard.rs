//! Access control: pages of other sites get nothing, and changes need a token or the socket.
//!
//! G1: over TCP only metrics and probes answer to a name other than this machine's address or
//! `localhost`: a page of another site whose name resolves to this address gets nothing.
//! G2: a change comes from the service's own page or from a program, never from another site's page,
//! and is in JSON, which no form can send.
//! G3: a change over TCP needs the token; without a configured one every change is refused.

use std::{io, net::IpAddr, path::Path};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{App, Transport, problem::Problem};

/// The length of a token in bytes.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=1024;

/// The secret that permits changes. Only its hash is kept.
#[derive(Clone, Debug)]
pub struct Token(blake3::Hash);

/// The reason why there is no usable token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("cannot read it")]
    Read(#[from] io::Error),
    #[error(
        "it holds {0} bytes, and a token is one line of 16 to 1024 visible ASCII letters: `head -c 32 /dev/urandom | base64 > FILE` makes one"
    )]
    Shape(usize),
}

impl Token {
    /// Reads the token from a file that holds nothing else but white space around it.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        use io::Read;
        let mut text = Vec::new();
        let most = *TOKEN_BYTES.end() as u64 + 64;
        std::fs::File::open(path)?.take(most).read_to_end(&mut text)?;
        let token = text.trim_ascii();
        if !TOKEN_BYTES.contains(&token.len()) || !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Shape(token.len()));
        }
        Ok(Self(blake3::hash(token)))
    }

    /// Takes the same time for every candidate: the hash type compares in constant time.
    fn is(&self, given: &[u8]) -> bool {
        self.0 == blake3::hash(given)
    }
}

/// Checks each request except those for metrics and probes, and adds the headers that limit browsers.
pub async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let mut response = match check(&app, &parts) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn check(app: &App, request: &Parts) -> Result<(), Problem> {
    let changes = request.method != Method::GET && request.method != Method::HEAD;
    let headers = &request.headers;
    if app.transport == Transport::Tcp {
        let authorized = is_authorized(app, headers);
        if authorized != Some(true) {
            host(headers)?;
        }
        site(headers, changes)?;
        if changes {
            allowed(app, authorized)?;
        }
    }
    if changes {
        json(headers)?;
    }
    Ok(())
}

/// G1.
fn host(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_own(host) {
        return Ok(());
    }
    let detail = "this answers to an address or to `localhost` only: use http://127.0.0.1 with the port, or have the proxy in front send `Host: localhost`";
    Err(Problem::new(StatusCode::FORBIDDEN, "host", detail))
}

/// Whether a `Host` is an address or `localhost`, with or without a port.
fn is_own(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port))
            if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            name
        }
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_address = match bare {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
        None => matches!(name.parse::<IpAddr>(), Ok(IpAddr::V4(_))),
    };
    is_address || name.eq_ignore_ascii_case("localhost")
}

/// G2, by the headers of browsers. Reads are refused to other sites, too: they could not see an answer
/// but could request many.
fn site(headers: &HeaderMap, changes: bool) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let refused = Err(Problem::new(
        StatusCode::FORBIDDEN,
        "site",
        "a page of another site made this request: open the service's own page, or use a program",
    ));
    match text("sec-fetch-site") {
        None | Some("same-origin") => {}
        Some("none") if !changes => {}
        Some(_) => return refused,
    }
    let (Some(origin), true) = (text("origin"), changes) else { return Ok(()) };
    let host = text("host").unwrap_or_default();
    let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if own.is_some_and(|own| own.eq_ignore_ascii_case(host)) { Ok(()) } else { refused }
}

/// `None` where the request or the service has no token.
fn is_authorized(app: &App, headers: &HeaderMap) -> Option<bool> {
    let given = headers.get(header::AUTHORIZATION)?.as_bytes();
    let token = app.api_state.token()?;
    let (scheme, given) = given.split_at_checked(b"Bearer ".len())?;
    Some(scheme.eq_ignore_ascii_case(b"Bearer ") && token.is(given.trim_ascii()))
}

/// G3.
fn allowed(app: &App, authorized: Option<bool>) -> Result<(), Problem> {
    if app.api_state.token().is_none() {
        let detail = "changes over TCP need a token, and none is configured: start the service with `--admin-token-file FILE`, or use its Unix socket (`tidemill pause`, `tidemill drain`, …)";
        return Err(Problem::new(StatusCode::FORBIDDEN, "no_token", detail));
    }
    match authorized {
        Some(true) => Ok(()),
        Some(false) => {
            tracing::warn!(event = "http.token_rejected", "request with a wrong token rejected");
            let detail = "the token does not match the service's `admin_token_file`";
            Err(Problem::new(StatusCode::UNAUTHORIZED, "wrong_token", detail))
        }
        None => {
            let detail = "send `Authorization: Bearer TOKEN` with the token in the service's `admin_token_file`";
            Err(Problem::new(StatusCode::UNAUTHORIZED, "token", detail))
        }
    }
}

fn json(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = "send `Content-Type: application/json` and a JSON object, `{}` at least";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_own_names() {
        for own in
            ["127.0.0.1", "127.0.0.1:9464", "[::1]:9464", "[::1]", "LocalHost:80", "10.1.2.3"]
        {
            assert!(is_own(own), "{own}");
        }
        for other in [
            "",
            "x",
            "example.com:9464",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "::1",
            ":80",
            "[x]",
            "127.0.0.1:",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }

    #[test]
    fn another_site_may_neither_change_nor_read() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            headers
        };
        let host = ("host", "127.0.0.1:1");
        for allowed in [
            &[host][..],
            &[host, ("origin", "http://127.0.0.1:1"), ("sec-fetch-site", "same-origin")],
            &[host, ("origin", "https://127.0.0.1:1")],
        ] {
            assert_eq!(site(&headers(allowed), true), Ok(()), "{allowed:?}");
        }
        for refused in [
            &[host, ("origin", "http://evil.example")][..],
            &[host, ("origin", "null")],
            &[host, ("origin", "http://127.0.0.1:2")],
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-site")],
            &[host, ("sec-fetch-site", "none")],
        ] {
            assert!(site(&headers(refused), true).is_err(), "{refused:?}");
        }
        assert!(site(&headers(&[host, ("sec-fetch-site", "none")]), false).is_ok());
        assert!(site(&headers(&[host, ("sec-fetch-site", "cross-site")]), false).is_err());
    }

    #[test]
    fn a_token_is_one_line_of_visible_letters() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        let read = |text: &[u8]| {
            std::fs::write(&path, text).expect("a file");
            Token::read(&path)
        };
        let token = read(b"0123456789abcdef\n").expect("a token");
        assert!(token.is(b"0123456789abcdef"));
        assert!(!token.is(b"0123456789abcdeF") && !token.is(b""));
        for bad in
            [&b""[..], b"short\n", b"0123456789 abcdef", b"0123456789\nabcdef", &[b'a'; 1025]]
        {
            assert!(matches!(read(bad), Err(TokenError::Shape(_))), "{bad:?}");
        }
        assert!(matches!(Token::read(&dir.path().join("none")), Err(TokenError::Read(_))));
    }
}
