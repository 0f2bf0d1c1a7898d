//! The standard error, written by a thread of its own: whoever logs never waits for the reader.
//!
//! Lines wait in one bounded buffer. While the reader does not keep up, new lines are dropped and
//! counted; the first line after that says how many.

use std::{
    io::{self, Write, stderr},
    os::fd::AsFd,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::io::Errno;

use super::prometheus as names;
use crate::limits;

/// The process has one.
static STDERR: Lines = Lines::new();

/// Lines on their way to the standard error.
struct Lines {
    state: Mutex<State>,
    /// Notified when lines are added, and when all are written.
    changed: Condvar,
}

struct State {
    /// Before the thread is there, who writes a line writes it through.
    has_thread: bool,
    /// Whole lines that wait, at most [`limits::LOG_BUFFER_BYTES_MAX`].
    waiting: Vec<u8>,
    /// The thread has taken lines that are not written yet.
    is_writing: bool,
    /// Lines dropped since the last report of it.
    dropped: u64,
}

/// Starts the thread. It may be started only once privileges are given up and the sandbox is closed,
/// which hold for a thread and those it starts.
pub fn start_thread() -> io::Result<()> {
    STDERR.detach(|lines| thread::Builder::new().name("logs".to_owned()).spawn(|| lines.write()))
}

/// Writes these lines, or drops them where the reader does not keep up. Never waits, once
/// [`start_thread`] was called.
pub fn write_lines(lines: &[u8]) {
    STDERR.add(lines);
}

/// Waits until everything is written, for at most [`limits::LOG_FLUSH_TIMEOUT`]: a reader that stands still
/// holds up no end.
pub fn flush() {
    STDERR.flush(limits::LOG_FLUSH_TIMEOUT);
}

/// What the subscriber writes to: each event in one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        write_lines(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    const fn new() -> Self {
        let state = State { has_thread: false, waiting: Vec::new(), is_writing: false, dropped: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn detach<T>(
        &'static self,
        spawn: impl FnOnce(&'static Self) -> io::Result<T>,
    ) -> io::Result<()> {
        if std::mem::replace(&mut self.lock().has_thread, true) {
            return Ok(());
        }
        spawn(self).map(drop).inspect_err(|_| self.lock().has_thread = false)
    }

    fn add(&self, lines: &[u8]) {
        let mut state = self.lock();
        if !state.has_thread {
            drop(state);
            return write_through(lines);
        }
        if state.waiting.len() + lines.len() > limits::LOG_BUFFER_BYTES_MAX {
            state.dropped += 1;
            drop(state);
            metrics::counter!(names::LOG_DROPPED).increment(1);
            return;
        }
        state.waiting.extend_from_slice(lines);
        drop(state);
        self.changed.notify_all();
    }

    /// The thread: writes what waits, for ever.
    fn write(&self) {
        let mut taken = Vec::new();
        loop {
            let dropped = self.take(&mut taken);
            write_through(&taken);
            taken.clear();
            self.lock().is_writing = false;
            self.changed.notify_all();
            if dropped > 0 {
                tracing::warn!(
                    event = "log.dropped",
                    lines = dropped,
                    "log reader too slow, lines dropped"
                );
            }
        }
    }

    /// Waits for lines, takes them, and gives how many were dropped.
    fn take(&self, taken: &mut Vec<u8>) -> u64 {
        let state = self.lock();
        let state = self.changed.wait_while(state, |state| state.waiting.is_empty());
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(taken, &mut state.waiting);
        state.is_writing = true;
        std::mem::take(&mut state.dropped)
    }

    /// Whether everything was written in time.
    fn flush(&self, limit: Duration) -> bool {
        let is_behind =
            |state: &mut State| state.has_thread && (state.is_writing || !state.waiting.is_empty());
        let waited = self.changed.wait_timeout_while(self.lock(), limit, is_behind);
        let (state, result) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        !result.timed_out()
    }
}

/// Writes to the descriptor itself: the library's lock on it would hold up others. A closed standard
/// error leaves nobody to write for.
fn write_through(mut bytes: &[u8]) {
    let stderr = stderr();
    while !bytes.is_empty() {
        match rustix::io::write(stderr.as_fd(), bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Its reader asked for calls that do not wait. This thread has nothing else to do.
            Err(Errno::AGAIN) => thread::park_timeout(limits::LOG_RETRY_DELAY),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detached() -> &'static Lines {
        let lines: &Lines = Box::leak(Box::new(Lines::new()));
        lines.detach(|_| Ok(())).unwrap();
        lines
    }

    #[test]
    fn who_logs_does_not_wait_for_a_reader_that_stands_still_and_what_is_dropped_is_counted() {
        let lines = detached();
        let line = [b'x'; 1024];
        let room = limits::LOG_BUFFER_BYTES_MAX / line.len();
        for _ in 0..room + 3 {
            lines.add(&line);
        }
        assert!(!lines.flush(Duration::ZERO), "nobody wrote");
        let mut taken = Vec::new();
        assert_eq!(lines.take(&mut taken), 3);
        assert_eq!(taken.len(), room * line.len());
        assert!(!lines.flush(Duration::ZERO), "what is taken is not written yet");
        lines.lock().is_writing = false;
        assert!(lines.flush(Duration::ZERO));
        lines.add(&line);
        taken.clear();
        assert_eq!(lines.take(&mut taken), 0, "they were reported");
    }
}
