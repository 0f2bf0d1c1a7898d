//! The options and their help.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::Options;

/// Watches a directory, compresses or transcodes each file that lands, and publishes the result
/// atomically, durably and once.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  tidemill run ./inbox ./outbox                          watch, compress, publish
  tidemill run ./inbox ./outbox --once                   what is there now, then exit
  tidemill run ./in ./out --steps gunzip,zstd:9 --on-success delete
  tidemill status --watch                                a running service, live
  tidemill drain --wait                                  finish what is in work, and end; as kill -TERM

Exit codes: 0 finished; 64 usage; 65 finished, files are in quarantine (--once); 69 no service runs;
70 internal fault; 74 storage failed; 75 work left, or the state directory is in use: try again;
78 configuration."
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service, or with --once what is there now
    Run(Run),
    /// Print the resolved configuration, or everything that is wrong with it
    Check(Check),
    /// Write an annotated configuration (to the standard output without FILE)
    Init { file: Option<PathBuf> },
    /// Tell what was done, from the ledger, newest first
    History(History),
    /// Tell why a file was, was not or will be processed
    Explain(Explain),
    /// Put quarantined files back to the intake
    Requeue(Requeue),
    /// Process files again whose steps changed, or whose outputs are gone
    Reprocess(Reprocess),
    /// Tell how a running service is: what it did, has in work, and waits for
    Status(Status),
    /// Have a running service take nothing new; what is in work goes on
    Pause(Steer),
    /// Have a paused service take new files again
    Resume(Steer),
    /// Have a running service finish what is in work and end, as SIGTERM does
    Drain(Drain),
    /// Write the manual: every page into DIR, or the first one to the standard output
    Man { dir: Option<PathBuf> },
    /// Write the script that a shell completes the command line by
    Completions { shell: clap_complete::Shell },
    /// What the service starts for its hooks
    #[command(hide = true)]
    HookRunner,
    /// What the service starts to find out whether a directory answers
    #[command(hide = true)]
    Look {
        #[arg(last = true)]
        path: PathBuf,
    },
    /// What the runner starts for a command
    #[command(hide = true)]
    HookExec {
        #[arg(last = true)]
        command: Vec<std::ffi::OsString>,
    },
}

#[derive(Debug, clap::Args)]
pub struct Check {
    #[command(flatten)]
    pub run: Run,
    /// Also try out what the file systems of the directories can do: makes files there, and removes them
    #[arg(long)]
    pub probe: bool,
}

#[derive(Debug, clap::Args)]
pub struct Run {
    /// The directory whose files are processed, with its sub-directories
    input: Option<PathBuf>,
    /// The directory the results are published in; it holds the state too, in .tidemill
    output: Option<PathBuf>,
    /// Read a configuration file; options override it where it has one pipeline
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Process what is there, then exit
    #[arg(long)]
    once: bool,
    /// What is done to a file, left to right: zstd[:1-19], gzip[:1-9][:members], brotli[:0-11],
    /// xz[:0-9], bzip2[:1-9], lz4[:1-12], unzstd, gunzip, unbrotli, unxz, bunzip2, unlz4,
    /// decompress, copy
    #[arg(long, value_name = "LIST")]
    steps: Option<String>,
    /// What happens to a source once its output is durable: keep, delete, archive:DIR
    #[arg(long, value_name = "WHAT")]
    on_success: Option<String>,
    /// What happens when the output's name is taken: update (replace what this service published
    /// from the same source and nobody changed), fail, replace, suffix, skip
    #[arg(long, value_name = "WHAT")]
    on_exists: Option<String>,
    /// Take only files that match one of these
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leave files and directories alone that match one of these
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Whether names of unfinished files (dot files, *.part, *.tmp, *~ and others) are left alone:
    /// ignore, take
    #[arg(long, value_name = "WHAT")]
    temporary_names: Option<String>,
    /// Take a file only when it has not changed for this long; `auto` waits 100 ms after the close
    /// of a file that was written in its place
    #[arg(long, value_name = "DURATION")]
    settle: Option<String>,
    /// Serve metrics and probes at this address; 127.0.0.1:9464 or a free port by default
    #[arg(long, value_name = "ADDR|off")]
    http: Option<String>,
    /// Take changes over HTTP from who knows what is in this file: one line, 16 letters or more
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Take changes at this Unix socket from the service's own user; STATE/admin.sock by default
    #[arg(long, value_name = "PATH|off")]
    admin_socket: Option<PathBuf>,
    /// Keep the ledger, the lock and the quarantine here
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Append a JSON line for each outcome: the acknowledgement
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// How outputs are made durable: fsync, syncfs (one call for a batch), none
    #[arg(long, value_name = "HOW")]
    durability: Option<String>,
    /// How long a stop may take, 25s by default
    #[arg(long, value_name = "DURATION")]
    shutdown_deadline: Option<String>,
    /// What the kernel is to keep the service from: best-effort (all but its own directories and
    /// port, as far as it can), require (or the service does not start), off
    #[arg(long, value_name = "HOW")]
    sandbox: Option<String>,
    /// How log lines look: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl From<Run> for Options {
    fn from(run: Run) -> Self {
        let Run {
            input, output, config, once, steps, on_success, on_exists, include, exclude, ..
        } = run;
        let Run {
            temporary_names,
            settle,
            http,
            admin_token_file,
            admin_socket,
            state_dir,
            events,
            durability,
            shutdown_deadline,
            sandbox,
            log_format,
            ..
        } = run;
        Self {
            input,
            output,
            config,
            once,
            steps,
            on_success,
            on_exists,
            include,
            exclude,
            temporary_names,
            settle,
            http,
            admin_token_file,
            admin_socket,
            state_dir,
            events,
            durability,
            shutdown_deadline,
            sandbox,
            log_format,
        }
    }
}

/// Where the ledger is.
#[derive(Debug, clap::Args)]
pub struct StateArgs {
    /// The state directory; without it one is looked for near the path, or the working directory
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The configuration file of the service
    #[arg(long, value_name = "FILE", conflicts_with = "state_dir")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Status {
    /// Show it live, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// One JSON object, as /api/v1/status has it
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: StateArgs,
}

#[derive(Debug, clap::Args)]
pub struct Steer {
    /// Only this pipeline
    pub pipeline: Option<String>,
    #[command(flatten)]
    pub place: StateArgs,
}

#[derive(Debug, clap::Args)]
pub struct Drain {
    /// Wait until it has ended, and tell how far it is
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub place: StateArgs,
}

#[derive(Debug, clap::Args)]
pub struct History {
    /// Only records in this state: intent, published, done, withdrawn, skipped, quarantined, requeued,
    /// changed
    #[arg(long)]
    pub state: Option<String>,
    /// Only records since this time (RFC 3339) or this long ago (`2h`)
    #[arg(long, value_name = "TIME|DURATION")]
    pub since: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub place: StateArgs,
}

#[derive(Debug, clap::Args)]
pub struct Explain {
    /// A file of an input, an output or the quarantine; it need not exist any more
    pub path: PathBuf,
    #[command(flatten)]
    pub place: StateArgs,
}

#[derive(Debug, clap::Args)]
#[group(
    id = "again",
    required = true,
    multiple = false,
    args = ["paths", "all", "since", "changed_steps"]
)]
pub struct Reprocess {
    /// Files of an input
    pub paths: Vec<PathBuf>,
    /// Everything that was processed and is still in an input
    #[arg(long)]
    pub all: bool,
    /// What was processed since this time (RFC 3339) or this long ago (`2h`)
    #[arg(long, value_name = "TIME|DURATION")]
    pub since: Option<String>,
    /// What was made by other steps than the service had at its last start
    #[arg(long)]
    pub changed_steps: bool,
    #[command(flatten)]
    pub place: StateArgs,
}

#[derive(Debug, clap::Args)]
#[group(id = "which", required = true, multiple = false, args = ["paths", "all"])]
pub struct Requeue {
    /// Quarantined files, by where they are now or by where they came from
    pub paths: Vec<PathBuf>,
    /// Everything in quarantine
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub place: StateArgs,
}
