//! Standard error, written by a separate thread: a thread that logs never waits for the reader.
//!
//! Lines wait in one bounded buffer. While the reader does not keep up, new lines are dropped and
//! counted; the first line after that reports their number.

use std::{
    io::{self, Write, stderr},
    os::fd::{AsFd, BorrowedFd},
    sync::{Condvar, MutexGuard},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::prometheus as names;
use crate::{
    limits,
    sync::{self, Mutex},
};

/// Writer of the process.
static STDERR: Lines = Lines::new();

/// Lines that wait to be written to standard error.
struct Lines {
    state: Mutex<State>,
    /// Notified when lines are added, and when all are written.
    changed: Condvar,
}

struct State {
    /// Whether the thread runs. Without it, each line is written directly, or dropped.
    has_thread: bool,
    /// Complete lines that wait, at most [`limits::LOG_BUFFER_BYTES_MAX`].
    waiting: Vec<u8>,
    /// Whether the thread has taken lines and not written them.
    is_writing: bool,
    /// Lines dropped since the last report.
    dropped: u64,
}

/// Starts the thread. Call it after privileges are dropped and the sandbox is entered: both apply to a
/// thread and those it starts.
pub fn start_thread() -> io::Result<()> {
    STDERR.detach(|lines| thread::Builder::new().name("logs".to_owned()).spawn(|| lines.write()))
}

/// Writes these lines, or drops them if the reader does not keep up. Never waits.
pub fn write_lines(lines: &[u8]) {
    STDERR.add(lines);
}

/// Writes these lines of a command, which ends then. Waits for the reader, for at most
/// [`limits::LOG_FLUSH_TIMEOUT`].
pub fn write_message(lines: &[u8]) {
    if STDERR.lock().has_thread {
        write_lines(lines);
        flush();
    } else {
        write_through(stderr().as_fd(), lines, limits::LOG_FLUSH_TIMEOUT);
    }
}

/// Waits until everything is written, for at most [`limits::LOG_FLUSH_TIMEOUT`], so that a stalled
/// reader does not delay the exit.
pub fn flush() {
    STDERR.flush(limits::LOG_FLUSH_TIMEOUT);
}

/// Waits until everything is written, for at most `limit`, so that lines that must not be dropped have
/// room. Returns false if the reader is slower.
pub fn wait(limit: Duration) -> bool {
    STDERR.flush(limit)
}

/// Writer of the subscriber, which writes each event in one call.
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
        self.state.lock()
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
            if !write_through(stderr().as_fd(), lines, Duration::ZERO) {
                self.lock().dropped += 1;
                metrics::counter!(names::LOG_DROPPED).increment(1);
            }
            return;
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

    /// Writes waiting lines indefinitely. Runs on the thread.
    fn write(&self) {
        let (mut taken, mut writer) = (Vec::new(), Writer::default());
        loop {
            let dropped = self.take(&mut taken);
            let lost = writer.write(stderr().as_fd(), &taken);
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
            if let Some((lines, error)) = lost {
                tracing::warn!(event = "log.dropped", lines, %error, "cannot write the log, lines dropped");
            }
        }
    }

    /// Waits for lines, takes them, and returns the number of dropped ones.
    fn take(&self, taken: &mut Vec<u8>) -> u64 {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            state = sync::wait(&self.changed, state);
        }
        std::mem::swap(taken, &mut state.waiting);
        state.is_writing = true;
        std::mem::take(&mut state.dropped)
    }

    /// Waits until everything is written, and returns whether it was in time.
    fn flush(&self, limit: Duration) -> bool {
        let is_behind =
            |state: &mut State| state.has_thread && (state.is_writing || !state.waiting.is_empty());
        !sync::wait_while(&self.changed, self.lock(), limit, is_behind).1
    }
}

/// Counts the lines that standard error does not take: its disk may be full.
#[derive(Debug, Default)]
struct Writer {
    /// Lines lost since the last write that succeeded, and the last error.
    lost: Option<(u64, Errno)>,
    /// Whether a part of a line was written last.
    is_torn: bool,
}

impl Writer {
    /// Writes lines. After a write that succeeds, returns how many were lost before, and why.
    fn write(&mut self, to: BorrowedFd<'_>, lines: &[u8]) -> Option<(u64, Errno)> {
        let written = if self.is_torn { write_all(to, b"\n") } else { Ok(()) };
        let Err((error, rest)) = written.map_err(|(error, _)| (error, lines)).and_then(|()| {
            self.is_torn = false;
            write_all(to, lines)
        }) else {
            return self.lost.take();
        };
        let lost = rest.split_inclusive(|byte| *byte == b'\n').count() as u64;
        metrics::counter!(names::LOG_DROPPED).increment(lost);
        self.lost = Some((self.lost.map_or(0, |(before, _)| before) + lost, error));
        let written = lines.len() - rest.len();
        self.is_torn |= written > 0 && lines.get(written - 1) != Some(&b'\n');
        None
    }
}

/// The most that a pipe takes without waiting once it can be written to (`PIPE_BUF`, pipe(7)).
const PIPE_BYTES: usize = 4096;

/// Writes to standard error, which may be closed, as far as its reader makes room within this time for each
/// part; returns whether that was enough. A supervisor may pass on a pipe that its reader left full.
fn write_through(to: BorrowedFd<'_>, bytes: &[u8], patience: Duration) -> bool {
    bytes.chunks(PIPE_BYTES).all(|part| has_room(to, patience) && write_all(to, part).is_ok())
}

/// Checks whether a write does not wait. One that fails does not wait either.
fn has_room(to: BorrowedFd<'_>, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).ok();
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], timeout.as_ref()) {
            Err(Errno::INTR) => {}
            found => return found != Ok(0),
        }
    }
}

/// Writes to the descriptor directly: the standard library's lock would block other threads. Returns an
/// error with what is not written.
fn write_all<'a>(to: BorrowedFd<'_>, mut bytes: &'a [u8]) -> Result<(), (Errno, &'a [u8])> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // The reader made the descriptor non-blocking. This thread has nothing else to do.
            Err(Errno::AGAIN) => thread::park_timeout(limits::LOG_RETRY_DELAY),
            Err(error) => return Err((error, bytes)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Seek},
    };

    use super::*;

    fn detached() -> &'static Lines {
        let lines: &Lines = Box::leak(Box::new(Lines::new()));
        lines.detach(|_| Ok(())).unwrap();
        lines
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted_until_a_write_succeeds() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut writer = Writer::default();
        assert_eq!(writer.write(full.as_fd(), b"one\ntwo\n"), None);
        assert_eq!(writer.write(full.as_fd(), b"three\n"), None);
        let mut file = tempfile::tempfile().unwrap();
        // As if a part of the last line had been written.
        writer.is_torn = true;
        assert_eq!(writer.write(file.as_fd(), b"four\n"), Some((3, Errno::NOSPC)));
        assert_eq!(writer.write(file.as_fd(), b"five\n"), None);
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\nfour\nfive\n");
    }

    #[test]
    fn what_is_written_directly_does_not_wait_for_a_full_pipe() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (mut line, mut written) = ([b'x'; 6000], 0);
        line[5999] = b'\n';
        while write_through(writer.as_fd(), &line, Duration::ZERO) {
            written += 1;
        }
        assert!(written > 5, "{written} lines");
        let mut text = vec![0; 24_000];
        reader.read_exact(&mut text).unwrap();
        assert!(write_through(writer.as_fd(), &line, Duration::ZERO), "it has room again");
    }

    #[test]
    fn logging_does_not_wait_for_a_stalled_reader_and_counts_dropped_lines() {
        let lines = detached();
        let line = [b'x'; 1024];
        let capacity = limits::LOG_BUFFER_BYTES_MAX / line.len();
        for _ in 0..capacity + 3 {
            lines.add(&line);
        }
        assert!(!lines.flush(Duration::ZERO), "nobody wrote");
        let mut taken = Vec::new();
        assert_eq!(lines.take(&mut taken), 3);
        assert_eq!(taken.len(), capacity * line.len());
        assert!(!lines.flush(Duration::ZERO), "what is taken is not written yet");
        lines.lock().is_writing = false;
        assert!(lines.flush(Duration::ZERO));
        lines.add(&line);
        taken.clear();
        assert_eq!(lines.take(&mut taken), 0, "they were reported");
    }
}
