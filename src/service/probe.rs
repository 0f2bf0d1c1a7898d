//! The probe of the pipelines' directories, before the first file is picked up: an operation that the
//! configuration needs and the file system lacks is a configuration error, and not one of a file.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{access, error::ServiceError};
use crate::{
    config::{Config, Pipeline},
    error::Exit,
    fs::{self, Abilities, Dir, NodeId, Renames},
    observe::display_path,
    patience,
    policy::{Durability, OnSuccess},
};

/// Role of a directory in its pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Sources are removed from it.
    Input,
    Output,
    Archive,
    Quarantine,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Archive => "archive",
            Self::Quarantine => "quarantine",
        })
    }
}

/// Result of probing one directory.
#[derive(Debug)]
struct Probed {
    role: Role,
    path: PathBuf,
    /// `None` if the directory is created later.
    found: Option<io::Result<Abilities>>,
}

/// Probes one pipeline's directories and logs unusual ones.
///
/// # Errors
///
/// A directory lacks an operation that the configuration needs. A directory that cannot be probed now,
/// because it is full or unavailable, is no error: the intake pauses for it.
pub fn pipeline(config: &Pipeline, instance: &NodeId) -> Result<(), ServiceError> {
    let probed: Vec<_> =
        directories(config).map(|(role, path)| probe(role, path, instance)).collect();
    probed.iter().try_for_each(|dir| dir.check(config))?;
    let input = probed.iter().find(|dir| dir.role == Role::Input).and_then(Probed::device);
    for dir in &probed {
        dir.log(config, input);
    }
    Ok(())
}

/// Describes each directory of a configuration, for `tidemill check --probe`.
pub fn report(config: &Config) -> (String, Exit) {
    let mut text = String::new();
    let mut exit = Exit::Success;
    let instance = NodeId::new("probe");
    for pipeline in &config.pipelines {
        for (role, path) in directories(pipeline) {
            let dir = probe(role, path, &instance);
            let verdict = match dir.check(pipeline) {
                Ok(()) => dir.describe(),
                Err(error) => {
                    exit = error.exit();
                    format!("error: {error}")
                }
            };
            text += &format!("{} {role} {}: {verdict}\n", pipeline.name, display_path(path));
        }
    }
    (text, exit)
}

/// Describes each directory in which the configuration needs to create files and this user may not,
/// for `tidemill check`. Creates nothing.
#[must_use]
pub fn denied(config: &Config) -> Vec<String> {
    let describe = |(role, path): (Role, &Path)| {
        let looked = path.to_path_buf();
        patience::within(path, move || access::describe(&role.to_string(), &looked))?
    };
    let denied = config.pipelines.iter().flat_map(directories).filter_map(describe);
    let state_dir = config.state_dir.clone();
    let state = patience::within(&config.state_dir, move || access::describe_state(&state_dir));
    denied.chain(state.flatten()).collect()
}

/// Returns the directories that the pipeline changes. With `on_success = "keep"` it changes neither
/// the input nor the quarantine.
pub(super) fn directories(config: &Pipeline) -> impl Iterator<Item = (Role, &Path)> {
    let Pipeline { input, output, quarantine, on_success, .. } = config;
    let moves = *on_success != OnSuccess::Keep;
    let archive = match on_success {
        OnSuccess::Archive(archive) => Some(archive),
        OnSuccess::Keep | OnSuccess::Delete => None,
    };
    let directories = [
        Some((Role::Output, output)),
        moves.then_some((Role::Input, input)),
        archive.map(|archive| (Role::Archive, archive)),
        moves.then_some((Role::Quarantine, quarantine)),
    ];
    directories.into_iter().flatten().map(|(role, path)| (role, path.as_path()))
}

fn probe(role: Role, path: &Path, instance: &NodeId) -> Probed {
    let open = |path: &Path| Dir::open(path).map(Arc::new);
    let dir = match (role, open(path)) {
        // It is created when needed, on the file system of its nearest existing parent.
        (Role::Quarantine, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            path.ancestors().skip(1).find_map(|parent| open(parent).ok()).map(Ok)
        }
        (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => None,
        (_, dir) => Some(dir),
    };
    let found = dir.map(|dir| dir.and_then(|dir| fs::probe(&dir, instance)));
    Probed { role, path: path.to_path_buf(), found }
}

impl Probed {
    fn device(&self) -> Option<u64> {
        let found = self.found.as_ref()?.as_ref().ok()?;
        Some(found.device)
    }

    fn check(&self, config: &Pipeline) -> Result<(), ServiceError> {
        let (action, role) = (self.action(), self.role);
        let words = |cause: &str, hint: &str| {
            format!("cannot {action} {}: {cause}; hint: {hint}", display_path(&self.path))
        };
        let refuse = |cause: &str, hint: &str| Err(ServiceError::Config(words(cause, hint)));
        let elsewhere = format!("choose another file system for the {role}");
        match &self.found {
            Some(Ok(found)) if found.renames == Renames::Never => refuse(
                "its file system can neither rename without replacing (RENAME_NOREPLACE) nor make hard links",
                &elsewhere,
            ),
            Some(Ok(found))
                if !found.syncs_directories
                    && role == Role::Output
                    && config.keys.durability != Durability::None =>
            {
                refuse(
                    "its file system cannot make a directory durable (fsync)",
                    &format!("{elsewhere}, or set `durability = \"none\"`"),
                )
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                let keep = "set `on_success = \"keep\"`, or mount it for writing";
                let hint = if role == Role::Input { keep } else { elsewhere.as_str() };
                Err(ServiceError::ReadOnly(words("its file system is read-only", hint)))
            }
            Some(Err(error))
                if role == Role::Input && error.kind() == io::ErrorKind::PermissionDenied =>
            {
                let denied = access::describe(&role.to_string(), &self.path);
                denied.map_or(Ok(()), |denied| Err(ServiceError::Config(denied)))
            }
            _ => Ok(()),
        }
    }

    fn action(&self) -> &'static str {
        match self.role {
            Role::Input => "remove sources from",
            Role::Output => "publish in",
            Role::Archive => "archive in",
            Role::Quarantine => "quarantine in",
        }
    }

    /// Logs the abilities. `input` is the device of the input.
    fn log(&self, config: &Pipeline, input: Option<u64>) {
        let (pipeline, role, path) = (&config.name, self.role, display_path(&self.path));
        match &self.found {
            Some(Ok(found)) => {
                let abilities = self.describe();
                let is_moved_to = matches!(role, Role::Archive | Role::Quarantine);
                if is_moved_to && input.is_some_and(|input| input != found.device) {
                    tracing::info!(event = "storage.copying", %pipeline, %role, %path, abilities, "input on another file system, copying sources");
                } else if is_usual(found) {
                    tracing::debug!(event = "storage.probed", %pipeline, %role, %path, abilities, "probed");
                } else {
                    tracing::info!(event = "storage.limited", %pipeline, %role, %path, abilities, "file system lacks operations, using fallbacks");
                }
            }
            Some(Err(error)) => {
                tracing::warn!(event = "storage.not_probed", %pipeline, %role, %path, %error, "cannot probe the file system");
            }
            None => {}
        }
    }

    fn describe(&self) -> String {
        let found = match &self.found {
            Some(Ok(found)) => found,
            Some(Err(error)) => return format!("cannot probe it: {error}"),
            None => return "does not exist yet".to_owned(),
        };
        let mut abilities = vec![match found.renames {
            Renames::AtOnce => "renames at once",
            Renames::ByLink => "renames by hard link",
            Renames::Never => "cannot rename without replacing",
        }];
        abilities.push(if found.syncs_directories {
            "syncs directories"
        } else {
            "syncs no directory"
        });
        let kept = [
            (found.kept.modes, "keeps no modes"),
            (found.kept.owners, "keeps no owners"),
            (found.kept.times, "keeps no times"),
        ];
        abilities.extend(kept.iter().filter(|(kept, _)| !kept).map(|(_, text)| *text));
        abilities.extend(found.is_network.then_some("network file system"));
        abilities.join(", ")
    }
}

fn is_usual(found: &Abilities) -> bool {
    let Abilities { renames, syncs_directories, kept, .. } = found;
    let keeps_all = kept.modes && kept.owners && kept.times;
    *renames == Renames::AtOnce && *syncs_directories && keeps_all
}
