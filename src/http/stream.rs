//! The live stream: server-sent events, each a name and a line of JSON.
//!
//! A stream holds one of [`limits::STREAMS_MAX`] permits and its connection until the client leaves or
//! leaves it unread, or the service ends. A slow client misses events: nothing waits for it, and its
//! buffer is bounded.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        broadcast::{
            Receiver,
            error::{RecvError, TryRecvError},
        },
    },
    time::{Interval, MissedTickBehavior, interval},
};

use super::{App, get, problem::Problem};
use crate::{limits, outcome::Outcome};

/// The wait of a browser before it opens a broken stream again, in milliseconds.
const RETRY: &str = "retry: 2000\n\n";
/// The most outcomes in one write.
const TOGETHER: usize = 64;

/// Whether streams are open on one connection.
#[derive(Clone, Debug, Default)]
pub struct OpenStreams(Arc<AtomicUsize>);

impl OpenStreams {
    pub fn is_streaming(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    pub fn acquire(self) -> StreamPermit {
        self.0.fetch_add(1, Ordering::Relaxed);
        StreamPermit(self)
    }
}

/// Counts a stream while it is held.
#[derive(Debug)]
pub struct StreamPermit(OpenStreams);

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One listener.
struct Listener {
    app: App,
    every: Interval,
    outcomes: Receiver<Outcome>,
    /// The time of the last point that was sent.
    last_point: Option<String>,
    begun: bool,
    /// The last state was sent.
    ended: bool,
    _permit: OwnedSemaphorePermit,
    _held: StreamPermit,
}

pub async fn stream(
    State(app): State<App>,
    Extension(open): Extension<OpenStreams>,
) -> Result<Response, Problem> {
    let Ok(permit) = Arc::clone(&app.api_state.streams).try_acquire_owned() else {
        let most = limits::STREAMS_MAX;
        return Err(Problem::busy(format!(
            "{most} streams are open, which is the limit: close one, or use /api/v1/status"
        )));
    };
    let mut every = interval(limits::STREAM_INTERVAL);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let listener = Listener {
        outcomes: app.observer.outcome_stream().listen(),
        last_point: app.observer.points().pop().map(|point| point.at),
        app,
        every,
        begun: false,
        ended: false,
        _permit: permit,
        _held: open.acquire(),
    };
    let events = unfold(listener, |mut listener| async move {
        let events = listener.next().await?;
        Some((Ok::<_, std::convert::Infallible>(events), listener))
    });
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

impl Listener {
    /// Waits for the next event; `None` where the service ends.
    async fn next(&mut self) -> Option<Bytes> {
        let mut text = String::new();
        if !self.begun {
            self.begun = true;
            text.push_str(RETRY);
        }
        tokio::select! {
            () = self.app.ending.cancelled() => {
                if std::mem::replace(&mut self.ended, true) {
                    return None;
                }
                // The result of the drain: the phase and the unfinished files are final now.
                self.push_state(&mut text).await;
            }
            _ = self.every.tick() => self.push_state(&mut text).await,
            outcome = self.outcomes.recv() => match outcome {
                Ok(outcome) => {
                    event(&mut text, "outcome", &outcome);
                    self.push_details(&mut text);
                }
                Err(RecvError::Lagged(missed)) => gap(&mut text, missed),
                Err(RecvError::Closed) => return None,
            },
        }
        Some(text.into())
    }

    async fn push_state(&mut self, text: &mut String) {
        event(text, "status", &get::status_answer(&self.app).await);
        event(text, "work", &get::work_answer(&self.app));
        let newer = |point: &crate::observe::Point| Some(&point.at) != self.last_point.as_ref();
        if let Some(point) = self.app.observer.points().pop().filter(newer) {
            event(text, "point", &point);
            self.last_point = Some(point.at);
        }
    }

    /// Under load several outcomes go into one write.
    fn push_details(&mut self, text: &mut String) {
        for _ in 1..TOGETHER {
            match self.outcomes.try_recv() {
                Ok(outcome) => event(text, "outcome", &outcome),
                Err(TryRecvError::Lagged(missed)) => gap(text, missed),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }
}

fn gap(text: &mut String, missed: u64) {
    #[derive(Serialize)]
    struct Gap {
        missed: u64,
    }
    event(text, "gap", &Gap { missed });
}

/// JSON escapes line ends, so the data is one line.
fn event(text: &mut String, name: &str, data: &impl Serialize) {
    if let Ok(data) = serde_json::to_string(data) {
        *text += &format!("event: {name}\ndata: {data}\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_data_whatever_is_in_it() {
        let mut text = String::new();
        event(&mut text, "outcome", &"a\nb\r\n\ndata: c");
        assert_eq!(text, "event: outcome\ndata: \"a\\nb\\r\\n\\ndata: c\"\n\n");
    }

    #[test]
    fn a_connection_streams_until_its_last_stream_ends() {
        let open = OpenStreams::default();
        let (one, other) = (open.clone().acquire(), open.clone().acquire());
        drop(one);
        assert!(open.is_streaming());
        drop(other);
        assert!(!open.is_streaming());
    }
}
