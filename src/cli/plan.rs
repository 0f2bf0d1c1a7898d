//! `tidemill plan`: what a run would do with each file, without doing it.

use std::{collections::BTreeMap, path::Path};

use serde_json::json;

use super::{args::Plan, notify, print, report_problems};
use crate::{
    config::{self, Config},
    error::Exit,
    fs::LEDGER_NAME,
    ledger::{self, Access},
    observe::{
        display_path,
        units::{files, size},
    },
    queries::plan::{self, Fate, Planned},
};

pub fn plan(Plan { run, json, all }: Plan) -> anyhow::Result<Exit> {
    let config = match config::load(&run.into_options()) {
        Ok(config) => config,
        Err(problems) => return Ok(report_problems(&problems)),
    };
    let path = config.state_dir.join(LEDGER_NAME);
    let ledger = path.exists().then(|| ledger::open(&path, Access::Reading)).transpose()?;
    let mut counts = BTreeMap::new();
    let mut unreadable = 0_u64;
    let pipelines = &config.pipelines;
    for pipeline in pipelines {
        let mut plan = plan::Plan::new(pipeline, ledger.as_deref())?;
        let several = pipelines.len() > 1;
        let mut show = |planned: Planned| {
            let (count, bytes): &mut (u64, u64) = counts.entry(planned.fate.as_str()).or_default();
            (*count, *bytes) = (*count + 1, *bytes + planned.bytes);
            if json {
                print(&format!("{}\n", line_of_json(&pipeline.name, &planned)));
            } else if all || planned.fate != Fate::Ignore {
                print(&line(several.then_some(&*pipeline.name), &planned));
            }
        };
        plan.walk(|found| match found {
            Ok(planned) => show(planned),
            Err((path, error)) => {
                unreadable += 1;
                let whole = pipeline.input.join(path);
                notify(&format!("{}: {error}", display_path(&whole)));
            }
        })?;
        plan.expired(config.retention, show)?;
    }
    if !json {
        print(&summary(&config, &counts, all));
    }
    let is_quarantined =
        [Fate::Quarantine, Fate::Quarantined].iter().any(|fate| counts.contains_key(fate.as_str()));
    Ok(match (unreadable, is_quarantined) {
        (0, false) => Exit::Success,
        (0, true) => Exit::Quarantined,
        _ => Exit::WorkLeft,
    })
}

fn line(pipeline: Option<&str>, planned: &Planned) -> String {
    let Planned { source, bytes, fate, output, reason } = planned;
    let pipeline = pipeline.map(|name| format!("{name}: ")).unwrap_or_default();
    let output = output.as_deref().map(|output| format!(" → {}", display_path(output)));
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!(
        "{fate:<11} {pipeline}{}{} ({}){reason}\n",
        display_path(source),
        output.unwrap_or_default(),
        size(*bytes),
        fate = fate.as_str(),
    )
}

fn line_of_json(pipeline: &str, planned: &Planned) -> serde_json::Value {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    json!({
        "pipeline": pipeline,
        "source": text(&planned.source),
        "source_bytes": planned.bytes,
        "fate": planned.fate.as_str(),
        "output": planned.output.as_deref().map(text),
        "reason": planned.reason,
    })
}

fn summary(config: &Config, counts: &BTreeMap<&'static str, (u64, u64)>, all: bool) -> String {
    let count = |fate: &Fate| counts.get(fate.as_str()).copied().unwrap_or_default();
    let total: u64 = counts.values().map(|(count, _)| count).sum();
    let parts = Fate::ALL.iter().filter(|fate| count(fate).0 > 0).map(|fate| {
        let (count, bytes) = count(fate);
        let bytes =
            matches!(fate, Fate::Publish | Fate::Expire).then(|| format!(" ({})", size(bytes)));
        format!("{count} {}{}", fate.as_str(), bytes.unwrap_or_default())
    });
    let parts: Vec<_> = parts.collect();
    let hint =
        if !all && count(&Fate::Ignore).0 > 0 { "; --all lists the ignored ones" } else { "" };
    let inputs = if config.pipelines.len() == 1 { "the input" } else { "the inputs" };
    match total {
        0 => format!("no files in {inputs}\n"),
        _ => format!("{}: {}{hint}\n", files(total), parts.join(", ")),
    }
}
