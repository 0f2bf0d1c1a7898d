//! The resolved configuration as TOML that resolves to the same.

use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

use serde::Serialize;

use super::{AdminSocket, Config, Http, Pipeline, temporary_patterns};
use crate::policy::Settle;

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the keys are the user's words")]
struct File<'a> {
    state_dir: &'a Path,
    http: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_token_file: Option<&'a Path>,
    admin_socket: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<&'a Path>,
    shutdown_deadline: String,
    sandbox: &'static str,
    log_format: &'static str,
    once: bool,
    limits: Limits,
    hooks: Hooks<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    otlp: Option<Otlp>,
    pipeline: Vec<Table<'a>>,
}

#[derive(Serialize)]
struct Limits {
    memory: String,
    files: u32,
    workers: u32,
}

#[derive(Serialize)]
struct Otlp {
    endpoint: String,
    sampling: f64,
    paths: bool,
}

#[derive(Serialize)]
struct Hooks<'a> {
    batch_files: u32,
    batch_delay: String,
    timeout: String,
    #[serde(flatten)]
    each: BTreeMap<&'static str, Hook<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Hook<'a> {
    Command(&'a [String]),
    Post { url: &'a str },
}

impl<'a> From<&'a super::Hooks> for Hooks<'a> {
    fn from(hooks: &'a super::Hooks) -> Self {
        let shown = hooks.iter().map(|(kind, hook)| {
            let hook = match hook {
                super::Hook::Command(command) => Hook::Command(command),
                super::Hook::Post(url) => Hook::Post { url },
            };
            (kind.as_str(), hook)
        });
        Self {
            batch_files: hooks.batch_files,
            batch_delay: duration(hooks.batch_delay),
            timeout: duration(hooks.timeout),
            each: shown.collect(),
        }
    }
}

#[derive(Serialize)]
struct Table<'a> {
    name: &'a str,
    input: &'a Path,
    output: &'a Path,
    transforms: String,
    on_success: String,
    on_exists: &'static str,
    include: &'a [String],
    exclude: &'a [String],
    temporary_names: &'static str,
    settle: String,
    min_age: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    marker: Option<&'a str>,
    hard_links: &'static str,
    owners: &'static str,
    durability: &'static str,
    attempts: u32,
    backoff: String,
    rescan: String,
    quarantine: &'a Path,
    max_output: String,
    max_ratio: u64,
    max_decoder_memory: String,
}

/// Exact, and short where it can be.
fn duration(duration: Duration) -> String {
    match duration.subsec_nanos() {
        0 => format!("{}s", duration.as_secs()),
        nanos if nanos.is_multiple_of(1_000_000) => format!("{}ms", duration.as_millis()),
        _ => format!("{}ns", duration.as_nanos()),
    }
}

impl<'a> From<&'a Pipeline> for Table<'a> {
    fn from(pipeline: &'a Pipeline) -> Self {
        let globs = pipeline.filter.written();
        Self {
            name: &pipeline.name,
            input: &pipeline.input,
            output: &pipeline.output,
            transforms: pipeline.transforms.to_string(),
            on_success: pipeline.on_success.to_string(),
            on_exists: pipeline.on_exists.as_str(),
            include: &globs.include,
            exclude: &globs.exclude,
            temporary_names: pipeline.temporary_names.as_str(),
            settle: match pipeline.settle {
                Settle::Auto => "auto".to_owned(),
                Settle::Quiet(quiet) => duration(quiet),
            },
            min_age: duration(pipeline.min_age),
            marker: pipeline.marker.as_deref(),
            hard_links: pipeline.trust.hard_links.as_str(),
            owners: pipeline.trust.owners.as_str(),
            durability: pipeline.durability.as_str(),
            attempts: pipeline.attempts,
            backoff: duration(pipeline.backoff),
            rescan: duration(pipeline.rescan),
            quarantine: &pipeline.quarantine,
            max_output: pipeline.bounds.output_bytes.to_string(),
            max_ratio: pipeline.bounds.ratio,
            max_decoder_memory: pipeline.bounds.decoder_bytes.to_string(),
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = Limits {
            memory: self.limits.memory.to_string(),
            files: self.limits.files,
            workers: self.limits.workers,
        };
        let file = File {
            state_dir: &self.state_dir,
            http: match self.http {
                Http::Off => "off".to_owned(),
                Http::Default => "default".to_owned(),
                Http::At(address) => address.to_string(),
            },
            admin_token_file: self.admin_token_file.as_deref(),
            admin_socket: match &self.admin_socket {
                AdminSocket::Off => Path::new("off"),
                AdminSocket::Default => Path::new("default"),
                AdminSocket::At(path) => path,
            },
            events: self.events.as_deref(),
            shutdown_deadline: duration(self.shutdown_deadline),
            sandbox: self.sandbox.as_str(),
            log_format: self.log_format.as_str(),
            once: self.once,
            limits,
            hooks: Hooks::from(&self.hooks),
            otlp: self.otlp.as_ref().map(|otlp| Otlp {
                endpoint: otlp.to_string(),
                sampling: otlp.sampling,
                paths: otlp.paths,
            }),
            pipeline: self.pipelines.iter().map(Table::from).collect(),
        };
        let text = toml::to_string(&file).map_err(|_| fmt::Error)?;
        f.write_str(&text)?;
        writeln!(f, "\n# `temporary_names = \"ignore\"` leaves alone: {}", temporary_patterns())
    }
}
