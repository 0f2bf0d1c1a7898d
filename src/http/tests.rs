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
    let meter = Arc::clone(running.observer.pipeline(0).expect("a pipeline"));
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
    assert!(ask(running.address, post).await.starts_with("HTTP/1.1 405"));
    running.stop.send(()).expect("running");
    running.ended.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_client_that_says_nothing() {
    let running = start().await;
    let mut silent = TcpStream::connect(running.address).await.expect("connect");
    silent.write_all(b"GET /metr").await.expect("send");
    running.stop.send(()).expect("running");
    let ended = tokio::time::timeout(GRACE_AND_MORE, running.ended).await.expect("in time");
    ended.expect("no panic").expect("no error");
}

const GRACE_AND_MORE: Duration = Duration::from_secs(8);

#[tokio::test]
async fn an_address_that_was_named_and_is_taken_is_an_error() {
    let running = start().await;
    let error = bind(Http::At(running.address)).await.expect_err("taken");
    assert!(error.to_string().contains(&running.address.to_string()), "{error}");
}
