//! `tidemill explain`: the records and rules of one file, and the state of its service.

use std::path::Path;

use super::{
    args::Explain,
    client::{Client, NotRunning},
    format, print, processes,
    state_dir::{StateDir, locate},
};
use crate::{
    config::{self, Options},
    error::Exit,
    ledger::{self, Access},
    observe::display_path,
    queries::{
        configured_first,
        explain::{self, Explanation},
    },
};

pub fn explain(options: &Explain) -> anyhow::Result<Exit> {
    let state = locate(&options.service, Some(&options.path))?;
    let ledger = ledger::open(&state.ledger(), Access::Reading)?;
    let path = explain::real(&options.path)?;
    let file = Options { config: Some(state.config()), ..Options::default() };
    let pipelines = config::resolve(&file).map(|config| config.pipelines).unwrap_or_default();
    let roots = configured_first(&*ledger, &pipelines)?;
    let mut explanation = explain::describe(&*ledger, (&roots, &pipelines), &path)?;
    if let Some(pipeline) = explanation.waits_in.clone() {
        explanation = with_writers(explanation, &path);
        explanation = with_service(explanation, &state, &pipeline);
    }
    print(&format!("{}: {explanation}\n", display_path(&path)));
    Ok(Exit::Success)
}

/// Names the programs that keep the file from being settled.
fn with_writers(explanation: Explanation, path: &Path) -> Explanation {
    let writers = processes::writers(path);
    if writers.is_empty() {
        return explanation;
    }
    explanation.with("waits", format!("open for writing by {}", writers.join(", ")))
}

/// Adds the state of the service, where it keeps the file from being processed.
fn with_service(explanation: Explanation, state: &StateDir, pipeline: &str) -> Explanation {
    let status = match Client::of(state).and_then(|client| client.get("/api/v1/status")) {
        Ok(status) => status,
        Err(error) if error.is::<NotRunning>() || state.holder().is_none() => {
            return explanation.with("service", "no service is running: `tidemill run` starts one");
        }
        Err(_) => return explanation,
    };
    match format::pause(&status, pipeline) {
        Some(why) => explanation.with("service", why),
        None => explanation,
    }
}
