//! `tidemill reprocess`: processed sources go through the intake again.

use super::{
    NotAll, args::Reprocess, history::since, print, requeue::request_rescan, state_dir::locate,
};
use crate::{
    config::{self, Options},
    error::Exit,
    ledger::{self, Access},
    observe::{display_path, units::files},
    queries::{
        explain,
        reprocess::{self, Answer, Which},
    },
};

pub fn reprocess(options: &Reprocess) -> anyhow::Result<Exit> {
    let state = locate(&options.service, options.paths.first().map(std::path::PathBuf::as_path))?;
    let ledger = ledger::open(&state.ledger(), Access::Command)?;
    let which = match (&options.since, options.changed_transforms) {
        (Some(text), _) => Which::Since(since(text)?),
        (None, true) => Which::ChangedTransforms,
        (None, false) => Which::All,
    };
    let file = options.service.config.clone().unwrap_or_else(|| state.config());
    let file = Options { config: Some(file), ..Options::default() };
    let config = config::resolve(&file);
    if options.paths.is_empty() {
        let config = config.map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let summary = reprocess::all(&*ledger, &config.pipelines, which)?;
        let verb = if summary.marked == 1 { "is" } else { "are" };
        print(&format!("{} {verb} processed again\n", files(summary.marked)));
        if summary.gone > 0 {
            let verb = if summary.gone == 1 { "is" } else { "are" };
            print(&format!("{} {verb} not in the input any more\n", files(summary.gone)));
        }
        request_rescan(&state.control());
        return Ok(Exit::Success);
    }
    let pipelines = config.map(|config| config.pipelines).unwrap_or_default();
    let mut failed = 0;
    for path in &options.paths {
        let path = explain::real(path)?;
        let answer = reprocess::path(&*ledger, &pipelines, &path)?;
        failed += usize::from(answer != Answer::Marked);
        let answer = match answer {
            Answer::Marked => "is processed again",
            Answer::Gone => "is not in the input any more: put it there again",
            Answer::InQuarantine => {
                "is in quarantine: `tidemill requeue` puts it back to the intake"
            }
            Answer::NotProcessed => "was not processed yet: see `tidemill explain`",
        };
        print(&format!("{}: {answer}\n", display_path(&path)));
    }
    request_rescan(&state.control());
    if failed > 0 {
        let what = "cannot be processed again";
        return Err(NotAll { failed, all: options.paths.len(), what }.into());
    }
    Ok(Exit::Success)
}
