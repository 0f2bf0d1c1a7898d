use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

use super::*;

struct Running {
    address: SocketAddr,
    observer: Arc<Observer>,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), io::Error>>,
}

async fn start() -> Running {
    let any = Http::At(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let bound = bind(any).await.expect("bind").expect("on");
    let exporter = crate::observe::install_exporter().expect("recorder");
    let observer = Arc::new(Observer::new(&["main".into()], &[("claim", 64)]));
    let app = App { exporter, observer: Arc::clone(&observer) };
    let (stop, stopped) = oneshot::channel();
    let address = bound.address;
    let ended = tokio::spawn(serve(bound, app, async move { drop(stopped.await) }));
    Running { address, observer, stop, ended }
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    stream.write_all(request.as_bytes()).await.expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("receive");
    answer
}

async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn every_route_answers() {
    let running = start().await;
    assert!(get(running.address, "/").await.contains("/metrics"));
    assert!(get(running.address, "/livez").await.ends_with("ok\n"));
    let early = get(running.address, "/readyz").await;
    assert!(early.starts_with("HTTP/1.1 503") && early.contains("STARTING"), "{early}");
    running.observer.set_phase("READY");
    assert!(get(running.address, "/readyz").await.starts_with("HTTP/1.1 200"));
    let meter = running.observer.pipeline(0).expect("a pipeline");
    meter.paused(Some("No space left on device"));
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
    let refused = ask(running.address, post).await;
    assert!(refused.starts_with("HTTP/1.1 405"), "{refused}");
    assert!(refused.contains("allow: GET") && refused.ends_with("only GET\n"), "{refused}");
    running.stop.send(()).expect("running");
    running.ended.await.expect("no panic").expect("no error");
}

/// Connections as many as there may be, each of them served once and then silent within a request.
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
        // The server's end is closed: nothing outlives `serve`.
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
async fn a_default_address_that_is_taken_gives_another_port_on_loopback_and_a_note() {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, limits::HTTP_PORT));
    // Where another program has it already, that serves as well.
    let holder = TcpListener::bind(default).await;
    let bound = bind(Http::Default).await.expect("bind").expect("on");
    assert!(bound.address.ip().is_loopback());
    assert_ne!(bound.address.port(), limits::HTTP_PORT);
    let note = bound.note.expect("a note");
    assert!(note.contains(&default.to_string()), "{note}");
    drop(holder);
}

#[tokio::test]
async fn http_that_is_off_listens_nowhere() {
    assert!(bind(Http::Off).await.expect("no error").is_none());
}
