//! Every bound in one place. Units are in the names or the types.

use std::time::Duration;

/// A source up to this size crosses the stages as one buffer; a larger one as a stream of chunks.
pub const WHOLE_BYTES: usize = 256 * 1024;
/// The size of one chunk of a large file.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks a channel between two steps of one large file holds.
pub const CHUNKS_QUEUED: usize = 4;

/// A large output begins to go to the disk each time it has grown by so much: the sync at its end
/// finds little left.
pub const WRITEBACK_BYTES: u64 = 8 * 1024 * 1024;

/// Small files that a stage takes and sends on together.
pub const HANDED_ON: usize = 16;

/// Quiet time asked of a file where the kernel cannot say whether it is still being written.
pub const QUIET_TIME: Duration = Duration::from_secs(2);
/// The wait before a file that someone writes is looked at again; it doubles, and the file's
/// closing cuts it short.
pub const BUSY: Duration = Duration::from_millis(250);
/// The time between two full scans of a watched input, and of a polled one.
pub const RESCAN: Duration = Duration::from_mins(5);
pub const POLL: Duration = Duration::from_secs(5);

/// Output directories that one writing thread keeps open.
pub const DIRECTORIES: usize = 32;

/// After an event told of a new directory, it is watched by then: files made in it before that are
/// found by a second scan.
pub const WATCHED_BY: Duration = Duration::from_secs(1);
/// The time between two counts of what waits.
pub const COUNT: Duration = Duration::from_secs(1);

/// Paths with unread events; beyond this they are dropped and a full scan takes their place.
pub const HINTS: usize = 65_536;

/// Paths looked at between two rounds of the intake, and files that wait there to be sent.
pub const LOOKS: usize = 256;
pub const READY: usize = 1024;

/// Tries of a file before it goes to quarantine, and the first wait between two; it doubles.
pub const ATTEMPTS: u32 = 3;
pub const BACKOFF: Duration = Duration::from_secs(1);
pub const BACKOFF_MOST: Duration = Duration::from_mins(1);
/// `--once` gives up on a place that stays sick for this long.
pub const ONCE_SICK: Duration = Duration::from_secs(20);
/// `--once` gives up on files that someone still writes after this.
pub const ONCE_BUSY: Duration = Duration::from_secs(10);

/// Names of a directory that are looked at for a source that may have been renamed.
pub const RENAMED_LOOKS: usize = 65_536;

/// The largest group commit, in files.
pub const BATCH: usize = 256;
/// Concurrent `fsync` calls.
pub const SYNCS: usize = 16;
/// Files of a batch from which on one `syncfs` may take the place of an `fsync` of each, and the
/// most that may be unwritten on the machine then: it is written first, whoever wrote it.
pub const TOGETHER: usize = 32;
pub const UNWRITTEN_BYTES: u64 = 32 * 1024 * 1024;

/// From the first signal to the end; the last part of it is kept for the last commit.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(25);
pub const COMMIT_RESERVE: Duration = Duration::from_secs(2);

/// Files that are named where a drain is cut short, for each pipeline.
pub const STRAGGLERS: usize = 10;
/// The time between two reports of a drain, and between two rounds of the metrics' upkeep.
pub const DRAIN_REPORT: Duration = Duration::from_secs(5);
pub const UPKEEP: Duration = Duration::from_secs(5);

/// The defaults of a hook's batches and time, and the largest batch that may be asked for.
pub const HOOK_FILES: u32 = 100;
pub const HOOK_FILES_MOST: u32 = 10_000;
pub const HOOK_DELAY: Duration = Duration::from_secs(1);
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// Outcomes that wait for a hook; the oldest give way to new ones.
pub const HOOK_QUEUE: usize = 8192;
/// Bytes that one run of a hook is given.
pub const HOOK_BYTES: usize = 1024 * 1024;
/// Bytes kept of what a hook says on its standard error.
pub const HOOK_SAID: usize = 4096;

/// An intake's thread is seen to turn at least this often.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// So many times the service manager's watchdog time may pass without any progress.
pub const STUCK: u32 = 10;

/// The interval of the live series, and its points: an hour.
pub const POINT: Duration = Duration::from_secs(10);
pub const POINTS: usize = 360;
/// Outcomes that a listener may lag behind before it misses some.
pub const NOTICES: usize = 1024;
/// Event streams that are served at one time, and the time between two states on one.
pub const STREAMS: usize = 16;
pub const TICK: Duration = Duration::from_secs(1);
/// Files in work that are shown, entries of a page by default and at most.
pub const WORK_SHOWN: usize = 200;
pub const PAGE: usize = 50;
pub const PAGE_MOST: usize = 500;
/// Bytes of what is searched for, of a path that is asked for, and of a request's body.
pub const SEARCH_BYTES: usize = 256;
pub const PATH_BYTES: usize = 4096;
pub const BODY_BYTES: usize = 64 * 1024;

/// Traces that wait to be sent; beyond this they are dropped, and counted. And how many go together.
pub const TRACES: usize = 4096;
pub const TRACES_SENT: usize = 512;
/// How long traces are gathered; then how long their receiver has to answer, and the longest wait
/// before they are sent to it again.
pub const TRACES_GATHERED: Duration = Duration::from_millis(250);
pub const TRACES_ANSWERED: Duration = Duration::from_secs(5);
pub const TRACES_AGAIN: Duration = Duration::from_secs(30);
/// What is left of the traces at the stop has this time: half of what the last commit may use.
pub const TRACES_FLUSHED: Duration = Duration::from_secs(1);
/// The most of an answer of the traces' receiver that is read.
pub const TRACES_ANSWER_BYTES: usize = 64 * 1024;

/// The default address of the HTTP server's port on loopback.
pub const HTTP_PORT: u16 = 9464;

/// A name may have at most this many bytes (`NAME_MAX`).
pub const NAME_BYTES: usize = 255;
