//! Where the ledger of a service is, for the commands that look into it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::args::StateArgs;
use crate::{
    config::{self, Options},
    observe::display_path,
};

const LEDGER: &str = "ledger.sqlite";

/// A found state directory.
#[derive(Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    pub fn dir(&self) -> &Path {
        &self.0
    }

    pub fn ledger(&self) -> PathBuf {
        self.0.join(LEDGER)
    }

    /// The configuration as it was when the service last started.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    pub fn control(&self) -> PathBuf {
        self.0.join("control")
    }
}

/// The one that was named; else `tidemill.toml`'s; else the one found near a path or the working
/// directory: in `.tidemill` of a directory above, or of a directory beside those.
pub fn locate(place: &StateArgs, near: Option<&Path>) -> anyhow::Result<StateDir> {
    let default = Path::new("tidemill.toml");
    let config = place.config.as_deref().or_else(|| default.exists().then_some(default));
    if let Some(dir) = &place.state_dir {
        return existing(dir.clone());
    }
    if let Some(file) = config {
        let options = Options { config: Some(file.to_path_buf()), ..Options::default() };
        let config = config::resolve(&options).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        return existing(config.state_dir);
    }
    let from =
        std::path::absolute(near.unwrap_or(Path::new("."))).context("no working directory")?;
    for above in from.ancestors() {
        let mut found = beside(above);
        match (found.pop(), found.pop()) {
            (Some(only), None) => return Ok(StateDir(only)),
            (Some(one), Some(other)) => bail!(
                "there are several state directories near {}: choose one with --state-dir {} or {}",
                display_path(&from),
                display_path(&one),
                display_path(&other)
            ),
            (None, _) => {}
        }
    }
    bail!(
        "no state directory is found near {}: name it with --state-dir DIR (by default it is OUTPUT/.tidemill), or the service's --config FILE",
        display_path(&from)
    )
}

fn existing(dir: PathBuf) -> anyhow::Result<StateDir> {
    if !dir.join(LEDGER).exists() {
        bail!(
            "{} has no ledger: the service has not run with this state directory",
            display_path(&dir)
        );
    }
    Ok(StateDir(dir))
}

/// State directories in a directory, and in those directly below it.
fn beside(dir: &Path) -> Vec<PathBuf> {
    let own = [dir.to_path_buf(), dir.join(".tidemill")];
    let below = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let below = below.map(|entry| entry.path().join(".tidemill"));
    let mut found: Vec<_> =
        own.into_iter().chain(below).filter(|dir| dir.join(LEDGER).exists()).collect();
    found.dedup();
    found
}
