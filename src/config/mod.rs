//! The configuration, with every default and path resolved and checked.

mod age;
mod age_keys;
mod declare;
mod diagnostics;
mod diff;
mod durations;
mod exec;
mod filter;
mod hooks;
mod keys;
mod kinds;
mod load;
mod memory;
mod otlp;
mod paths;
mod read;
mod reference;
mod render;
mod table;
mod temporary;
mod validate;
mod window;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    policy::{Durability, ExpansionLimits, OnSuccess, Otlp, SourceRules, TemporaryNames},
    transforms::{Chain, age::AgeKeys, exec::Programs, memory::Need},
};

pub use declare::Location;
pub use declare::{Facts, Key, KeyTable, ValueKind};
pub use diagnostics::{Diagnostic, DiagnosticKind, Diagnostics};
pub use diff::Difference;
pub use durations::duration;
pub use filter::Filter;
pub use hooks::{Hook, Hooks};
pub use keys::{
    AgeOptions, ExecOptions, FileKeys, FileOptions, HooksKeys, HooksOptions, Limits, LimitsOptions,
    OtlpOptions, PipelineKeys, PipelineOptions, Retention, RetentionOptions,
};
pub use load::{load, resolve};
pub use memory::Memory;
pub use paths::real_path;
pub use reference::{manual, tables};
pub use temporary::{temporary_name, temporary_patterns};
pub use window::{WindowState, Windows, Zone};

/// The options of `tidemill run`, as they were given.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub pipeline: PipelineOptions,
    /// Read a configuration file; options override it if it has a single pipeline
    #[arg(long, value_name = "FILE", display_order = 0)]
    pub config: Option<PathBuf>,
    /// Process the files that are there, then exit
    #[arg(long, display_order = 0)]
    pub once: bool,
    #[command(flatten)]
    pub file: FileOptions,
    #[command(flatten)]
    pub limits: LimitsOptions,
    #[command(flatten)]
    pub hooks: HooksOptions,
    #[command(flatten)]
    pub age: AgeOptions,
    #[command(flatten)]
    pub otlp: OtlpOptions,
}

/// The whole configuration: pipelines and what they share. Every path is absolute.
#[derive(Clone, Debug)]
pub struct Config {
    pub state_dir: PathBuf,
    pub http: Http,
    /// Holds the token that allows changes over HTTP.
    pub admin_token_file: Option<PathBuf>,
    pub admin_socket: AdminSocket,
    pub events: Option<PathBuf>,
    /// The keys that follow from their kinds.
    pub keys: FileKeys,
    pub limits: Limits,
    /// How long archived and quarantined files and the ledger's records are kept.
    pub retention: Retention,
    pub hooks: Hooks,
    /// The recipients and the key files of `age` and `unage`.
    pub age: Arc<AgeKeys>,
    /// The programs of `exec`.
    pub programs: Programs,
    /// Without it, no traces are sent.
    pub otlp: Option<Otlp>,
    pub once: bool,
    /// At least one.
    pub pipelines: Vec<Pipeline>,
}

/// Where the HTTP server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    Off,
    /// 127.0.0.1:9464, or a free port if that one is in use.
    Default,
    /// This address only: the user named it.
    At(SocketAddr),
}

/// The Unix socket through which the service's user may make changes without a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminSocket {
    Off,
    /// `admin.sock` in the state directory, or none if it cannot be created.
    Default,
    /// This path only: the user named it.
    At(PathBuf),
}

impl AdminSocket {
    /// The path to listen at, if any.
    #[must_use]
    pub fn path(&self, state_dir: &std::path::Path) -> Option<PathBuf> {
        match self {
            Self::Off => None,
            Self::Default => Some(state_dir.join("admin.sock")),
            Self::At(path) => Some(path.clone()),
        }
    }
}

/// An input directory, an output directory, and what to do with each file.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Its name in logs, metrics and the ledger; unique.
    pub name: Arc<str>,
    pub input: PathBuf,
    pub output: PathBuf,
    pub transforms: Chain,
    pub on_success: OnSuccess,
    pub filter: Filter,
    pub quarantine: PathBuf,
    /// The keys that follow from their kinds.
    pub keys: PipelineKeys,
}

impl Pipeline {
    /// The rules by which a source's metadata allow it to be taken.
    #[must_use]
    pub fn rules(&self) -> SourceRules {
        let PipelineKeys { hard_links, owners, min_size, max_size, .. } = self.keys;
        SourceRules { hard_links, owners, size_min: min_size.unwrap_or(0), size_max: max_size }
    }

    /// The memory of its transforms, within a limit in bytes for those of all pipelines.
    #[must_use]
    pub fn memory_need(&self, limit: u64) -> Need<'_> {
        Need::within(&self.transforms, self.bounds(), limit, self.keys.verify)
    }

    /// The limits of its decompression.
    #[must_use]
    pub const fn bounds(&self) -> ExpansionLimits {
        ExpansionLimits {
            output_bytes: self.keys.max_output,
            ratio: self.keys.max_ratio,
            decoder_bytes: self.keys.max_decoder_memory,
        }
    }

    /// The directories that it reads from and writes to.
    #[must_use]
    pub fn directories(&self) -> Vec<&Path> {
        let mut directories = vec![&*self.input, &*self.output, &*self.quarantine];
        if let OnSuccess::Archive(archive) = &self.on_success {
            directories.push(archive);
        }
        directories
    }

    /// Whether one could process or replace files of the other.
    #[must_use]
    pub fn shares_files_with(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.directories(), other.directories());
        let mut pairs = ours.iter().flat_map(|one| theirs.iter().map(move |other| (one, other)));
        self.name == other.name || pairs.any(|(a, b)| a.starts_with(b) || b.starts_with(a))
    }

    /// The directories that the service writes to for this pipeline.
    pub fn own_paths(&self) -> impl Iterator<Item = &Path> {
        let archive = match &self.on_success {
            OnSuccess::Archive(archive) => Some(archive.as_path()),
            OnSuccess::Keep | OnSuccess::Delete => None,
        };
        [self.output.as_path(), &self.quarantine].into_iter().chain(archive)
    }
}

impl Config {
    /// The paths that the service writes to for all pipelines.
    pub fn own_paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.state_dir.as_path()).chain(self.events.as_deref())
    }

    /// Warnings: what is allowed but questionable.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        notes.extend(self.events.as_deref().and_then(|events| self.exposed_by_events(events)));
        notes.extend(validate::memory_note(self));
        notes.extend(age_keys::note(&self.age));
        for pipeline in &self.pipelines {
            let name = &pipeline.name;
            let warnings = pipeline.transforms.warnings().into_iter();
            notes.extend(warnings.map(|text| format!("pipeline {name}: `transforms`: {text}")));
            if pipeline.keys.durability == Durability::None {
                notes.push(format!(
                    "pipeline {name}: `durability = \"none\"`: published outputs can disappear in a power loss"
                ));
            }
            if pipeline.keys.temporary_names == TemporaryNames::Ignore {
                let globs = pipeline.filter.written().include.iter();
                notes.extend(globs.filter(|glob| temporary_name(glob.as_ref()).is_some()).map(|glob| format!(
                    "pipeline {name}: `include = [\"{glob}\"]` names temporary files, which are ignored: write `temporary_names = \"take\"` to process them"
                )));
            }
            if let Some(events) = &self.events
                && events.starts_with(&pipeline.output)
                && !events.starts_with(&self.state_dir)
            {
                notes.push(format!(
                    "pipeline {name}: the events file {} is in the output directory: a consumer may mistake it for an output",
                    events.display()
                ));
            }
        }
        notes
    }

    /// Warns of other files next to the events file: the sandbox has to open that directory for
    /// writing, and the service could write to them, too.
    fn exposed_by_events(&self, events: &Path) -> Option<String> {
        let (dir, own) = (events.parent()?, events.file_name()?.as_encoded_bytes());
        let of = |pipeline: &Pipeline| [pipeline.input.clone(), pipeline.output.clone()];
        let mut own_dirs: Vec<_> = self.pipelines.iter().flat_map(of).collect();
        own_dirs.push(self.state_dir.clone());
        if own_dirs.iter().any(|own_dir| dir.starts_with(own_dir)) {
            return None;
        }
        // Rotated events files begin with its name.
        let is_other = |entry: &std::fs::DirEntry| {
            let is_ours = own_dirs.iter().any(|own_dir| own_dir.starts_with(entry.path()));
            !is_ours && !entry.file_name().as_encoded_bytes().starts_with(own)
        };
        let others = std::fs::read_dir(dir).ok()?.flatten().filter(is_other);
        let first = others.map(|entry| entry.file_name()).min()?;
        Some(format!(
            "the directory of the events file {} contains other files (`{}`), which the service could write to: give it a directory of its own",
            events.display(),
            first.to_string_lossy().escape_debug()
        ))
    }
}
