//! The options and their help.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{config::Options, outcome::State};

/// Watches a directory, compresses or transcodes each file that arrives, and publishes each result
/// exactly once, atomically and durably.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  tidemill run ./in ./out                        watch, compress, publish
  tidemill run ./in ./out --once                 process the present files
  tidemill run ./in ./out --transform gunzip,zstd:9 --on-success delete
  tidemill status --watch                        a running service, live
  tidemill drain --wait                          finish what was begun, exit

Exit codes:
   0  finished
  64  usage
  65  finished, files are in quarantine (--once)
  69  no service is running
  70  internal error
  73  the name is taken by other content (put)
  74  storage failed
  75  unfinished work, or the state directory is in use: try again
  78  configuration"
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service; with --once, process the present files and exit
    Run(Run),
    /// Check a configuration: print the keys that differ from the defaults, or every error
    Check(Check),
    /// Show what a run would do with each file, without doing it
    Plan(Plan),
    /// Write an annotated configuration (to the standard output without FILE)
    Init { file: Option<PathBuf> },
    /// Put files into an input, each at once, complete and durable
    Put(Put),
    /// List the ledger's records, newest first
    History(History),
    /// Explain why a file was or was not processed
    Explain(Explain),
    /// Print the checksums of the outputs, for `sha256sum -c`
    Checksums(Checksums),
    /// Return quarantined files to the input
    Requeue(Requeue),
    /// Process files again, for example after a change of their transforms
    Reprocess(Reprocess),
    /// Show the state of a running service
    Status(Status),
    /// List the services that run on this machine
    Ps,
    /// Pause the intake of a running service; files in flight are finished
    Pause(PipelineArgs),
    /// Resume a paused service
    Resume(PipelineArgs),
    /// Finish the files that were begun and stop the service, as SIGTERM does
    Drain(Drain),
    /// Write the manual: every page into DIR, or the first one to the standard output
    Man { dir: Option<PathBuf> },
    /// Write the completion script for a shell
    Completions { shell: clap_complete::Shell },
    /// The process that runs the service's hooks
    #[command(hide = true)]
    HookRunner,
    /// The process that starts the programs of `exec`
    #[command(hide = true)]
    ExecRunner,
    /// The process that supervises one run of a program
    #[command(hide = true)]
    ExecSupervisor,
    /// The process that becomes the program
    #[command(hide = true)]
    ExecProgram,
    /// The process that finds out whether a directory answers
    #[command(hide = true)]
    Look {
        #[arg(last = true)]
        path: PathBuf,
    },
    /// The process of one command of a hook
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
    /// Also test what the file systems of the directories support; creates and removes test files there
    #[arg(long)]
    pub probe: bool,
    /// Print every key, as a configuration file; by default only those that differ from the defaults
    #[arg(long)]
    pub all: bool,
    /// Accept inputs that do not exist yet, as on a machine other than the service's
    #[arg(long, conflicts_with = "probe")]
    pub syntax: bool,
}

#[derive(Debug, clap::Args)]
pub struct Plan {
    #[command(flatten)]
    pub run: Run,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// List also the files that no pipeline takes
    #[arg(long, conflicts_with = "json")]
    pub all: bool,
}

#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    pub options: Options,
    /// Log each file; -vv logs all details
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Log errors only
    #[arg(short, long)]
    quiet: bool,
}

impl Run {
    /// The requested level of the log, as `RUST_LOG` names it.
    pub const fn log_level(&self) -> Option<&'static str> {
        match (self.quiet, self.verbose) {
            (true, _) => Some("error"),
            (false, 0) => None,
            (false, 1) => Some("debug"),
            (false, _) => Some("trace"),
        }
    }

    /// The options, where a lone `*.toml` is the configuration, and a port alone is one of this machine.
    pub fn into_options(self) -> Options {
        let mut options = self.options;
        let is_toml =
            |file: &PathBuf| file.extension().is_some_and(|extension| extension == "toml");
        if options.config.is_none() && options.pipeline.output.is_none() {
            options.config = options.pipeline.input.take_if(|file| is_toml(file));
        }
        options
    }
}

/// The state directory of a service.
#[derive(Debug, clap::Args)]
pub struct StateArgs {
    /// The state directory; by default the one near the path or the working directory, or the one of
    /// /etc/tidemill/tidemill.toml
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
    /// Print one JSON object, as /api/v1/status does
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub service: StateArgs,
}

#[derive(Debug, clap::Args)]
pub struct PipelineArgs {
    /// Only this pipeline
    pub pipeline: Option<String>,
    #[command(flatten)]
    pub service: StateArgs,
}

#[derive(Debug, clap::Args)]
pub struct Drain {
    /// Wait until the service has exited, and report progress
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub service: StateArgs,
}

#[derive(Debug, clap::Args)]
pub struct History {
    #[arg(long, help = format!("Only records in this state: {}", State::WORDS.join(", ")))]
    pub state: Option<String>,
    /// Only records since this time (RFC 3339) or this long ago (`2h`)
    #[arg(long, value_name = "TIME|DURATION")]
    pub since: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// The largest number of records
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub service: StateArgs,
}

#[derive(Debug, clap::Args)]
#[group(id = "target", required = true, multiple = false, args = ["to", "pipeline"])]
pub struct Put {
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// The input, or a directory in it
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// The pipeline whose input it is
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// The file's name in the input; by default the one that it has
    #[arg(long)]
    pub name: Option<std::ffi::OsString>,
    /// Remove each file once it is durable in the input
    #[arg(long = "move")]
    pub moves: bool,
    /// Wait until each file is published, and print its output
    #[arg(long)]
    pub wait: bool,
    /// The longest time to wait
    #[arg(long, value_name = "DURATION", default_value = "60s", requires = "wait")]
    pub timeout: String,
    #[command(flatten)]
    pub service: StateArgs,
}

#[derive(Debug, clap::Args)]
pub struct Explain {
    /// A file in an input, an output or the quarantine; it need not exist any more
    pub path: PathBuf,
    #[command(flatten)]
    pub service: StateArgs,
}

#[derive(Debug, clap::Args)]
pub struct Checksums {
    /// Outputs, or directories of outputs; by default all
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub service: StateArgs,
}

#[derive(Debug, clap::Args)]
#[group(
    id = "again",
    required = true,
    multiple = false,
    args = ["paths", "all", "since", "changed_transforms"]
)]
pub struct Reprocess {
    /// Files in an input
    pub paths: Vec<PathBuf>,
    /// Every processed file that is still in an input
    #[arg(long)]
    pub all: bool,
    /// Files processed since this time (RFC 3339) or this long ago (`2h`)
    #[arg(long, value_name = "TIME|DURATION")]
    pub since: Option<String>,
    /// Files whose outputs were made by other transforms than those of the last start
    #[arg(long)]
    pub changed_transforms: bool,
    #[command(flatten)]
    pub service: StateArgs,
}

#[derive(Debug, clap::Args)]
#[group(id = "which", required = true, multiple = false, args = ["paths", "all"])]
pub struct Requeue {
    /// Quarantined files, by their path in the quarantine or by their original path
    pub paths: Vec<PathBuf>,
    /// All quarantined files
    #[arg(long)]
    pub all: bool,
    /// List each file, also where there are several
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    pub service: StateArgs,
}
