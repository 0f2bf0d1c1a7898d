//! The resolved configuration as TOML that resolves to the same.

use std::{fmt, path::PathBuf, time::Duration};

use toml::Spanned;

use super::{
    AdminSocket, Config, Hook, Http, Pipeline,
    declare::{Glob, RawHook},
    keys::{RawFile, RawHooks, RawLimits, RawOtlp, RawPipeline},
    temporary_patterns,
};
use crate::policy::Settle;

/// A value that was written nowhere.
#[expect(clippy::unnecessary_wraps, reason = "as the fields have it")]
fn some<T>(value: T) -> Option<Spanned<T>> {
    Some(Spanned::new(0..0, value))
}

/// Exact, in the largest unit that it is a multiple of.
fn duration(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_nanos()) {
        (0, 0) => "0s".to_owned(),
        (seconds, 0) if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        (seconds, 0) if seconds % 60 == 0 => format!("{}m", seconds / 60),
        (seconds, 0) => format!("{seconds}s"),
        (_, nanos) if nanos.is_multiple_of(1_000_000) => format!("{}ms", duration.as_millis()),
        _ => format!("{}ns", duration.as_nanos()),
    }
}

/// As [`duration`], of bytes.
fn bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(bits, _)| bytes != 0 && bytes.is_multiple_of(1 << bits));
    unit.map_or_else(|| bytes.to_string(), |(bits, unit)| format!("{}{unit}", bytes >> bits))
}

impl From<&Hook> for RawHook {
    fn from(hook: &Hook) -> Self {
        match hook {
            Hook::Command(command) => Self::Command(command.clone()),
            Hook::Post(url) => Self::Post { url: url.clone() },
        }
    }
}

impl From<&Pipeline> for RawPipeline {
    fn from(pipeline: &Pipeline) -> Self {
        let written = pipeline.filter.written();
        let globs = |globs: &[String]| globs.iter().map(|glob| Glob::from(glob.as_str())).collect();
        Self {
            name: some(pipeline.name.to_string()),
            input: some(pipeline.input.clone()),
            output: some(pipeline.output.clone()),
            transforms: some(pipeline.transforms.to_string()),
            on_success: some(pipeline.on_success.to_string()),
            on_exists: some(pipeline.on_exists.to_string()),
            include: some(globs(&written.include)),
            exclude: some(globs(&written.exclude)),
            temporary_names: some(pipeline.temporary_names.to_string()),
            settle: some(match pipeline.settle {
                Settle::Auto => "auto".to_owned(),
                Settle::Quiet(quiet) => duration(quiet),
            }),
            min_age: some(duration(pipeline.min_age)),
            marker: pipeline.marker.clone().and_then(some),
            hard_links: some(pipeline.trust.hard_links.to_string()),
            owners: some(pipeline.trust.owners.to_string()),
            durability: some(pipeline.durability.to_string()),
            attempts: some(pipeline.attempts),
            backoff: some(duration(pipeline.backoff)),
            rescan: some(duration(pipeline.rescan)),
            quarantine: some(pipeline.quarantine.clone()),
            max_output: some(bytes(pipeline.bounds.output_bytes)),
            max_ratio: some(pipeline.bounds.ratio),
            max_decoder_memory: some(bytes(pipeline.bounds.decoder_bytes)),
        }
    }
}

impl From<&Config> for RawFile {
    fn from(config: &Config) -> Self {
        let hook = |hook: &Option<Hook>| hook.as_ref().map(RawHook::from).and_then(some);
        Self {
            state_dir: some(config.state_dir.clone()),
            http: some(match config.http {
                Http::Off => "off".to_owned(),
                Http::Default => "default".to_owned(),
                Http::At(address) => address.to_string(),
            }),
            admin_token_file: config.admin_token_file.clone().and_then(some),
            admin_socket: some(match &config.admin_socket {
                AdminSocket::Off => PathBuf::from("off"),
                AdminSocket::Default => PathBuf::from("default"),
                AdminSocket::At(path) => path.clone(),
            }),
            events: config.events.clone().and_then(some),
            shutdown_deadline: some(duration(config.shutdown_deadline)),
            sandbox: some(config.sandbox.to_string()),
            log_format: some(config.log_format.to_string()),
            once: some(config.once),
            limits: RawLimits {
                memory: some(config.limits.memory.to_string()),
                files: some(config.limits.files),
                workers: some(config.limits.workers),
            },
            hooks: RawHooks {
                on_start: hook(&config.hooks.on_start),
                on_published: hook(&config.hooks.on_published),
                on_failed: hook(&config.hooks.on_failed),
                on_drained: hook(&config.hooks.on_drained),
                batch_files: some(config.hooks.batch_files),
                batch_delay: some(duration(config.hooks.batch_delay)),
                timeout: some(duration(config.hooks.timeout)),
            },
            otlp: config.otlp.as_ref().and_then(|otlp| {
                some(RawOtlp {
                    endpoint: some(otlp.to_string()),
                    sampling: some(otlp.sampling),
                    paths: some(otlp.paths),
                })
            }),
            pipelines: config
                .pipelines
                .iter()
                .map(|pipeline| Spanned::new(0..0, RawPipeline::from(pipeline)))
                .collect(),
        }
    }
}

impl Config {
    /// Only the keys that differ from their defaults.
    #[must_use]
    pub fn changed(&self) -> String {
        let mut file = RawFile::from(self);
        file.without_defaults();
        file.limits.without_defaults();
        file.hooks.without_defaults();
        if let Some(otlp) = &mut file.otlp {
            otlp.get_mut().without_defaults();
        }
        for pipeline in &mut file.pipelines {
            pipeline.get_mut().without_defaults();
        }
        toml::to_string(&file).unwrap_or_default()
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = toml::to_string(&RawFile::from(self)).map_err(|_| fmt::Error)?;
        f.write_str(&text)?;
        writeln!(f, "\n# `temporary_names = \"ignore\"` leaves alone: {}", temporary_patterns())
    }
}
