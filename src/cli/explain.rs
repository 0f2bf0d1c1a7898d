//! `tidemill explain`: what is known of one file, and what will become of it.

use super::{args::Explain, print, state_dir::locate};
use crate::{
    config::{self, Options},
    error::Exit,
    ledger::sqlite::Sqlite,
    observe::display_path,
    queries::explain,
};

pub fn explain(options: &Explain) -> anyhow::Result<Exit> {
    let state = locate(&options.place, Some(&options.path))?;
    let ledger = Sqlite::open_read_only(&state.ledger())?;
    let path = explain::real(&options.path)?;
    let file = Options { config: Some(state.config()), ..Options::default() };
    let pipelines = config::resolve(&file).map(|config| config.pipelines).unwrap_or_default();
    let text = explain::describe(&ledger, &pipelines, &path)?;
    print(&format!("{}: {text}\n", display_path(&path)));
    Ok(Exit::Drained)
}
