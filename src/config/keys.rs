//! The configuration keys, one row for each: its name, its type, its default, the option that overrides
//! it, and its help. A row of the part `values` has a [kind](super::kinds) of value: such a key is parsed,
//! shown, compared at a reload, completed and documented without another line. The others are paths, lists
//! and what depends on other keys: the compiler asks for them in [`super::load`] and [`super::render`].

use std::{collections::BTreeMap, path::PathBuf};

use toml::Spanned;

use super::{
    declare::{LocatedText, RawHook, ValueKind},
    durations::{Age, Delay, Period, QuietTime},
    kinds::{
        Boolean, Count, ExitCodes, MemoryLimit, Optional, Priority, Size, Suffix, Threads, Word,
    },
    table::table,
    window::{WeeklyWindows, ZoneName},
};
use crate::{
    limits,
    policy::{
        Checksum, Durability, HardLinks, LogFormat, OnExists, Order, Owners, Sandbox,
        TemporaryNames,
    },
};

table! {
    /// A whole configuration file.
    RawFile, FileEntries, FileOptions, "above the first table" {
        state_dir: PathBuf, ["--state-dir" long, value_name = "DIR"],
            "Keep the ledger, the lock and the quarantine here; by default OUTPUT/.tidemill of a single pipeline";
        http: String = "default", ["--http" long, value_name = "ADDR|off"],
            "Serve the page, metrics and probes at this address; by default 127.0.0.1:9464 or a free port";
        admin_token_file: PathBuf, ["--admin-token-file" long, value_name = "FILE"],
            "Require the token in this file (one line, at least 16 characters) for changes over HTTP";
        admin_socket: PathBuf = "default", ["--admin-socket" long, value_name = "PATH|off"],
            "Accept changes at this Unix socket from the service's user; by default STATE/admin.sock";
        events: PathBuf, ["--events" long, value_name = "FILE"],
            "Append a JSON line for each outcome; a `published` line acknowledges the output";
        once: bool = false,
            "Process the files that are there, then exit (`--once`)";
    }
    values FileKeys, FileByHand {
        shutdown_deadline: Delay = "25s", ["--shutdown-deadline" long, value_name = "DURATION"],
            "The longest time for a stop, 25s by default",
            "from the first signal to the exit; the final 2 s (at most half) are reserved for the last commit";
        sandbox: Word<Sandbox> = "best-effort", ["--sandbox" long, value_name = "HOW"],
            "Confine the service to its directories and ports: best-effort (as far as the kernel can), require (refuse to start otherwise), off",
            "Landlock confines the service to its own directories and ports: `\"best-effort\"` as far as the kernel can, `\"require\"` completely (Linux 6.12) or no start, `\"off\"`";
        log_format: Word<LogFormat> = "text", ["--log-format" long, value_name = "FORMAT"],
            "The format of the log: text (logfmt) or json",
            "`\"text\"` (logfmt) or `\"json\"`, on stderr; each line has a stable `event`";
    }
    tables {
        limits: RawLimits = ValueKind::Table(&RawLimits::TABLE);
        retention: RawRetention = ValueKind::Table(&RawRetention::TABLE);
        hooks: RawHooks = ValueKind::Table(&RawHooks::TABLE);
        age: RawAge = ValueKind::Table(&RawAge::TABLE);
        exec: BTreeMap<String, Spanned<RawExec>> = ValueKind::Named(&RawExec::TABLE);
        otlp: Option<Spanned<RawOtlp>> = ValueKind::Table(&RawOtlp::TABLE);
        pipelines as "pipeline": Vec<Spanned<RawPipeline>> = ValueKind::Tables(&RawPipeline::TABLE);
    }
}

table! {
    /// What all pipelines share.
    RawLimits, LimitsEntries, LimitsOptions, "in [limits]" {
    }
    values #[derive(Copy)] Limits, LimitsByHand {
        memory: MemoryLimit = "50%",
            "Memory for file content and codecs: a size, or a share of the machine's memory or the control group's limit",
            "file content and codecs, in addition to about 20 MiB of the service; the share is of the machine's memory or of the control group's limit. Each pipeline gets codec memory for one small and one large file even beyond it; a note reports where those together exceed it";
        files: Count = 512,
            "Files in flight at one time; each holds up to two file descriptors",
            "files in flight; each has up to two descriptors open";
        workers: Threads,
            "Threads that transform; by default the number of processors",
            "threads that transform";
    }
}

table! {
    /// How long the service keeps what it has processed.
    RawRetention, RetentionEntries, RetentionOptions, "in [retention]" {
    }
    values #[derive(Copy)] Retention, RetentionByHand {
        archive: Optional<Age>,
            "Remove archived sources that were processed longer ago",
            "archived sources that were processed longer ago are removed, such as `\"30d\"`";
        archive_size: Optional<Size>,
            "Remove the oldest archived sources of a pipeline while they are larger than this together",
            "the oldest archived sources of a pipeline are removed while they are larger than this together";
        quarantine: Optional<Age>,
            "Remove files from the quarantine that have been there for longer",
            "files that have been in quarantine for longer are removed, with their reason files";
        history: Optional<Age>,
            "Remove records from the ledger that are older and that nothing needs",
            "older records are removed from the ledger, unless their source is still in the input, their output is still in the output, or their file is still kept";
    }
}

table! {
    /// The user's hooks.
    RawHooks, #[expect(clippy::struct_field_names, reason = "the names of the keys")] HooksEntries, HooksOptions, "in [hooks]" {
        on_start: RawHook, "Run when the service is ready";
        on_published: RawHook, "Run for published outputs";
        on_failed: RawHook, "Run for quarantined files";
        on_overdue: RawHook, "Run when no file came for as long as `expect` states";
        on_drained: RawHook, "Run when the service is about to exit";
    }
    values HooksKeys, #[expect(clippy::struct_field_names, reason = "the names of the keys")] HooksByHand {
        batch_files: Count<u32, { limits::HOOK_BATCH_FILES_MAX }> = 100,
            "Outcomes passed to one run, at most",
            "outcomes in one run, at most 10,000";
        batch_delay: Delay = "1s",
            "How long the first outcome of a batch waits for others",
            "the wait for more outcomes after the first";
        timeout: Period = "10s",
            "A run that takes longer is killed, with the processes it started",
            "a run that takes longer is killed, with all its processes";
    }
}

table! {
    /// A program of the user, which `exec:NAME` runs.
    RawExec, ExecEntries, ExecOptions, "in an [exec.NAME]" {
        command: Vec<LocatedText>,
            "The program, by its absolute path, and its arguments. It reads its input from the standard input and writes its output to the standard output; with `{in}` and `{out}` in an argument, these are files";
        read: Vec<LocatedText> = [],
            "Files and directories that it may read, in addition to the system's programs and libraries";
        write: Vec<LocatedText> = [],
            "Directories in which it may also write; a run always has one of its own for temporary files, which is its HOME and TMPDIR";
        environment: Vec<LocatedText> = [],
            "Variables of its environment, as `NAME=VALUE`; of the service's it gets LANG, PATH and TZ only";
    }
    values ExecKeys, ExecByHand {
        extension: Optional<Suffix>,
            "Appended to the name, such as `.pdf`",
            "appended to the name, such as `\".pdf\"`";
        replaces: Optional<Suffix>,
            "Removed from the end of the name before that, such as `.docx`",
            "removed from the end of the name before that, such as `\".docx\"`, in either case of letters";
        timeout: Period = "1m",
            "A run that takes longer is killed, with everything it started, and the file is tried again",
            "a run that takes longer is killed with everything that it started; the file is tried again";
        memory: Size = "512MiB",
            "Memory of a run; it counts against `limits.memory`",
            "of the processes of a run together, checked five times a second, and of each one's data (`RLIMIT_DATA`); counts against `limits.memory`";
        processes: Count = 64,
            "Processes of a run at one time",
            "threads and processes of a run, checked five times a second";
        network: Boolean = false,
            "Let it open TCP connections",
            "it may open TCP connections and use abstract Unix sockets";
        reject_codes: ExitCodes = [65],
            "Exit codes for which a file is quarantined at once; any other is tried again",
            "exit codes for which the file is quarantined at once";
        pause_codes: ExitCodes = [75],
            "Exit codes for which the pipeline pauses: the file is not at fault, and no attempt is counted",
            "exit codes for which the pipeline pauses and tries again later: the file is not at fault";
        allow_empty: Boolean = false,
            "Publish an empty output of a file that is not empty; otherwise the run has failed",
            "an empty output of a file that is not empty is published; otherwise the run has failed";
    }
}

table! {
    /// The keys of `age` and `unage`.
    RawAge, AgeEntries, AgeOptions, "in [age]" {
        recipients: Vec<LocatedText> = [],
            "Public keys (`age1…`) that `age` encrypts to: the identity of any one of them decrypts";
        recipients_file: PathBuf, ["--age-recipients-file" long = "age-recipients-file", value_name = "FILE"],
            "A file with a recipient of `age` on each line, read at the start and at each reload";
        identity_file: PathBuf, ["--age-identity-file" long = "age-identity-file", value_name = "FILE"],
            "A file with the identities of `unage`, as `age-keygen` writes it, of mode 0600; read at the start and at each reload";
    }
}

table! {
    /// Where traces are sent.
    RawOtlp, OtlpEntries, OtlpOptions, "in [otlp]" {
        endpoint: String, "The collector, as `http://IP:PORT` or `http://localhost:PORT`";
        sampling: f64 = 1.0, "The share of files that are traced, from 0 to 1";
        paths: bool = false, "Add each file's path to its trace";
    }
}

table! {
    /// A pipeline.
    RawPipeline, PipelineEntries, PipelineOptions, "in a [[pipeline]]" {
        name: String,
            "The name in logs, metrics and the ledger; required where there are several pipelines";
        input: PathBuf, ["INPUT" value_name = "INPUT"],
            "The directory to watch, with its sub-directories";
        output: PathBuf, ["OUTPUT" value_name = "OUTPUT"],
            "The directory for the outputs; by default it also holds the state, in .tidemill";
        transforms: String = "zstd:3", ["--transform" long = "transform", value_name = "LIST"],
            "The transforms for each file, left to right: zstd[:1-19], gzip[:1-9][:members], brotli[:0-11], xz[:0-9], bzip2[:1-9], lz4[:1-12], unzstd, gunzip, unbrotli, unxz, bunzip2, unlz4, decompress[:or-copy], copy, age, unage (keys of the table age), exec:NAME (a program of the configuration file)";
        on_success: String = "keep", ["--on-success" long, value_name = "WHAT"],
            "What to do with a source once its output is durable: keep, delete, archive:DIR";
        include: Vec<LocatedText> = [], ["--include" long, value_name = "GLOB", action = clap::ArgAction::Append],
            "Process only files that match one of these";
        exclude: Vec<LocatedText> = [], ["--exclude" long, value_name = "GLOB", action = clap::ArgAction::Append],
            "Ignore files and directories that match one of these";
        quarantine: PathBuf,
            "Where files that failed permanently are moved, with the reason; by default below the state directory. With `on_success = \"keep\"` they stay where they are";
    }
    values PipelineKeys, PipelineByHand {
        on_exists: Word<OnExists> = "update", ["--on-exists" long, value_name = "WHAT"],
            "What to do if the output's name exists: update (replace an unchanged output of the same source), fail, replace, suffix, skip",
            "when the output's name is taken: `\"update\"` replaces only what this service published from the same source and nobody has changed since; `\"fail\"`, `\"replace\"`, `\"suffix\"`, `\"skip\"`";
        ignore_case: Boolean = false, ["--ignore-case" long, num_args = 0, default_missing_value = "true"],
            "Let `*.csv` in `include` and `exclude` also match `A.CSV`",
            "`*.csv` in `include` and `exclude` also matches `A.CSV`";
        min_size: Optional<Size>, ["--min-size" long, value_name = "SIZE"],
            "Leave smaller files alone",
            "smaller files are ignored; `\"1\"` leaves out empty ones";
        max_size: Optional<Size>, ["--max-size" long, value_name = "SIZE"],
            "Leave larger files alone",
            "larger files are ignored";
        temporary_names: Word<TemporaryNames> = "ignore", ["--temporary-names" long, value_name = "WHAT"],
            "What to do with temporary names (dot files, *.part, *.tmp, *~ and others): ignore, take",
            "`\"ignore\"` leaves names alone that producers use for unfinished files (dot files, `*.part`, `*.tmp`, `*~` and others, listed by `tidemill check`); `\"take\"` takes them, for producers whose final names look so (PostgreSQL's `*.partial`)";
        settle: QuietTime = "auto", ["--settle" long, value_name = "DURATION"],
            "Process a file only after it has not changed for this long; `auto` waits 100 ms after the close of a file that was written in place",
            "`\"auto\"`: no process has the file open for writing, and 100 ms have passed since its close, or it was renamed to its name; a duration also requires that long without changes; `\"0s\"`: at its close";
        min_age: Delay = "0s",
            "Process a file only once it was last modified this long ago",
            "the age of the last modification";
        order: Word<Order> = "none", ["--order" long, value_name = "ORDER"],
            "Which of the files that are ready begins first: none (as found, small ones first), name, oldest, newest, smallest, largest",
            "which of the files that are ready begins first: `\"none\"` (as found, small ones overtake large ones), `\"name\"` (the path below the input, byte by byte), `\"oldest\"` and `\"newest\"` (by modification), `\"smallest\"`, `\"largest\"`; see *Order*";
        in_order: Boolean = false, ["--in-order" long, num_args = 0, default_missing_value = "true"],
            "Begin a file only after the acknowledgement of the one before it, in the `order`; a failed one holds the rest",
            "one file at a time, in the `order` (by name if that is `\"none\"`): the next one begins after the acknowledgement of the one before it, and a file that failed holds those after it until it succeeds or is quarantined; see *Order*";
        expect: Optional<Period>, ["--expect" long, value_name = "DURATION"],
            "Report the pipeline as overdue when no file came for this long",
            "when no file came for this long, the pipeline is overdue: a log line, `tidemill_overdue` and the hook `on_overdue`, once until a file comes";
        window: Optional<WeeklyWindows>, ["--window" long, value_name = "WINDOW"],
            "Take files only in these hours, such as 22:00-06:00 Mon-Fri; not with --once",
            "the hours in which files are taken: `\"22:00-06:00\"`, `\"22:00-06:00 Mon-Fri\"` (the days on which it opens), `\"20:00-06:00 Mon-Fri; 00:00-24:00 Sat,Sun\"`; see *Windows*";
        time_zone: ZoneName = "local", ["--time-zone" long, value_name = "ZONE"],
            "The time zone of the windows: local, UTC, or a name such as Europe/Berlin",
            "of `window`: `\"local\"` (the machine's), `\"UTC\"`, or a name such as `\"Europe/Berlin\"`";
        priority: Priority = 0,
            "The share of the processors, from -10 to 10, where several pipelines need them",
            "from -10 to 10: where several pipelines need the processors, one of a higher priority gets more of them, up to 14 times as much; none is left without. See *Priority*";
        marker: Optional<Suffix>,
            "Process a file only once a file of its name and this suffix, such as `.done`, exists",
            "with `\".done\"`, a file is picked up once `NAME.done` exists and is not older than the file";
        hard_links: Word<HardLinks> = "take",
            "What to do with a file that has other names (hard links): take, refuse",
            "files with further names: `\"take\"`, `\"refuse\"`";
        owners: Word<Owners> = "any",
            "Whose files to process: any, or same (the owner of the input directory)",
            "`\"same\"` takes only files of the owner of the input directory";
        durability: Word<Durability> = "fsync", ["--durability" long, value_name = "HOW"],
            "How to make outputs durable: fsync, syncfs (one call for each batch), none",
            "`\"fsync\"`, batched into one `syncfs` when little else is dirty; `\"syncfs\"` makes one call for each batch (on ext4, XFS and btrfs; elsewhere as `\"fsync\"`); `\"none\"` gives no guarantee for a power loss";
        min_free: Optional<Size>, ["--min-free" long, value_name = "SIZE"],
            "Pause while the output's file system has less free space",
            "the pipeline pauses while the output's file system has less free space, and resumes when it has a tenth more. Checked each second, and for each 8 MiB of a large output, which is then made later";
        verify: Boolean = false, ["--verify" long, num_args = 0, default_missing_value = "true"],
            "Decode each output and compare it with its source before it is published",
            "each output is decoded while it is made, and must give its source; a large output is also read back, from the disk where the file system drops its cache on request (not with `durability = \"none\"`). Otherwise nothing is published, and the pipeline pauses: the machine gives wrong data. For transforms that compress or copy";
        checksum: Word<Checksum> = "off", ["--checksum" long, value_name = "WHAT"],
            "Publish a checksum file with each output: sha256 (NAME.sha256, for `sha256sum -c`), off",
            "`\"sha256\"` publishes `NAME.sha256` with each output, before its name, for `sha256sum -c`: see [Checksum files](#checksum-files)";
        attempts: Count = 3,
            "Attempts before a file is quarantined",
            "attempts before a file goes to quarantine";
        backoff: Delay = "1s",
            "The wait before the second attempt; it doubles each time",
            "the wait before the second attempt; it doubles";
        rescan: Period = "5m",
            "How often to scan the input for files that no event reported",
            "the time between two full scans";
        max_output: Size = "1TiB",
            "The largest output of one file that is decompressed, or made by a program",
            "of a file that is decompressed or made by a program";
        max_ratio: Count<u64> = 2000,
            "The largest expansion of a file that is decompressed, in bytes for each byte of the source",
            "bytes of output for each byte of source, over all transforms";
        max_decoder_memory: Size = "128MiB",
            "The largest window or dictionary of one decoder",
            "window or dictionary of one decoder";
    }
}
