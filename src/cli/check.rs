//! `tidemill check`: the keys that differ from the defaults, or every error; with `--probe`, also the
//! abilities of the file systems of its directories.

use std::os::unix::fs::MetadataExt;

use super::{args::Check, complain, notify, print, report_problems};
use crate::{
    config::{self, Config, DiagnosticKind, Diagnostics, Options, Pipeline},
    error::Exit,
    http::Token,
    observe::display_path,
    service,
};

pub fn check(Check { run, probe, all, syntax }: Check) -> Exit {
    let options = run.into_options();
    let mut absent = Vec::new();
    let config = config::load(&options).or_else(|problems| {
        if !syntax {
            return Err(problems);
        }
        let (inputs, errors): (Vec<_>, Vec<_>) = problems
            .all
            .into_iter()
            .partition(|problem| problem.kind == DiagnosticKind::InputMissing);
        absent = inputs;
        if errors.is_empty() {
            config::resolve(&options)
        } else {
            Err(Diagnostics { all: errors, ..problems })
        }
    });
    let config = match config {
        Ok(config) => config,
        Err(problems) => return report_problems(&problems),
    };
    if let Some(error) = token_error(&config) {
        return complain(&format!("error: {error}"), Exit::Config);
    }
    let denied = service::probe::denied(&config);
    if !syntax && !denied.is_empty() {
        return complain(&format!("error: {}", denied.join("\nerror: ")), Exit::Config);
    }
    print(&if all { config.to_string() } else { summary(&config) });
    let absent = absent
        .into_iter()
        .map(|problem| format!("{}: it must exist at the start", problem.message));
    for note in
        config.notes().into_iter().chain(readable_token(&config)).chain(denied).chain(absent)
    {
        notify(&format!("note: {note}"));
    }
    if !probe {
        return Exit::Success;
    }
    let (text, exit) = service::probe::report(&config);
    print(&text);
    exit
}

/// The error by which the start would refuse the token's file.
fn token_error(config: &Config) -> Option<String> {
    let path = config.admin_token_file.as_ref()?;
    let error = anyhow::Error::new(Token::read(path).err()?);
    Some(format!("`admin_token_file` {}: {error:#}", display_path(path)))
}

fn readable_token(config: &Config) -> Option<String> {
    let path = config.admin_token_file.as_ref()?;
    let mode = path.metadata().ok()?.mode();
    let note =
        format!("`admin_token_file` {}: other users can read it: chmod 600", display_path(path));
    (mode & 0o044 != 0).then_some(note)
}

/// The number of pipelines, and the keys that differ from the defaults.
fn summary(config: &Config) -> String {
    let count = match config.pipelines.len() {
        1 => "1 pipeline".to_owned(),
        many => format!("{many} pipelines"),
    };
    let differences = differences(config);
    let temporary = config::temporary_patterns();
    format!(
        "OK: {count}\n{differences}\n# `temporary_names = \"ignore\"` leaves alone: {temporary}\n"
    )
}

/// The lines of the configuration that the one of a pipeline's directories alone does not have.
fn differences(config: &Config) -> String {
    let shown = config.changed();
    let mut pipelines = config.pipelines.iter();
    let Some(first) = config.pipelines.first() else { return String::new() };
    let mut defaults = default_lines(config, first);
    let mut text = String::new();
    let mut heading = None;
    for line in shown.lines().filter(|line| !line.is_empty()) {
        if line.starts_with('[') {
            heading = Some(line);
            if line == "[[pipeline]]" {
                let Some(pipeline) = pipelines.next() else { break };
                defaults = default_lines(config, pipeline);
                text += "\n[[pipeline]]\n";
                heading = None;
            }
        } else if is_directory(line) || !defaults.contains(&line.to_owned()) {
            if let Some(heading) = heading.take() {
                text += &format!("\n{heading}\n");
            }
            text += &format!("{line}\n");
        }
    }
    text
}

/// The keys that have no default.
fn is_directory(line: &str) -> bool {
    ["state_dir = ", "input = ", "output = "].iter().any(|key| line.starts_with(key))
}

/// The lines of a configuration of these directories and no other key.
fn default_lines(config: &Config, pipeline: &Pipeline) -> Vec<String> {
    let text = |path: &std::path::Path| Some(path.to_path_buf());
    let mut options = Options { once: config.once, ..Options::default() };
    options.pipeline.input = text(&pipeline.input);
    options.pipeline.output = text(&pipeline.output);
    options.file.state_dir = text(&config.state_dir);
    let Ok(mut plain) = config::resolve(&options) else { return Vec::new() };
    // The quarantine is named after the pipeline.
    let quarantine = config.state_dir.join("quarantine").join(&*pipeline.name);
    for default in &mut plain.pipelines {
        default.quarantine.clone_from(&quarantine);
    }
    plain.changed().lines().map(str::to_owned).collect()
}
