//! What the pipelines' directories can do, tried out before the first file is taken: what the
//! configuration needs and a file system does not have is a configuration error, and no file's.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::error::ServiceError;
use crate::{
    config::{Config, Pipeline},
    error::Exit,
    fs::{self, Abilities, Dir, NodeId, Renames},
    observe::display_path,
    policy::{Durability, OnSuccess},
};

/// A directory of a pipeline, and what is done in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Sources are taken out of it.
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

/// What was found about one directory.
#[derive(Debug)]
struct Probed {
    role: Role,
    path: PathBuf,
    /// `None` where the directory is to be made later.
    found: Option<io::Result<Abilities>>,
}

/// Probes one pipeline's directories and logs what is not usual of them.
///
/// # Errors
///
/// One of them cannot do what the configuration needs. A directory that cannot be probed now, because
/// it is full or away, is none of them: the intake pauses for it.
pub fn pipeline(config: &Pipeline, instance: &NodeId) -> Result<(), ServiceError> {
    let probed: Vec<_> = places(config).map(|(role, path)| probe(role, path, instance)).collect();
    probed.iter().try_for_each(|place| place.check(config))?;
    let input = probed.iter().find(|place| place.role == Role::Input).and_then(Probed::device);
    for place in &probed {
        place.log(config, input);
    }
    Ok(())
}

/// Prints what each directory of a configuration can do, for `tidemill check --probe`.
pub fn report(config: &Config) -> (String, Exit) {
    let mut text = String::new();
    let mut exit = Exit::Drained;
    let instance = NodeId::new("probe");
    for pipeline in &config.pipelines {
        for (role, path) in places(pipeline) {
            let place = probe(role, path, &instance);
            let verdict = match place.check(pipeline) {
                Ok(()) => place.words(),
                Err(fault) => {
                    exit = fault.exit();
                    format!("error: {fault}")
                }
            };
            text += &format!("{} {role} {}: {verdict}\n", pipeline.name, display_path(path));
        }
    }
    (text, exit)
}

/// The directories that something is done in. A source that is kept leaves the input and the
/// quarantine as they are.
fn places(config: &Pipeline) -> impl Iterator<Item = (Role, &Path)> {
    let Pipeline { input, output, quarantine, on_success, .. } = config;
    let moves = *on_success != OnSuccess::Keep;
    let archive = match on_success {
        OnSuccess::Archive(archive) => Some(archive),
        OnSuccess::Keep | OnSuccess::Delete => None,
    };
    let places = [
        Some((Role::Output, output)),
        moves.then_some((Role::Input, input)),
        archive.map(|archive| (Role::Archive, archive)),
        moves.then_some((Role::Quarantine, quarantine)),
    ];
    places.into_iter().flatten().map(|(role, path)| (role, path.as_path()))
}

fn probe(role: Role, path: &Path, instance: &NodeId) -> Probed {
    let open = |path: &Path| Dir::open(path).map(Arc::new);
    let dir = match (role, open(path)) {
        // It is made in the state directory when it is needed, and is on the same file system then.
        (Role::Quarantine, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            path.ancestors().skip(1).find_map(|above| open(above).ok()).map(Ok)
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
        let (what, role) = (self.purpose(), self.role);
        let refuse = |cause: &str, way: &str| {
            let path = display_path(&self.path);
            Err(ServiceError::Config(format!("cannot {what} {path}: {cause}; hint: {way}")))
        };
        let elsewhere = format!("choose an {role} on another file system");
        let elsewhere = elsewhere.replace("an quarantine", "a quarantine");
        match &self.found {
            Some(Ok(found)) if found.renames == Renames::Never => refuse(
                "its file system can neither rename without replacing (RENAME_NOREPLACE) nor make hard links",
                &elsewhere,
            ),
            Some(Ok(found))
                if !found.syncs_directories
                    && role == Role::Output
                    && config.durability != Durability::None =>
            {
                refuse(
                    "its file system cannot make a directory durable (fsync)",
                    &format!("{elsewhere}, or set `durability = \"none\"`"),
                )
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                let keep = "set `on_success = \"keep\"`, or mount it for writing";
                let way = if role == Role::Input { keep } else { elsewhere.as_str() };
                refuse("its file system is read-only", way)
            }
            _ => Ok(()),
        }
    }

    fn purpose(&self) -> &'static str {
        match self.role {
            Role::Input => "take sources out of",
            Role::Output => "publish in",
            Role::Archive => "archive in",
            Role::Quarantine => "quarantine in",
        }
    }

    /// `input` is the file system that sources come from.
    fn log(&self, config: &Pipeline, input: Option<u64>) {
        let (pipeline, place, path) = (&config.name, self.role, display_path(&self.path));
        match &self.found {
            Some(Ok(found)) => {
                let abilities = self.words();
                let is_moved_to = matches!(place, Role::Archive | Role::Quarantine);
                if is_moved_to && input.is_some_and(|input| input != found.device) {
                    tracing::info!(event = "storage.copying", %pipeline, %place, %path, abilities, "different file system from the input, copying sources");
                } else if is_usual(found) {
                    tracing::debug!(event = "storage.probed", %pipeline, %place, %path, abilities, "probed");
                } else {
                    tracing::info!(event = "storage.fallback", %pipeline, %place, %path, abilities, "file system lacks operations, using fallbacks");
                }
            }
            Some(Err(error)) => {
                tracing::warn!(event = "storage.not_probed", %pipeline, %place, %path, %error, "cannot probe the file system");
            }
            None => {}
        }
    }

    fn words(&self) -> String {
        let found = match &self.found {
            Some(Ok(found)) => found,
            Some(Err(error)) => return format!("cannot be probed: {error}"),
            None => return "is not there yet".to_owned(),
        };
        let mut words = vec![match found.renames {
            Renames::AtOnce => "renames at once",
            Renames::ByLink => "renames by hard link",
            Renames::Never => "cannot rename without replacing",
        }];
        words.push(if found.syncs_directories {
            "syncs directories"
        } else {
            "syncs no directory"
        });
        let kept = [
            (found.kept.modes, "keeps no modes"),
            (found.kept.owners, "keeps no owners"),
            (found.kept.times, "keeps no times"),
        ];
        words.extend(kept.iter().filter(|(kept, _)| !kept).map(|(_, word)| *word));
        words.extend(found.is_network.then_some("network file system"));
        words.join(", ")
    }
}

fn is_usual(found: &Abilities) -> bool {
    let Abilities { renames, syncs_directories, kept, .. } = found;
    let keeps_all = kept.modes && kept.owners && kept.times;
    *renames == Renames::AtOnce && *syncs_directories && keeps_all
}
