//! Every bound in one place. Units are in the names or the types.

use std::time::Duration;

/// A source up to this size crosses the stages as one buffer; a larger one as a stream of chunks.
pub const SMALL_FILE_MAX_BYTES: usize = 256 * 1024;
/// The size of one chunk of a large file.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks a channel between two stages of one large file holds.
pub const CHUNKS_QUEUED: usize = 4;

/// What is in these channels, and in the hands of the three transforms.
pub const LANE_BYTES: u64 = 2 * (CHUNKS_QUEUED as u64 + 2) * CHUNK_BYTES as u64;
/// The buffer between two transforms of a chain.
pub const STEP_BUFFER_BYTES: usize = 128 * 1024;

/// A large output begins to go to the disk each time it has grown by so much: the sync at its end
/// finds little left.
pub const WRITEBACK_BYTES: u64 = 8 * 1024 * 1024;

/// The content of small files may take this much of the memory limit, and no more than a quarter of it.
pub const CONTENT_BYTES: u64 = 16 * 1024 * 1024;

/// What the memory limit leaves to the content of small files.
#[must_use]
pub const fn content_bytes(memory: u64) -> u64 {
    if memory / 4 < CONTENT_BYTES { memory / 4 } else { CONTENT_BYTES }
}

/// What it leaves to the codecs, and to the chunks of large files.
#[must_use]
pub const fn codec_bytes(memory: u64) -> u64 {
    memory - content_bytes(memory)
}

/// What a small file takes of the memory limit besides its content and as much again for its output.
pub const SMALL_FILE_BYTES: u32 = 16 * 1024;
/// Large files of one lane between its claim and their end: one in the lane, the others being committed.
pub const LARGE_FILES_PER_LANE: usize = 8;
/// Large files that one intake hands on before some come back: they wait for a lane, and small ones
/// pass them.
pub const LARGE_FILES_QUEUED: usize = 128;
/// Large files that one intake keeps ready behind them.
pub const LARGE_FILES_READY: usize = 16_384;
/// The least share of `limits.files` and of `limits.memory` that one of several pipelines gets.
pub const SHARE_FILES_MIN: u32 = 16;
pub const SHARE_BYTES_MIN: u64 = 1024 * 1024;

/// Small files that a stage takes and sends on together.
pub const HANDOFF_FILES_MAX: usize = 16;

/// Quiet time asked of a file where the kernel cannot say whether it is still being written.
pub const QUIET_TIME: Duration = Duration::from_secs(2);
/// Quiet time after the close of a file that was written in its place: its producer may be about to
/// rename it. It grows to twice the delay that a rename is seen after, up to the second figure.
pub const CLOSED_QUIET_TIME: Duration = Duration::from_millis(100);
pub const CLOSED_QUIET_TIME_MAX: Duration = Duration::from_secs(2);
/// The wait before a file that someone writes is looked at again; it doubles, and the file's
/// closing cuts it short.
pub const BUSY_RECHECK_DELAY: Duration = Duration::from_millis(250);
/// The time between two full scans of a watched input, and of a polled one.
pub const RESCAN_INTERVAL: Duration = Duration::from_mins(5);
pub const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// A writing thread looks again whether a directory is under its path after this: sooner than a file
/// comes back whose directory was moved away.
pub const DIRECTORY_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Output directories that one writing thread keeps open.
pub const OPEN_DIRECTORIES_MAX: usize = 32;

/// After an event told of a new directory, it is watched by then: files made in it before that are
/// found by a second scan.
pub const WATCHED_BY: Duration = Duration::from_secs(1);
/// The time between two counts of what waits.
pub const PENDING_COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// Paths with unread events; beyond this they are dropped and a full scan takes their place.
pub const EVENT_QUEUE_PATHS_MAX: usize = 65_536;

/// Paths that wait until they are ready; for those beyond this a later full scan looks again.
pub const PENDING_FILES_MAX: usize = 65_536;
/// Sources that were renamed between their output's publication and their removal, and are waited
/// for under their new names.
pub const RENAMED_MAX: usize = 4096;
/// Directories that wait for a scan of their own; beyond this one full scan takes their place.
pub const SCANS_MAX: usize = 1024;

/// Tries of an `openat2` that the kernel answers with `EAGAIN`, because of a racing rename or a
/// write lease that another process holds.
pub const OPEN_TRIES_MAX: u32 = 8;

/// Bytes that a probe of a sick output directory writes and removes again.
pub const PROBE_BYTES: usize = 64 * 1024;

/// Paths looked at between two rounds of the intake, and files that wait there to be sent.
pub const LOOKS_PER_TURN_MAX: usize = 256;
pub const READY_FILES_MAX: usize = 1024;

/// Tries of a file before it goes to quarantine, and the first wait between two; it doubles.
pub const ATTEMPTS: u32 = 3;
pub const BACKOFF: Duration = Duration::from_secs(1);
pub const BACKOFF_MAX: Duration = Duration::from_mins(1);
/// `--once` gives up on a place that stays sick for this long.
pub const ONCE_STORAGE_PATIENCE: Duration = Duration::from_secs(20);
/// `--once` gives up on files that someone still writes after this.
pub const ONCE_BUSY_PATIENCE: Duration = Duration::from_secs(10);

/// Names of a directory that are looked at for a source that may have been renamed.
pub const RENAMED_LOOKS_MAX: usize = 65_536;

/// The largest group commit, in files.
pub const COMMIT_BATCH_FILES_MAX: usize = 256;
/// How long a mark waits for a commit that makes it durable with itself; and the time between two looks
/// at whether one has.
pub const LEDGER_FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// How often a withdrawal that nothing can go on without is tried while another program writes to the
/// ledger; each try waits for some seconds.
pub const LEDGER_BUSY_TRIES_MAX: u32 = 12;
/// Concurrent `fsync` calls.
pub const SYNC_THREADS: usize = 16;
/// Files of a batch from which on one `syncfs` may take the place of an `fsync` of each, and the
/// most that may be unwritten on the machine then: it is written first, whoever wrote it.
pub const GROUP_SYNC_FILES_MIN: usize = 32;
pub const GROUP_SYNC_DIRTY_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// From the first signal to the end; the last part of it is kept for the last commit.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(25);
pub const COMMIT_RESERVE: Duration = Duration::from_secs(2);

/// A signal of the same kind that comes within this counts as the same.
pub const SIGNAL_DEBOUNCE: Duration = Duration::from_millis(500);
/// Directories that do not answer within this at the start hold up their own pipeline only; `--once`
/// waits for them as for any sick place.
pub const START_TIMEOUT: Duration = Duration::from_secs(5);

/// The clean-ups have this time at least, whatever the deadline; a half of it goes to the drain.
pub const STOP_DEADLINE_MIN: Duration = Duration::from_secs(1);
/// Where the process leaves at once, the stop may still report within this how far it came; and how
/// long its last word, on the disk, is waited for.
pub const FORCED_STOP_WAIT: Duration = Duration::from_millis(200);
pub const FORCED_STOP_LOG_WAIT: Duration = Duration::from_millis(500);

/// Files that are named where a drain is cut short, for each pipeline.
pub const UNFINISHED_LOGGED_MAX: usize = 10;
/// The time between two reports of a drain, and between two rounds of the metrics' upkeep.
pub const DRAIN_LOG_INTERVAL: Duration = Duration::from_secs(5);
/// The time between two lines of the log that sum up what came of the files.
pub const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);
pub const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The defaults of a hook's batches and time, and the largest batch that may be asked for.
pub const HOOK_BATCH_FILES: u32 = 100;
pub const HOOK_BATCH_FILES_MAX: u32 = 10_000;
pub const HOOK_BATCH_DELAY: Duration = Duration::from_secs(1);
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// Outcomes that wait for a hook; the oldest give way to new ones.
pub const HOOK_QUEUE_LINES_MAX: usize = 8192;
/// Bytes that one run of a hook is given.
pub const HOOK_QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes kept of what a hook says on its standard error.
pub const HOOK_STDERR_BYTES_MAX: usize = 4096;

/// An intake's thread is seen to turn at least this often.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// So many times the service manager's watchdog time may pass without any progress; and the time
/// that takes its place where no manager watches.
pub const WATCHDOG_STALL_FACTOR: u32 = 10;
pub const WATCHDOG_INTERVAL: Duration = Duration::from_mins(1);
/// The time between two looks at whether the service manager's status line has changed.
pub const STATUS_LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The interval of the live series, and its points: an hour.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
pub const SAMPLES_MAX: usize = 360;
/// Outcomes that a listener may lag behind before it misses some.
pub const OUTCOME_STREAM_RECORDS_MAX: usize = 1024;
/// Event streams that are served at one time, and the time between two states on one.
pub const STREAMS_MAX: usize = 16;
pub const STREAM_INTERVAL: Duration = Duration::from_secs(1);
/// Files in work that are shown, entries of a page by default and at most.
pub const IN_FLIGHT_ENTRIES_MAX: usize = 200;
pub const PAGE_ENTRIES: usize = 50;
pub const PAGE_ENTRIES_MAX: usize = 500;
/// Bytes of what is searched for, of a path that is asked for, and of a request's body.
pub const SEARCH_BYTES_MAX: usize = 256;
pub const PATH_BYTES_MAX: usize = 4096;
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Bytes of log lines that wait for the reader of the standard error; beyond this they are dropped,
/// and counted. How long the end of the process waits for it, and the wait before a write that would
/// block is tried again.
pub const LOG_BUFFER_BYTES_MAX: usize = 1024 * 1024;
pub const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
pub const LOG_RETRY_DELAY: Duration = Duration::from_millis(10);

/// Traces that wait to be sent; beyond this they are dropped, and counted. And how many go together.
pub const OTLP_QUEUE_TRACES_MAX: usize = 4096;
pub const OTLP_BATCH_TRACES_MAX: usize = 512;
/// How long traces are gathered; then how long their receiver has to answer, and the longest wait
/// before they are sent to it again.
pub const OTLP_BATCH_DELAY: Duration = Duration::from_millis(250);
pub const OTLP_TIMEOUT: Duration = Duration::from_secs(5);
pub const OTLP_RETRY_MAX: Duration = Duration::from_secs(30);
/// What is left of the traces at the stop has this time: half of what the last commit may use.
pub const OTLP_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The most of an answer of the traces' receiver that is read.
pub const OTLP_RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// The default address of the HTTP server's port on loopback.
pub const HTTP_PORT: u16 = 9464;

/// A name may have at most this many bytes (`NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;
