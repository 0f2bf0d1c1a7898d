//! The event streams: their number and their duration.

use super::*;

/// Opens a stream and waits until it begins.
async fn listen(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let request = "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("send");
    let mut begun = Vec::new();
    while !begun.windows(11).any(|part| part == b"event: work") {
        assert_ne!(stream.read_buf(&mut begun).await.expect("receive"), 0);
    }
    let begun = String::from_utf8_lossy(&begun);
    assert!(begun.contains("content-type: text/event-stream"), "{begun}");
    assert!(begun.contains("retry: 2000\n\nevent: status\ndata: {"), "{begun}");
    stream
}

#[tokio::test]
async fn streams_are_bounded_and_a_place_that_is_left_is_taken_again() {
    let running = start().await;
    let mut streams = Vec::new();
    for _ in 0..limits::STREAMS_MAX {
        streams.push(listen(running.address).await);
    }
    let refused = get(running.address, "/api/v1/stream").await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(
        refused.contains("retry-after: 5") && refused.contains("\"error\":\"busy\""),
        "{refused}"
    );
    assert!(get(running.address, "/livez").await.ends_with("ok\n"));
    streams.pop();
    loop {
        let mut stream = TcpStream::connect(running.address).await.expect("connect");
        let request = "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.expect("an answer");
        if head == *b"HTTP/1.1 200" {
            break;
        }
    }
    running.stop.send(()).expect("running");
    let ended = tokio::time::timeout(server::GRACE, running.ended).await;
    ended.expect("streams end at once").expect("no panic").expect("no error");
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_other_connections_and_a_client_that_reads_no_more_is_dropped() {
    let running = start().await;
    let mut stream = listen(running.address).await;
    let began = tokio::time::Instant::now();
    let mut buffer = vec![0; 64 * 1024];
    while began.elapsed() < Duration::from_mins(3) {
        assert_ne!(
            stream.read(&mut buffer).await.expect("receive"),
            0,
            "cut after {:?}",
            began.elapsed()
        );
    }
    drop(stream);
    // Nothing reads this one: its buffers fill up, and it is dropped.
    let unread = listen(running.address).await;
    let outcome = |id| crate::outcome::Outcome {
        id,
        pipeline: "main".to_owned(),
        source: "x".repeat(10_000),
        ..crate::outcome::Outcome::default()
    };
    let free = || get(running.address, "/livez");
    for id in 0.. {
        running.observer.outcome_stream().send(|| outcome(id));
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(id < 100_000, "a client that reads nothing is kept");
        if running.observer.outcome_stream().listeners() == 0 {
            break;
        }
    }
    assert!(free().await.ends_with("ok\n"));
    drop(unread);
}
