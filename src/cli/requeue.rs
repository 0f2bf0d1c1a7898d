//! `tidemill requeue`: quarantined files go through the intake again.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::{args::Requeue, locate::locate, print};
use crate::{
    error::Exit,
    fs::{self, Dir, Replace},
    ledger::{Ledger, Query, Record, Roots, State, When, sqlite::Sqlite},
    observe::shown,
    pipeline::publish::dispose::quarantine::reason_name,
};

pub fn requeue(options: &Requeue) -> anyhow::Result<Exit> {
    let state = locate(&options.place, options.paths.first().map(PathBuf::as_path))?;
    let ledger = Sqlite::open(&state.ledger())?;
    let quarantined = quarantined(&ledger)?;
    let wanted = if options.all {
        quarantined
    } else {
        options.paths.iter().map(|path| find(&quarantined, path)).collect::<Result<_, _>>()?
    };
    let mut failed = 0;
    for (record, roots) in &wanted {
        let source = roots.input.join(&record.source);
        match put_back(record, roots) {
            Ok(()) => {
                ledger.mark(&[(record.id, State::Requeued, None)], When::Now)?;
                print(&format!("{}: back to the intake\n", shown(&source)));
            }
            Err(error) => {
                failed += 1;
                print(&format!("{}: {error:#}\n", shown(&source)));
            }
        }
    }
    if wanted.is_empty() {
        print("nothing is in quarantine\n");
    }
    poke(&state.control());
    if failed > 0 {
        bail!("{failed} of {} could not be put back", wanted.len());
    }
    Ok(Exit::Drained)
}

/// What is in quarantine: records that are the newest of their source.
fn quarantined(ledger: &Sqlite) -> anyhow::Result<Vec<(Record, Roots)>> {
    let roots = ledger.roots()?;
    let query = Query { state: Some(State::Quarantined), ..Query::default() };
    let mut found = Vec::new();
    for record in ledger.history(&query)? {
        let newest = ledger.latest(record.pipeline, &record.source)?;
        let is_newest = newest.is_some_and(|newest| newest.id == record.id);
        // A file that was moved away stays there, whatever has come under its name since.
        if is_newest || record.moved_to.as_ref().is_some_and(|path| path.exists()) {
            let of = roots.iter().find(|roots| roots.id == record.pipeline);
            found.extend(of.map(|roots| (record, roots.clone())));
        }
    }
    Ok(found)
}

fn find(quarantined: &[(Record, Roots)], path: &Path) -> anyhow::Result<(Record, Roots)> {
    let absolute = std::path::absolute(path)?;
    let real = absolute.canonicalize().unwrap_or_else(|_| absolute.clone());
    let is_it = |(record, roots): &&(Record, Roots)| {
        let source = roots.input.join(&record.source);
        let moved_to = record.moved_to.as_deref();
        [&absolute, &real].into_iter().any(|path| *path == source || moved_to == Some(path))
    };
    let found = quarantined.iter().find(is_it).cloned();
    found.with_context(|| {
        format!("{} is not in quarantine: `tidemill explain` tells what it is", shown(path))
    })
}

/// Gives a file that was moved its old name back; one that stayed in place has it.
fn put_back(record: &Record, roots: &Roots) -> anyhow::Result<()> {
    let Some(moved_to) = &record.moved_to else {
        return Ok(());
    };
    let (parent, name) = fs::split(moved_to);
    let (source_parent, source_name) = fs::split(&record.source);
    let from = Dir::open(parent).with_context(|| format!("cannot open {}", shown(parent)))?;
    let input = Dir::open(&roots.input)
        .with_context(|| format!("cannot open the input {}", shown(&roots.input)))?;
    let to = input.make_beneath(source_parent, fs::SHARED).context("cannot make its directory")?;
    from.rename(name, &to, source_name, Replace::No)
        .with_context(|| format!("cannot move it back from {}", shown(moved_to)))?;
    // The reason is told in the history as well; a missing file of it is no loss.
    drop(from.unlink(&reason_name(name)));
    to.sync().and_then(|()| from.sync()).context("cannot make the move durable")
}

/// A service that runs looks now; one that does not has nothing to miss.
fn poke(control: &Path) {
    drop(std::fs::write(control.join("rescan"), ""));
}
