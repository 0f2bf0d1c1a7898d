//! The state directory of a service, for the commands that read its ledger or reach its socket.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::args::StateArgs;
use crate::{
    config::{self, Options},
    fs::LEDGER_NAME,
    observe::display_path,
};

/// The configuration of the packaged service.
const INSTALLED: &str = "/etc/tidemill/tidemill.toml";

/// The directory may not be read by this user.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: permission denied: run as root or as the service's user", display_path(.0))]
pub struct Denied(PathBuf);

/// No state directory is found, and so no service.
#[derive(Debug, thiserror::Error)]
#[error("no service is found: {0}")]
pub struct NotFound(String);

/// A found state directory.
#[derive(Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// A directory that a running service uses.
    pub fn at(dir: &Path) -> Self {
        Self(dir.to_path_buf())
    }

    pub fn dir(&self) -> &Path {
        &self.0
    }

    pub fn ledger(&self) -> PathBuf {
        self.0.join(LEDGER_NAME)
    }

    /// The configuration as it was when the service last started.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    pub fn control(&self) -> PathBuf {
        self.0.join("control")
    }

    /// The process of its service, if that runs.
    pub fn holder(&self) -> Option<u32> {
        holder(&self.0)
    }
}

/// The process that holds the lock of a state directory, by the kernel's list of locks.
pub fn holder(dir: &Path) -> Option<u32> {
    let path = dir.join("lock");
    let inode = fs::metadata(&path).ok()?.ino().to_string();
    // Another file system may have a file with this number: the file names its holder as well.
    let written = fs::read_to_string(&path).ok()?;
    let written: u32 = written.lines().next()?.parse().ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let is_it = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = words.as_slice() else { return false };
        file.rsplit(':').next() == Some(&*inode) && pid.parse() == Ok(written)
    };
    locks.lines().any(is_it).then_some(written)
}

/// Finds the state directory: the named one; else the one of the named configuration or of
/// `tidemill.toml`; else the one near a path or the working directory, in `.tidemill` of a directory
/// above or of a directory next to those; else the one of the installed configuration.
pub fn locate(args: &StateArgs, near: Option<&Path>) -> anyhow::Result<StateDir> {
    if let Some(dir) = &args.state_dir {
        return existing(dir.clone());
    }
    let default = Path::new("tidemill.toml");
    if let Some(file) = args.config.as_deref().or_else(|| default.exists().then_some(default)) {
        return configured(file);
    }
    let from = |path: &Path| std::path::absolute(path).context("no working directory");
    let here = from(Path::new("."))?;
    let near = near.map(from).transpose()?;
    for from in near.iter().chain([&here]) {
        if let Some(found) = near_to(from)? {
            return Ok(found);
        }
    }
    if Path::new(INSTALLED).exists() {
        return configured(Path::new(INSTALLED));
    }
    let near = display_path(near.as_ref().unwrap_or(&here));
    let text = format!(
        "no state directory near {near}: name it with --state-dir DIR (by default it is OUTPUT/.tidemill), or the service's --config FILE; `tidemill ps` lists the services that run"
    );
    Err(NotFound(text).into())
}

fn configured(file: &Path) -> anyhow::Result<StateDir> {
    let options = Options { config: Some(file.to_path_buf()), ..Options::default() };
    let config = config::resolve(&options).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    existing(config.state_dir)
}

fn existing(dir: PathBuf) -> anyhow::Result<StateDir> {
    match is_state_dir(&dir) {
        Ok(true) => Ok(StateDir(dir)),
        Ok(false) => {
            let dir = display_path(&dir);
            let text = format!("{dir} has no ledger: no service has run with this state directory");
            Err(NotFound(text).into())
        }
        Err(Denied(dir)) => Err(Denied(dir).into()),
    }
}

/// Whether it has a ledger that this user can read.
fn is_state_dir(dir: &Path) -> Result<bool, Denied> {
    match fs::File::open(dir.join(LEDGER_NAME)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Denied(dir.to_path_buf()))
        }
        Err(_) => Ok(false),
    }
}

/// The nearest state directory; of several, the one of a running service.
fn near_to(from: &Path) -> anyhow::Result<Option<StateDir>> {
    for above in from.ancestors() {
        let mut found = candidates(above)?;
        // Those of running services first.
        found.sort_by_key(|dir| holder(dir).is_none());
        match found.as_slice() {
            [] => {}
            [only] => return Ok(Some(StateDir(only.clone()))),
            [first, second, ..] if holder(first).is_some() && holder(second).is_none() => {
                return Ok(Some(StateDir(first.clone())));
            }
            _ => {
                let shown = found.iter().map(|dir| {
                    let running = holder(dir).map_or("", |_| " (running)");
                    format!("--state-dir {}{running}", display_path(dir))
                });
                bail!(
                    "there are several state directories near {}: choose one of\n  {}",
                    display_path(from),
                    shown.collect::<Vec<_>>().join("\n  ")
                );
            }
        }
    }
    Ok(None)
}

/// State directories in a directory, and in those directly below it.
fn candidates(dir: &Path) -> Result<Vec<PathBuf>, Denied> {
    let own = [dir.to_path_buf(), dir.join(".tidemill")];
    let below = fs::read_dir(dir).into_iter().flatten().flatten();
    let below = below.map(|entry| entry.path().join(".tidemill"));
    let mut found = Vec::new();
    let mut denied = None;
    for dir in own.into_iter().chain(below) {
        match is_state_dir(&dir) {
            Ok(true) => found.push(dir),
            Ok(false) => {}
            // A directory of any user may refuse: only one by this name is a service's.
            Err(error) => denied = dir.ends_with(".tidemill").then_some(error).or(denied),
        }
    }
    found.dedup();
    match denied {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Lock;

    #[test]
    fn a_state_directory_is_held_by_the_process_that_has_its_lock() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(holder(dir.path()), None);
        let lock = Lock::take(dir.path(), "tidemill run").expect("free");
        assert_eq!(holder(dir.path()), Some(std::process::id()));
        drop(lock);
        assert_eq!(holder(dir.path()), None, "the number in the file is an old one");
    }
}
