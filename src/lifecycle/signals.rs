//! SIGTERM, SIGINT and SIGHUP: their handlers, and the thread that follows them.

use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::{fmt, io};

use futures_util::stream;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Deadlines, Handle};

/// The signals that stop a service, and the one that makes it reload its configuration.
///
/// A caught signal no longer kills the process; it waits here until a
/// [`Lifecycle`](super::Lifecycle) follows it. A start-up that may hang in the file system therefore
/// begins with [`catch_hangups`](Self::catch_hangups), which leaves SIGTERM and SIGINT to the
/// kernel: its default action ends the process even in a call that does not return. After that part
/// of the start-up, call [`catch_stops`](Self::catch_stops). Neither starts a thread, so a sandbox
/// that binds threads can still be entered, and neither needs a runtime. The handlers stay for the
/// life of the process: after the lifecycle has stopped, signals do nothing.
///
/// Signals of one type that arrive in the same instant count once, as with any handler.
pub struct Signals {
    /// Runtime on which the signals are followed. It can be dropped anywhere.
    runtime: SignalOwner,
    streams: Vec<(SignalKind, Signal)>,
    hangups: Option<Signal>,
}

impl Signals {
    /// Catches SIGTERM, SIGINT and SIGHUP.
    ///
    /// # Errors
    ///
    /// Those of `sigaction(2)` and of the calls that create descriptors: in practice, the process is out
    /// of descriptors.
    pub fn register() -> io::Result<Self> {
        let mut signals = Self::catch_hangups()?;
        signals.catch_stops()?;
        Ok(signals)
    }

    /// Catches SIGHUP; in a process that is PID 1, for which the kernel has no default action, all
    /// three.
    ///
    /// # Errors
    ///
    /// Those of [`register`](Self::register).
    pub fn catch_hangups() -> io::Result<Self> {
        let mut signals = Self::none()?;
        if let Some(runtime) = &signals.runtime.0 {
            let _entered = runtime.enter();
            signals.hangups = Some(signal(SignalKind::hangup())?);
        }
        if std::process::id() == 1 {
            signals.catch_stops()?;
        }
        Ok(signals)
    }

    /// Catches SIGTERM and SIGINT too. Does nothing if they are caught already.
    ///
    /// # Errors
    ///
    /// Those of [`register`](Self::register).
    pub fn catch_stops(&mut self) -> io::Result<()> {
        if let Some(runtime) = &self.runtime.0
            && self.streams.is_empty()
        {
            let _entered = runtime.enter();
            for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
                self.streams.push((kind, signal(kind)?));
            }
        }
        Ok(())
    }

    /// Catches nothing: only [`Handle::request_stop`] begins the stop, and only the clock escalates
    /// it. For tests, and for programs that handle signals themselves.
    ///
    /// # Errors
    ///
    /// Those of [`register`](Self::register).
    pub fn none() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime: SignalOwner(Some(runtime)), streams: Vec::new(), hangups: None })
    }

    /// Runs [`Handle::follow`] on a thread named `signals`, until the returned value is dropped.
    pub(super) fn follow(self, handle: Handle, deadlines: Deadlines) -> io::Result<SignalThread> {
        let (ended, done) = (CancellationToken::new(), CancellationToken::new());
        let (end, done_guard) = (ended.clone().drop_guard(), done.clone().drop_guard());
        let Self { runtime, mut streams, hangups } = self;
        let thread = thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let _done = done_guard;
            if let Some(runtime) = &runtime.0 {
                let signals = stream::poll_fn(move |context| next(&mut streams, context));
                let hung_up = count(hangups, handle.clone());
                runtime.block_on(ended.run_until_cancelled(async {
                    tokio::select! {
                        () = handle.follow(deadlines, signals) => {}
                        () = hung_up => {}
                    }
                }));
            }
        })?;
        Ok(SignalThread { end, done, thread })
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").field("kinds", &self.streams.len()).finish_non_exhaustive()
    }
}

fn next(
    streams: &mut [(SignalKind, Signal)],
    context: &mut Context<'_>,
) -> Poll<Option<SignalKind>> {
    let caught = streams
        .iter_mut()
        .find_map(|(kind, stream)| stream.poll_recv(context).is_ready().then_some(*kind));
    caught.map_or(Poll::Pending, |kind| Poll::Ready(Some(kind)))
}

/// Counts the hang-ups on the handle indefinitely.
async fn count(hangups: Option<Signal>, handle: Handle) {
    if let Some(mut hangups) = hangups {
        while hangups.recv().await.is_some() {
            handle.hung_up();
        }
    }
    std::future::pending::<()>().await;
}

/// A runtime whose drop does not wait, so it is allowed inside another runtime.
struct SignalOwner(Option<Runtime>);

impl Drop for SignalOwner {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The thread that follows the signals. Dropping this ends the thread without waiting.
#[derive(Debug)]
pub(super) struct SignalThread {
    end: DropGuard,
    done: CancellationToken,
    thread: JoinHandle<()>,
}

impl SignalThread {
    /// Ends the thread and waits for it.
    pub(super) async fn end(self) {
        drop(self.end);
        self.done.cancelled().await;
        // The thread is finished, so the join does not block.
        if self.thread.join().is_err() {
            tracing::error!(event = "service.panic", "signal thread panicked");
        }
    }
}
