//! All limits and intervals. Units are in the names or the types.

use std::time::Duration;

/// A source up to this size passes the stages as one buffer; a larger one as a stream of chunks.
pub const SMALL_FILE_MAX_BYTES: usize = 256 * 1024;
/// The size of one chunk of a large file.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks in a channel between two stages of one large file.
pub const CHUNKS_QUEUED: usize = 4;

/// Bytes in these channels and in the three stages of one lane.
pub const LANE_BYTES: u64 = 2 * (CHUNKS_QUEUED as u64 + 2) * CHUNK_BYTES as u64;
/// The buffer between two transforms of a chain.
pub const TRANSFORM_BUFFER_BYTES: usize = 128 * 1024;

/// The largest header of an encrypted file that `unage` takes: each recipient has about a hundred bytes of it.
pub const AGE_HEADER_BYTES_MAX: usize = 256 * 1024;
/// The most recipients of `[age]`.
pub const AGE_RECIPIENTS_MAX: usize = 1000;
/// The largest file of recipients or identities.
pub const AGE_KEY_FILE_BYTES_MAX: u64 = 256 * 1024;

/// The writeback of a large output starts each time it has grown by this amount, so that its final sync
/// finds few dirty pages.
pub const WRITEBACK_BYTES: u64 = 8 * 1024 * 1024;

/// The most bytes of the memory limit for the content of small files, which is also at most a quarter of
/// it.
pub const CONTENT_BYTES: u64 = 16 * 1024 * 1024;

/// Returns the part of the memory limit for the content of small files.
#[must_use]
pub const fn content_bytes(memory: u64) -> u64 {
    if memory / 4 < CONTENT_BYTES { memory / 4 } else { CONTENT_BYTES }
}

/// Returns the part of the memory limit for the codecs and the chunks of large files.
#[must_use]
pub const fn codec_bytes(memory: u64) -> u64 {
    memory - content_bytes(memory)
}

/// Bytes of the memory limit for a small file, in addition to its content and the same again for its
/// output.
pub const SMALL_FILE_BYTES: u32 = 16 * 1024;
/// Large files of one lane from claim to their outcome: one in the lane, the others being committed.
pub const LARGE_FILES_PER_LANE: usize = 8;
/// Large files of one intake in flight: they wait for a lane, and small ones overtake them.
pub const LARGE_FILES_QUEUED: usize = 128;
/// Large files that one intake keeps ready behind them.
pub const LARGE_FILES_READY: usize = 16_384;
/// The time until another look at a large file for which these have no room.
pub const LARGE_FILES_WAIT: Duration = Duration::from_secs(5);
/// The minimum share of `limits.files` and of `limits.memory` for one of several pipelines.
pub const SHARE_FILES_MIN: u32 = 16;
pub const SHARE_BYTES_MIN: u64 = 1024 * 1024;

/// Small files that a stage takes and sends on together.
pub const HANDOFF_FILES_MAX: usize = 16;

/// The required quiet time of a file if the kernel cannot report its writers.
pub const QUIET_TIME: Duration = Duration::from_secs(2);
/// The required quiet time of another user's file whose close or rename was not seen, if the kernel may
/// not report its writers.
pub const UNSEEN_QUIET_TIME: Duration = Duration::from_mins(1);
/// The quiet time after the close of a file that was written under its final name: its producer may be
/// about to rename it. It grows to twice the observed delay of such a rename, up to the second figure.
pub const CLOSED_QUIET_TIME: Duration = Duration::from_millis(100);
pub const CLOSED_QUIET_TIME_MAX: Duration = Duration::from_secs(2);
/// A name of a kept source that is free for this time is one that its producer deleted or moved away.
pub const ABSENCE_TIME: Duration = Duration::from_secs(1);
/// The age at which a recovery removes the temporary file of a `tidemill put`: its process has ended.
pub const ABANDONED_DELIVERY_AGE: Duration = Duration::from_hours(24);
/// The time for which a look at the free space of an output's file system counts (`min_free`).
pub const FREE_SPACE_INTERVAL: Duration = Duration::from_secs(1);
/// The time between two looks of `tidemill put --wait` at the ledger.
pub const OUTCOME_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Half of the finished files whose closes are kept, to recognize such a rename after the publication.
pub const RECENT_CLOSES_MAX: usize = 2048;
/// The wait before the next look at a file with a writer; it doubles, and the file's close ends it.
pub const BUSY_RECHECK_DELAY: Duration = Duration::from_millis(250);
/// The time between two full scans of a polled input.
pub const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// An open output directory is checked after this time, whether it is still at its path: sooner than a
/// file whose directory was moved away is retried.
pub const DIRECTORY_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Output directories that one pipeline keeps open.
pub const OPEN_DIRECTORIES_MAX: usize = 32;
/// Output directories that one pipeline remembers as synced.
pub const SYNCED_DIRECTORIES_MAX: usize = 4096;

/// A new directory is watched within this time after its event: a second scan then finds the files that
/// were created before.
pub const WATCH_START_DELAY_MAX: Duration = Duration::from_secs(1);
/// The time between two counts of pending files.
pub const PENDING_COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// Paths with unread events; beyond this they are dropped and a full scan replaces them.
pub const EVENT_QUEUE_PATHS_MAX: usize = 65_536;

/// Paths that wait until they are ready; a later full scan finds those beyond this.
pub const PENDING_FILES_MAX: usize = 65_536;
/// Sources that were renamed between their output's publication and their removal, and are expected
/// under their new names.
pub const RENAMED_MAX: usize = 4096;
/// Directories that wait for a separate scan; beyond this one full scan replaces them.
pub const SCANS_MAX: usize = 1024;

/// Attempts of an `openat2` that fails with `EAGAIN`, because of a racing rename or a write lease of
/// another process.
pub const OPEN_ATTEMPTS_MAX: u32 = 8;

/// Bytes that a probe of an unavailable output directory writes and removes.
pub const PROBE_BYTES: usize = 64 * 1024;

/// Paths looked at in one round of the intake, and ready files that wait there to be sent.
pub const LOOKS_PER_TURN_MAX: usize = 256;
pub const READY_FILES_MAX: usize = 1024;
/// A pipeline is not reported as overdue (`expect`) earlier than this after the start.
pub const EXPECT_GRACE: Duration = Duration::from_mins(1);
/// The shortest time between two looks at the clock for a pipeline's `window`.
pub const WINDOW_CHECK_MIN: Duration = Duration::from_millis(50);
/// Ready files of a pipeline with an `order`: the first ones of all that were found. Another scan finds the
/// others, when these are sent.
pub const ORDERED_FILES_MAX: usize = 16_384;

/// The first wait between two attempts at something; it doubles up to the maximum.
pub const BACKOFF: Duration = Duration::from_secs(1);

/// Rounds in which the names of a batch are decided; each output of one name needs one.
pub const NAME_ROUNDS_MAX: usize = COMMIT_BATCH_FILES_MAX + 16;

/// Most other slots of a quarantine that are tried for one file, if another process takes each.
pub const QUARANTINE_SLOTS_MAX: u32 = 8;
pub const BACKOFF_MAX: Duration = Duration::from_mins(1);
/// `--once` gives up on storage that stays unavailable for this time.
pub const ONCE_STORAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// `--once` gives up on files that still have a writer after this time; after [`UNSEEN_QUIET_TIME`] in
/// addition, where the kernel may not report writers.
pub const ONCE_BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// `--once` gives up on an input after this number of scans for files whose names were gone.
pub const ONCE_RESCANS_MAX: u32 = 3;
/// Names that were gone, of which each leads to another scan once.
pub const GONE_NAMES_MAX: usize = 4096;

/// Names of a directory that are checked for a source that may have been renamed.
pub const RENAMED_LOOKS_MAX: usize = 65_536;

/// The largest group commit, in files.
pub const COMMIT_BATCH_FILES_MAX: usize = 256;
/// The longest wait of a state update for a commit that makes it durable, and the time between two
/// checks for one.
pub const LEDGER_FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// Concurrent `fsync` calls.
pub const SYNC_THREADS: usize = 16;
/// The minimum batch size for which one `syncfs` may replace the `fsync` of each file, and the most dirty
/// bytes of the machine then: `syncfs` also writes those of other programs.
pub const GROUP_SYNC_FILES_MIN: usize = 32;
pub const GROUP_SYNC_DIRTY_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The time from the first signal to the exit; the last part of it is reserved for the last commit.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(25);
pub const COMMIT_RESERVE: Duration = Duration::from_secs(2);

/// Directories that do not respond within this time at the start delay their own pipeline only; `--once`
/// waits for them as for any unavailable storage.
pub const START_TIMEOUT: Duration = Duration::from_secs(5);

/// The search of a tree at the start is deferred after this time without an entry or another directory: a
/// mount below its root hangs.
pub const WALK_TIMEOUT: Duration = Duration::from_secs(15);

/// The minimum time for the close of all resources, whatever the deadline; half of it is for the drain.
pub const STOP_DEADLINE_MIN: Duration = Duration::from_secs(1);
/// The time in which a forced stop may still report its progress, and the longest wait for the write of
/// its exit report to the state directory.
pub const FORCED_STOP_WAIT: Duration = Duration::from_millis(200);
pub const FORCED_STOP_LOG_WAIT: Duration = Duration::from_millis(500);
/// The longest wait of a stop for blocking work of a start that was cut.
pub const ABANDONED_WORK_WAIT: Duration = Duration::from_secs(1);

/// The part of a command line that the lock's file names.
pub const COMMAND_CHARS_MAX: usize = 1000;
/// Unfinished files that each pipeline logs after an incomplete drain.
pub const UNFINISHED_LOGGED_MAX: usize = 10;
/// The time between two reports of a drain.
pub const DRAIN_LOG_INTERVAL: Duration = Duration::from_secs(5);
/// The time between two log lines that sum up the outcomes.
pub const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);
/// The time between two rounds of the metrics' upkeep.
pub const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The largest batch of outcomes that a hook may be configured for.
pub const HOOK_BATCH_FILES_MAX: u64 = 10_000;
/// Outcomes that wait for a hook; beyond this the oldest are dropped.
pub const HOOK_QUEUE_LINES_MAX: usize = 8192;
/// Bytes of input of one run of a hook.
pub const HOOK_QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that are kept of a hook's standard error.
pub const HOOK_STDERR_BYTES_MAX: usize = 4096;

/// Bytes that are kept of a program's standard error, and the time for its runner to end at the stop.
pub const EXEC_STDERR_BYTES_MAX: usize = 4096;
pub const EXEC_RUNNER_EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest time between two heartbeats of an intake's thread.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// The number of watchdog intervals of the service manager that may pass without progress, and the
/// interval that is used without a service manager.
pub const WATCHDOG_STALL_FACTOR: u32 = 10;
pub const WATCHDOG_INTERVAL: Duration = Duration::from_mins(1);
/// The time between two looks at whether the service manager's status line has changed.
pub const STATUS_LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The interval of the live series, and its number of samples: an hour.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
pub const SAMPLES_MAX: usize = 360;
/// Pipelines that have a series of their own.
pub const SERIES_PIPELINES_MAX: usize = 16;
/// Outcomes by which a listener may lag before it misses some.
pub const OUTCOME_STREAM_RECORDS_MAX: usize = 1024;
/// Concurrent event streams, and the time between two states on one.
pub const STREAMS_MAX: usize = 16;
pub const STREAM_INTERVAL: Duration = Duration::from_secs(1);
/// Files in flight that are shown, and entries of a page by default and at most.
pub const IN_FLIGHT_ENTRIES_MAX: usize = 200;
pub const PAGE_ENTRIES: usize = 50;
pub const PAGE_ENTRIES_MAX: usize = 500;
/// Bytes of a search text, of a requested path, and of a request's body.
pub const SEARCH_BYTES_MAX: usize = 256;
pub const PATH_BYTES_MAX: usize = 4096;
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Bytes of log lines that wait for the reader of the standard error; beyond this they are dropped and
/// counted. Also the longest wait for this reader at the exit, and the wait before the retry of a write
/// that would block.
pub const LOG_BUFFER_BYTES_MAX: usize = 1024 * 1024;
pub const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Lines of unpublished files that wait for space in the events file; further ones are dropped, as the
/// ledger has them.
pub const EVENTS_DEFERRED_MAX: usize = 4096;
/// Files that `--once` names before it waits for the reader of the log, and the longest wait for it.
pub const DEFERRED_LOGGED_AT_ONCE: usize = 32;
pub const LOG_ROOM_TIMEOUT: Duration = Duration::from_secs(10);
pub const LOG_RETRY_DELAY: Duration = Duration::from_millis(10);

/// Traces that wait to be sent; beyond this they are dropped and counted. Also the largest batch.
pub const OTLP_QUEUE_TRACES_MAX: usize = 4096;
pub const OTLP_BATCH_TRACES_MAX: usize = 512;
/// The time for which traces are gathered, the timeout of their receiver, and the longest wait before
/// a retry.
pub const OTLP_BATCH_DELAY: Duration = Duration::from_millis(250);
pub const OTLP_TIMEOUT: Duration = Duration::from_secs(5);
pub const OTLP_RETRY_MAX: Duration = Duration::from_secs(30);
/// The time for the unsent traces at the stop: half of the reserve of the last commit.
pub const OTLP_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The most bytes that are read of the receiver's response.
pub const OTLP_RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// The default address of the HTTP server's port on loopback.
pub const HTTP_PORT: u16 = 9464;

/// Longest wait of a request for the end of an earlier one that blocks; less than a request may take.
pub const HTTP_TURN_TIMEOUT: Duration = Duration::from_secs(15);

/// The most bytes of a name (`NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;

/// The time between two rounds of a retention, and from the start to the first one.
pub const RETENTION_INTERVAL: Duration = Duration::from_hours(1);
pub const RETENTION_DELAY: Duration = Duration::from_mins(1);
/// The files that one round removes from an archive or a quarantine, and from how many of them it removes
/// between two writes to the ledger.
pub const RETENTION_FILES_MAX: usize = 1000;
pub const RETENTION_BATCH_FILES: usize = 64;
/// The bytes of a round that are read to recognize copies on another file system.
pub const RETENTION_COMPARED_BYTES_MAX: u64 = 64 << 30;
/// The records that a round examines, and those of one transaction.
pub const HISTORY_RECORDS_MAX: u64 = 500_000;
pub const HISTORY_BATCH_RECORDS: u64 = 512;
