//! `tidemill explain`: what is known of one file, and what will become of it.

use super::{args::Explain, locate::locate, print};
use crate::{
    config::{self, Options},
    error::Exit,
    ledger::sqlite::Sqlite,
    observe::shown,
    records::explain,
};

pub fn explain(options: &Explain) -> anyhow::Result<Exit> {
    let state = locate(&options.place, Some(&options.path))?;
    let ledger = Sqlite::open_read_only(&state.ledger())?;
    let path = explain::real(&options.path)?;
    let file = Options { config: Some(state.config()), ..Options::default() };
    let pipelines = config::resolve(&file).map(|config| config.pipelines).unwrap_or_default();
    let text = explain::tell(&ledger, &pipelines, &path)?;
    print(&format!("{}: {text}\n", shown(&path)));
    Ok(Exit::Drained)
}
