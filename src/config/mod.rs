//! What the program means to do: the configuration after every default, path and check is resolved.

mod diagnostics;
mod diff;
mod filter;
mod hooks;
mod load;
mod memory;
mod raw;
mod read;
mod render;
mod tables;
mod temporary;
mod validate;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    policy::{
        Durability, ExpansionLimits, LogFormat, OnExists, OnSuccess, Otlp, Sandbox, Settle,
        SourceRules, TemporaryNames,
    },
    transforms::Chain,
};

pub use diagnostics::{Diagnostic, Diagnostics};
pub use diff::Difference;
pub use filter::Filter;
pub use hooks::{Hook, Hooks};
pub use load::{duration, load, resolve};
pub use memory::Memory;
pub use raw::{Location, Options};
pub use temporary::{temporary_name, temporary_patterns};
pub use validate::real_path;

/// The whole configuration: pipelines and what they share. Every path is absolute.
#[derive(Clone, Debug)]
pub struct Config {
    pub state_dir: PathBuf,
    pub http: Http,
    /// Who knows what is in it may change things over HTTP.
    pub admin_token_file: Option<PathBuf>,
    pub admin_socket: AdminSocket,
    pub events: Option<PathBuf>,
    pub shutdown_deadline: Duration,
    pub sandbox: Sandbox,
    pub log_format: LogFormat,
    pub limits: Limits,
    pub hooks: Hooks,
    /// Traces are sent only where this is given.
    pub otlp: Option<Otlp>,
    pub once: bool,
    /// At least one.
    pub pipelines: Vec<Pipeline>,
}

/// Where the HTTP server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    Off,
    /// 127.0.0.1:9464, or a free port where that one is taken.
    Default,
    /// This address or none: the user named it.
    At(SocketAddr),
}

/// Where the service's own user may change things without a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminSocket {
    Off,
    /// `admin.sock` in the state directory, or none where that cannot be.
    Default,
    /// This path or none: the user named it.
    At(PathBuf),
}

impl AdminSocket {
    /// Its path, where there is to be one.
    #[must_use]
    pub fn path(&self, state_dir: &std::path::Path) -> Option<PathBuf> {
        match self {
            Self::Off => None,
            Self::Default => Some(state_dir.join("admin.sock")),
            Self::At(path) => Some(path.clone()),
        }
    }
}

/// Bounds that all pipelines share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of the content of files in work and the codecs.
    pub memory: Memory,
    /// Files in work at one time; each holds two descriptors.
    pub files: u32,
    /// Threads that transform.
    pub workers: u32,
}

/// One directory's service.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Its name in logs, metrics and the ledger; unique.
    pub name: Arc<str>,
    pub input: PathBuf,
    pub output: PathBuf,
    pub transforms: Chain,
    pub on_success: OnSuccess,
    pub on_exists: OnExists,
    pub filter: Filter,
    pub temporary_names: TemporaryNames,
    pub settle: Settle,
    pub min_age: Duration,
    /// A file is taken once a file of its name and this suffix stands beside it.
    pub marker: Option<String>,
    pub trust: SourceRules,
    pub durability: Durability,
    /// Tries before a file is quarantined.
    pub attempts: u32,
    /// The wait after the first failed try; it doubles.
    pub backoff: Duration,
    pub rescan: Duration,
    pub quarantine: PathBuf,
    pub bounds: ExpansionLimits,
}

impl Pipeline {
    /// The directories that it works in.
    #[must_use]
    pub fn places(&self) -> Vec<&Path> {
        let mut places = vec![&*self.input, &*self.output, &*self.quarantine];
        if let OnSuccess::Archive(archive) = &self.on_success {
            places.push(archive);
        }
        places
    }

    /// Whether a file of one may be met by the other.
    #[must_use]
    pub fn shares_files_with(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.places(), other.places());
        let mut pairs = ours.iter().flat_map(|one| theirs.iter().map(move |other| (one, other)));
        self.name == other.name || pairs.any(|(a, b)| a.starts_with(b) || b.starts_with(a))
    }

    /// What the service writes to for this pipeline.
    pub fn own_paths(&self) -> impl Iterator<Item = &Path> {
        let archive = match &self.on_success {
            OnSuccess::Archive(archive) => Some(archive.as_path()),
            OnSuccess::Keep | OnSuccess::Delete => None,
        };
        [self.output.as_path(), &self.quarantine].into_iter().chain(archive)
    }
}

impl Config {
    /// What the service writes to beside what its pipelines do.
    pub fn own_paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.state_dir.as_path()).chain(self.events.as_deref())
    }

    /// What is allowed, and may still not be what was meant.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        notes.extend(self.events.as_deref().and_then(|events| self.beside_events(events)));
        for pipeline in &self.pipelines {
            let name = &pipeline.name;
            let doubtful = pipeline.transforms.warnings().into_iter();
            notes.extend(doubtful.map(|doubt| format!("pipeline {name}: `transforms`: {doubt}")));
            if pipeline.durability == Durability::None {
                notes.push(format!(
                    "pipeline {name}: `durability = \"none\"`: a power loss may take published outputs back"
                ));
            }
            if pipeline.temporary_names == TemporaryNames::Ignore {
                let globs = pipeline.filter.written().include.iter();
                notes.extend(globs.filter(|glob| temporary_name(glob.as_ref()).is_some()).map(|glob| format!(
                    "pipeline {name}: `include = [\"{glob}\"]` names temporary files, which are left alone: write `temporary_names = \"take\"` to take them"
                )));
            }
            if let Some(events) = &self.events
                && events.starts_with(&pipeline.output)
                && !events.starts_with(&self.state_dir)
            {
                notes.push(format!(
                    "pipeline {name}: the events file {} is among the outputs: their consumer may take it for one",
                    events.display()
                ));
            }
        }
        notes
    }

    /// The sandbox opens the events file's directory for writing: what else is in it, and is none of
    /// the service's own, is in reach as well.
    fn beside_events(&self, events: &Path) -> Option<String> {
        let (dir, own) = (events.parent()?, events.file_name()?.as_encoded_bytes());
        let of = |pipeline: &Pipeline| [pipeline.input.clone(), pipeline.output.clone()];
        let mut places: Vec<_> = self.pipelines.iter().flat_map(of).collect();
        places.push(self.state_dir.clone());
        if places.iter().any(|place| dir.starts_with(place)) {
            return None;
        }
        // Rotated ones begin with its name.
        let is_other = |entry: &std::fs::DirEntry| {
            let is_place = places.iter().any(|place| place.starts_with(entry.path()));
            !is_place && !entry.file_name().as_encoded_bytes().starts_with(own)
        };
        let others = std::fs::read_dir(dir).ok()?.flatten().filter(is_other);
        let first = others.map(|entry| entry.file_name()).min()?;
        Some(format!(
            "the directory of the events file {} has other files (`{}`), which the service could write to: give it a directory of its own",
            events.display(),
            first.to_string_lossy().escape_debug()
        ))
    }
}
