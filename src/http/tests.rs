use std::time::Duration;

use tidemill_lifecycle::{Deadlines, Lifecycle, Signals};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

use super::*;
use crate::{
    config::{self, Options, PipelineOptions},
    ledger::{Ledger, sqlite::Sqlite},
    outcome::State,
    sandbox::SandboxState,
};

mod streams;

struct Running {
    address: SocketAddr,
    observer: Arc<Observer>,
    _dir: tempfile::TempDir,
    _life: Lifecycle,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), io::Error>>,
}

async fn start() -> Running {
    let any = Http::At(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let bound = bind(any).await.expect("bind").expect("on");
    let exporter = crate::observe::install_exporter().expect("recorder");
    let observer = Arc::new(Observer::new(&["main".into()], &[("claim", 64)]));
    let dir = tempfile::tempdir().expect("a directory");
    let life = Lifecycle::new(Deadlines::default(), Signals::none().expect("none")).expect("life");
    let api_state = Arc::new(api_state(dir.path(), &life));
    let app = App::new(Some(exporter), Arc::clone(&observer), api_state, Transport::Tcp);
    let (stop, stopped) = oneshot::channel();
    let address = bound.address;
    let ended = tokio::spawn(serve(bound.listener, app, async move { drop(stopped.await) }));
    Running { address, observer, _dir: dir, _life: life, stop, ended }
}

/// Of a service in this directory, whose token is `0123456789abcdef`.
fn api_state(dir: &std::path::Path, life: &Lifecycle) -> ApiState {
    let at = |name: &str| Some(dir.join(name));
    std::fs::create_dir(dir.join("in")).expect("an input");
    let pipeline =
        PipelineOptions { input: at("in"), output: at("out"), ..PipelineOptions::default() };
    let options = Options { pipeline, ..Options::default() };
    let config = config::load(&options).expect("a configuration");
    let ledger: Arc<dyn Ledger> =
        Arc::new(Sqlite::open(&dir.join("ledger.sqlite")).expect("a ledger"));
    std::fs::write(dir.join("token"), "0123456789abcdef\n").expect("a token");
    let token = Token::read(&dir.join("token")).expect("a token");
    let (_, config) = tokio::sync::watch::channel(Arc::new(config));
    let in_force = (config, SandboxState::Off);
    ApiState::new(life.handle().clone(), in_force, Some(token), (Arc::clone(&ledger), ledger))
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    stream.write_all(request.as_bytes()).await.expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("receive");
    answer
}

async fn get(address: SocketAddr, path: &str) -> String {
    exchange(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    )
    .await
}

#[tokio::test]
async fn every_route_answers() {
    let running = start().await;
    assert!(get(running.address, "/").await.contains("/metrics"));
    let browser =
        "GET / HTTP/1.1\r\nHost: [::1]:1\r\nAccept: text/html,*/*\r\nConnection: close\r\n\r\n";
    let page = exchange(running.address, browser).await;
    assert!(page.contains("content-type: text/html") && page.contains("<!doctype html>"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'; script-src 'self'"));
    assert!(get(running.address, "/livez").await.ends_with("ok\n"));
    let early = get(running.address, "/readyz").await;
    assert!(early.starts_with("HTTP/1.1 503") && early.contains("STARTING"), "{early}");
    running.observer.set_phase(crate::phase::ProcessPhase::Ready);
    assert!(get(running.address, "/readyz").await.starts_with("HTTP/1.1 200"));
    running.observer.set_stall(None, Some("pipeline main: nothing moved".to_owned()));
    assert!(get(running.address, "/livez").await.ends_with("ok\n"));
    assert!(get(running.address, "/readyz").await.contains("pipeline main: nothing moved"));
    running.observer.set_stall(Some("nothing moved".to_owned()), None);
    let still = get(running.address, "/livez").await;
    assert!(still.starts_with("HTTP/1.1 503") && still.contains("nothing moved"), "{still}");
    running.observer.set_stall(None, None);
    let meter = running.observer.pipeline(0).expect("a pipeline");
    meter.paused(crate::observe::Pause::Output, Some("No space left on device"));
    let paused = get(running.address, "/readyz").await;
    assert!(paused.contains("main pauses: No space left"), "{paused}");
    let metrics = get(running.address, "/metrics").await;
    assert!(metrics.contains("tidemill_files_total{pipeline=\"main\",outcome=\"published\"} 0"));
    assert!(metrics.contains("text/plain; version=0.0.4"));
    let status = get(running.address, "/api/v1/status").await;
    assert!(status.contains("\"phase\":\"READY\""), "{status}");
    assert!(get(running.address, "/nothing").await.starts_with("HTTP/1.1 404"));
    let post =
        "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let refused = exchange(running.address, post).await;
    assert!(refused.starts_with("HTTP/1.1 405"), "{refused}");
    assert!(
        refused.contains("allow: GET") && refused.contains("\"error\":\"method\""),
        "{refused}"
    );
    running.stop.send(()).expect("running");
    running.ended.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn each_part_of_the_page_is_served_as_it_is() {
    let running = start().await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/page");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("list") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        if name == "index.html" {
            continue;
        }
        let served = get(running.address, &format!("/{name}")).await;
        let (head, body) = served.split_once("\r\n\r\n").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200"), "/{name}: {head}");
        assert!(head.contains("content-security-policy: default-src 'none'"), "/{name}: {head}");
        assert_eq!(body, std::fs::read_to_string(&path).expect("a text"), "/{name}");
        count += 1;
    }
    assert!(count > 2, "{count}");
}

#[test]
fn the_page_offers_every_state_as_a_filter() {
    let page = include_str!("page/index.html");
    let select = page.split("<select id=\"outcome-state\">").nth(1).expect("the filter");
    let select = select.split("</select>").next().expect("its end");
    let offered: Vec<_> =
        select.split("value=\"").filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(offered[2..], *State::WORDS);
}

/// Opens the most connections allowed; each is served once and then silent within a request.
async fn crowd(address: SocketAddr) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for _ in 0..server::CONNECTIONS {
        let mut silent = TcpStream::connect(address).await.expect("connect");
        silent.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("send");
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok\n") {
            assert_ne!(silent.read_buf(&mut answer).await.expect("receive"), 0);
        }
        silent.write_all(b"GET /metr").await.expect("send");
        crowd.push(silent);
    }
    crowd
}

#[tokio::test]
async fn two_hundred_scrapes_at_once_are_all_answered() {
    let running = start().await;
    let scrapes = (0..200).map(|_| tokio::spawn(get(running.address, "/metrics")));
    for scrape in scrapes.collect::<Vec<_>>() {
        let answer = scrape.await.expect("no panic");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("tidemill_phase"), "{answer}");
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_clients_that_say_nothing_even_when_no_more_may_connect() {
    let running = start().await;
    let crowd = crowd(running.address).await;
    running.stop.send(()).expect("running");
    let ended = tokio::time::timeout(server::GRACE * 2, running.ended).await.expect("in time");
    ended.expect("no panic").expect("no error");
    for mut silent in crowd {
        // The server closed its side: nothing outlives `serve`.
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(server::GRACE, silent.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "a connection outlives the server");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_say_nothing_are_dropped_and_make_place_for_others() {
    let running = start().await;
    let crowd = crowd(running.address).await;
    let began = tokio::time::Instant::now();
    assert!(get(running.address, "/livez").await.ends_with("ok\n"));
    let waited = began.elapsed();
    assert!(waited <= server::HEAD + Duration::from_secs(1), "{waited:?}");
    drop(crowd);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_and_never_reads_is_dropped() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.address).await.expect("connect");
    let asking = async {
        while stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.is_ok() {}
    };
    let minute = Duration::from_mins(1);
    tokio::time::timeout(minute, asking).await.expect("dropped within a minute");
}

#[tokio::test]
async fn an_address_that_was_named_and_is_taken_is_an_error() {
    let running = start().await;
    let error = bind(Http::At(running.address)).await.expect_err("taken");
    assert!(error.to_string().contains(&running.address.to_string()), "{error}");
}

#[tokio::test]
async fn a_default_address_that_is_taken_gives_another_port_on_loopback() {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, limits::HTTP_PORT));
    // Where another program has the port already, the test works as well.
    let holder = TcpListener::bind(default).await;
    let bound = bind(Http::Default).await.expect("bind").expect("on");
    assert!(bound.address.ip().is_loopback());
    assert_ne!(bound.address.port(), limits::HTTP_PORT);
    assert_eq!(bound.taken, Some(default));
    drop(holder);
}

#[tokio::test]
async fn http_that_is_off_listens_nowhere() {
    assert!(bind(Http::Off).await.expect("no error").is_none());
}

/// The answer to a POST of `{}` with these headers.
async fn post(address: SocketAddr, path: &str, headers: &str) -> String {
    let head = format!("POST {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n");
    exchange(address, &format!("{head}{headers}\r\n{{}}")).await
}

const HOST: &str = "Host: localhost\r\n";
const JSON: &str = "Content-Type: application/json\r\n";
const TOKEN: &str = "Authorization: Bearer 0123456789abcdef\r\n";

#[tokio::test]
async fn a_change_needs_the_token_json_and_a_page_of_its_own() {
    let running = start().await;
    let other = "Authorization: Bearer 0123456789abcdeg\r\n";
    let basic = "Authorization: Basic 0123456789abcdef\r\n";
    let site = "Origin: http://evil.example\r\n";
    for (headers, status, error) in [
        (format!("{HOST}{JSON}"), 401, "token"),
        (format!("{HOST}{JSON}{other}"), 401, "wrong_token"),
        (format!("{HOST}{JSON}{basic}"), 401, "wrong_token"),
        (format!("{HOST}{TOKEN}"), 415, "content_type"),
        (format!("{HOST}{TOKEN}Content-Type: text/plain\r\n"), 415, "content_type"),
        (format!("{HOST}{TOKEN}{JSON}{site}"), 403, "site"),
        (format!("{HOST}{TOKEN}{JSON}Sec-Fetch-Site: cross-site\r\n"), 403, "site"),
        (format!("Host: evil.example\r\n{JSON}"), 403, "host"),
        // The request is valid, and the service is still starting.
        (format!("{HOST}{TOKEN}{JSON}"), 409, "starting"),
    ] {
        let answer = post(running.address, "/api/v1/pause", &headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}{answer}");
        assert!(answer.contains(&format!("\"error\":\"{error}\"")), "{headers}{answer}");
        assert_eq!(answer.contains("www-authenticate: Bearer"), status == 401, "{answer}");
    }
}

#[tokio::test]
async fn a_read_by_another_name_or_for_another_site_is_refused() {
    let running = start().await;
    for (headers, status) in [
        ("Host: 127.0.0.1\r\n", 200),
        ("Host: evil.example\r\n", 403),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", 403),
        ("Host: localhost\r\nSec-Fetch-Site: none\r\n", 200),
        // A client with the token is no page.
        ("Host: tidemill.example\r\nAuthorization: Bearer 0123456789abcdef\r\n", 200),
    ] {
        let request = format!("GET /api/v1/work HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        let answer = exchange(running.address, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}{answer}");
        assert!(!answer.to_lowercase().contains("access-control-allow"), "{answer}");
    }
    let scrape =
        "GET /metrics HTTP/1.1\r\nHost: tidemill.monitoring.svc:9464\r\nConnection: close\r\n\r\n";
    assert!(exchange(running.address, scrape).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn bodies_and_queries_that_are_wrong_or_too_large_are_refused() {
    let running = start().await;
    let send = |path: &'static str, body: String| {
        let (address, length) = (running.address, body.len());
        async move {
            let head = format!("POST {path} HTTP/1.1\r\nConnection: close\r\n{HOST}{JSON}{TOKEN}");
            exchange(address, &format!("{head}Content-Length: {length}\r\n\r\n{body}")).await
        }
    };
    for (path, body, status) in [
        ("/api/v1/pause", "{".to_owned(), 400),
        ("/api/v1/pause", "[]".to_owned(), 400),
        ("/api/v1/pause", "{\"pipelin\":\"main\"}".to_owned(), 400),
        ("/api/v1/requeue", "{}".to_owned(), 400),
        ("/api/v1/requeue", "{\"ids\":[1],\"all\":true}".to_owned(), 400),
        ("/api/v1/requeue", "{\"ids\":[\"one\"]}".to_owned(), 400),
        ("/api/v1/reload", "{}".to_owned(), 409),
        ("/api/v1/pause", " ".repeat(limits::BODY_BYTES_MAX + 1), 413),
    ] {
        let answer = send(path, body.clone()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{body:.40} {answer}");
    }
    for query in ["limit=0", "limit=501", "limit=x", "state=lost", "before=x"] {
        let answer = get(running.address, &format!("/api/v1/outcomes?{query}")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{query} {answer}");
        assert!(answer.contains("\"error\":\"malformed\""), "{query} {answer}");
    }
    let long = "x".repeat(limits::SEARCH_BYTES_MAX + 1);
    let answer = get(running.address, &format!("/api/v1/quarantine?search={long}")).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let huge = "x".repeat(64 * 1024);
    let answer = get(running.address, &format!("/api/v1/explain?path={huge}")).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.is_empty(), "{answer}");
}

#[test]
fn every_route_is_in_the_document_and_the_other_way_round() {
    use std::collections::BTreeSet;
    let document: serde_json::Value =
        serde_json::from_str(include_str!("openapi.json")).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let documented: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").keys();
            methods.map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    // The document leaves out the page's parts.
    let routes = open_routes().into_iter().chain(guarded_routes());
    let routed = routes.map(|(method, path, _)| (method.to_owned(), path.to_owned()));
    assert_eq!(routed.collect::<BTreeSet<_>>(), documented);
}
