//! `tidemill history`: the ledger's records, for people or for programs.

use std::{collections::HashMap, fmt::Write};

use anyhow::Context;
use jiff::{Timestamp, ToSpan};

use super::{BadValue, args::History, print_to_reader, state_dir::locate};
use crate::{
    config,
    error::Exit,
    ledger::{self, Access, HistoryQuery, PipelineDirs, PipelineId, Record, State},
    observe::{display_path, units::size},
    outcome::Outcome,
    protocol::{cause::OutcomeCause, outcome::recorded},
    queries::{cause, pages, time},
};

pub fn history(options: &History) -> anyhow::Result<Exit> {
    let state = options.state.as_deref().map(str::parse::<State>).transpose();
    let state = state.map_err(|error| BadValue("--state", anyhow::Error::msg(error)))?;
    let since_ns = options.since.as_deref().map(since).transpose()?;
    let ledger = ledger::open(&locate(&options.service, None)?.ledger(), Access::Reading)?;
    let roots: HashMap<PipelineId, PipelineDirs> =
        ledger.pipelines()?.into_iter().map(|roots| (roots.id, roots)).collect();
    let query = HistoryQuery { state, since_ns, limit: options.limit, before: None };
    for records in pages(&*ledger, query) {
        let mut text = String::new();
        for record in records? {
            let Some(roots) = roots.get(&record.pipeline) else {
                continue;
            };
            if options.json {
                let outcome = recorded(&record, &roots.name, time(&record));
                let outcome =
                    Outcome { cause: cause(&record, roots).map(|cause| cause.text), ..outcome };
                text += &serde_json::to_string(&outcome)?;
                text.push('\n');
            } else {
                writeln!(text, "{}", sentence(&record, roots))?;
            }
        }
        if !print_to_reader(&text) {
            break;
        }
    }
    Ok(Exit::Success)
}

/// Parses the value of `--since`, a time or a duration before now, to nanoseconds since the epoch.
pub fn since(text: &str) -> Result<i64, BadValue> {
    nanoseconds(text).map_err(|error| BadValue("--since", error))
}

fn nanoseconds(text: &str) -> anyhow::Result<i64> {
    let time = match (text.parse::<Timestamp>(), config::duration(text)) {
        (Ok(time), _) => time,
        (Err(_), Some(ago)) => {
            let seconds = i64::try_from(ago.as_secs()).context("too long ago")?;
            Timestamp::now().checked_sub(seconds.seconds())?
        }
        (Err(error), None) => {
            return Err(error)
                .context("neither a time (`2026-01-31T08:00:00Z`) nor a duration (`2h`)");
        }
    };
    Ok(i64::try_from(time.as_nanosecond())?)
}

fn sentence(record: &Record, roots: &PipelineDirs) -> String {
    let Record { identity, state, .. } = record;
    let source = display_path(&roots.input.join(&record.source)).to_string();
    let mut text = format!("{}  {state:<11}  {source}", time(record));
    if let Some(output) = &record.output {
        let path = roots.output.join(&output.path);
        text += &format!(
            " → {}  {} → {}",
            display_path(&path),
            size(identity.size),
            size(output.identity.size)
        );
    }
    if let Some(moved_to) = &record.moved_to {
        text += &format!("  now {}", display_path(moved_to));
    }
    if let Some(OutcomeCause { code, text: cause }) = cause(record, roots) {
        text += &format!("  ({code}: {cause})");
    }
    text
}
