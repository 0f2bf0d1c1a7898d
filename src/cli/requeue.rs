//! `tidemill requeue`: quarantined files go through the intake again.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{BadValue, NotAll, args::Requeue, print, state_dir::locate};
use crate::{
    config::{self, Options},
    error::Exit,
    ledger::{self, Access},
    observe::{display_path, units::files},
    queries::quarantined::{self, Quarantined},
};

pub fn requeue(options: &Requeue) -> anyhow::Result<Exit> {
    let state = locate(&options.service, options.paths.first().map(PathBuf::as_path))?;
    let ledger = ledger::open(&state.ledger(), Access::Command)?;
    let quarantined = quarantined::all(&*ledger)?;
    let wanted = if options.all {
        quarantined
    } else {
        options.paths.iter().map(|path| find(&quarantined, path)).collect::<Result<_, _>>()?
    };
    let file = options.service.config.clone().unwrap_or_else(|| state.config());
    let file = Options { config: Some(file), ..Options::default() };
    let pipelines = config::resolve(&file).map(|config| config.pipelines).unwrap_or_default();
    let mut failed = 0;
    let lists = options.verbose || wanted.len() == 1;
    for file in &wanted {
        let source = file.source();
        match quarantined::requeue(&*ledger, file, &pipelines) {
            Ok(()) if lists => print(&format!("{}: back to the intake\n", display_path(&source))),
            Ok(()) => {}
            Err(quarantined::Error::Ledger(error)) => return Err(error.into()),
            Err(error) => {
                failed += 1;
                print(&format!("{}: {:#}\n", display_path(&source), anyhow::Error::new(error)));
            }
        }
    }
    if wanted.is_empty() {
        print("nothing is in quarantine\n");
    }
    let done = wanted.len() - failed;
    if wanted.len() > 1 && done > 0 {
        print(&format!("{} back to the intake\n", files(done as u64)));
    }
    request_rescan(&state.control());
    if failed > 0 {
        let what = "could not be put back";
        return Err(NotAll { failed, all: wanted.len(), what }.into());
    }
    Ok(Exit::Success)
}

fn find(quarantined: &[Quarantined], path: &Path) -> anyhow::Result<Quarantined> {
    let absolute = std::path::absolute(path)?;
    let real = absolute.canonicalize().unwrap_or_else(|_| absolute.clone());
    let is_it = |file: &&Quarantined| {
        let source = file.source();
        let moved_to = file.record.moved_to.as_deref();
        [&absolute, &real].into_iter().any(|path| *path == source || moved_to == Some(path))
    };
    let found = quarantined.iter().find(is_it).cloned();
    found.with_context(|| {
        let text = format!("{} is not in quarantine; see `tidemill explain`", display_path(path));
        BadValue("PATH", anyhow::Error::msg(text))
    })
}

/// Makes a running service scan now; without one, nothing is missed.
pub fn request_rescan(control: &Path) {
    drop(std::fs::write(control.join("rescan"), ""));
}
