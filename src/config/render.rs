//! The resolved configuration as TOML that resolves to the same.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use toml::Spanned;

use super::{
    AdminSocket, Config, Hook, Http, Pipeline,
    declare::{LocatedText, RawHook},
    keys::{
        ExecByHand, FileByHand, HooksByHand, LimitsByHand, PipelineByHand, RawAge, RawExec,
        RawFile, RawHooks, RawLimits, RawOtlp, RawPipeline, RawRetention, RetentionByHand,
    },
    temporary_patterns,
};
use crate::transforms::exec::Program;

/// A value that was written nowhere.
#[expect(clippy::unnecessary_wraps, reason = "as the fields have it")]
fn some<T>(value: T) -> Option<Spanned<T>> {
    Some(Spanned::new(0..0, value))
}

impl From<&Hook> for RawHook {
    fn from(hook: &Hook) -> Self {
        match hook {
            Hook::Command(command) => Self::Command(command.clone()),
            Hook::Post(url) => Self::Post { url: url.clone() },
        }
    }
}

fn located(texts: &[String]) -> Vec<LocatedText> {
    texts.iter().map(|text| LocatedText::from(text.as_str())).collect()
}

impl From<&Pipeline> for RawPipeline {
    fn from(pipeline: &Pipeline) -> Self {
        let written = pipeline.filter.written();
        let by_hand = PipelineByHand {
            name: some(pipeline.name.to_string()),
            input: some(pipeline.input.clone()),
            output: some(pipeline.output.clone()),
            transforms: some(pipeline.transforms.to_string()),
            on_success: some(pipeline.on_success.to_string()),
            include: some(located(&written.include)),
            exclude: some(located(&written.exclude)),
            quarantine: some(pipeline.quarantine.clone()),
        };
        Self::of(&pipeline.keys, by_hand)
    }
}

impl From<&Program> for RawExec {
    fn from(program: &Program) -> Self {
        let paths = |paths: &[PathBuf]| {
            paths.iter().map(|path| LocatedText::from(&*path.to_string_lossy())).collect()
        };
        let by_hand = ExecByHand {
            command: some(located(&program.command)),
            read: some(paths(&program.read)),
            write: some(paths(&program.write)),
            environment: some(located(&program.environment)),
        };
        Self::of(&program.into(), by_hand)
    }
}

impl From<&Config> for RawFile {
    fn from(config: &Config) -> Self {
        let hook = |hook: &Option<Hook>| hook.as_ref().map(RawHook::from).and_then(some);
        let by_hand = FileByHand {
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
            once: some(config.once),
            limits: RawLimits::of(&config.limits, LimitsByHand::default()),
            retention: RawRetention::of(&config.retention, RetentionByHand::default()),
            hooks: RawHooks::of(
                &config.hooks.keys,
                HooksByHand {
                    on_start: hook(&config.hooks.on_start),
                    on_published: hook(&config.hooks.on_published),
                    on_failed: hook(&config.hooks.on_failed),
                    on_overdue: hook(&config.hooks.on_overdue),
                    on_drained: hook(&config.hooks.on_drained),
                },
            ),
            age: RawAge {
                recipients: some(located(config.age.listed())),
                recipients_file: config.age.recipients_file().map(Path::to_path_buf).and_then(some),
                identity_file: config.age.identity_file().map(Path::to_path_buf).and_then(some),
            },
            exec: config
                .programs
                .iter()
                .map(|(name, program)| {
                    (name.clone(), Spanned::new(0..0, RawExec::from(&**program)))
                })
                .collect(),
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
        };
        Self::of(&config.keys, by_hand)
    }
}

impl Config {
    /// Only the keys that differ from their defaults.
    #[must_use]
    pub fn changed(&self) -> String {
        changed(RawFile::from(self))
    }

    /// The resolved configuration, and its keys that differ from their defaults, for people who may
    /// only look: arguments of commands, and users, paths and queries of URLs are left out.
    #[must_use]
    pub fn redacted(&self) -> (String, String) {
        let file = || {
            let mut file = RawFile::from(self);
            let RawHooks { on_start, on_published, on_failed, on_overdue, on_drained, .. } =
                &mut file.hooks;
            let hooks = [on_start, on_published, on_failed, on_overdue, on_drained];
            hooks.into_iter().flatten().for_each(|hook| redact_hook(hook.get_mut()));
            file.exec.values_mut().for_each(|program| redact_program(program.get_mut()));
            let endpoint = file.otlp.as_mut().and_then(|otlp| otlp.get_mut().endpoint.as_mut());
            if let Some(url) = endpoint {
                redact_url(url.get_mut());
            }
            file
        };
        (toml::to_string(&file()).unwrap_or_default(), changed(file()))
    }
}

const REDACTED: &str = "…";

/// Keeps the program, and the names of the variables.
fn redact_program(program: &mut RawExec) {
    let arguments = program.command.iter_mut().flat_map(|words| words.get_mut().iter_mut().skip(1));
    arguments.for_each(|word| *word = LocatedText::from(REDACTED));
    for variable in program.environment.iter_mut().flat_map(Spanned::get_mut) {
        let name = variable.0.get_ref().split('=').next().unwrap_or_default();
        *variable = LocatedText::from(&*format!("{name}={REDACTED}"));
    }
}

fn redact_hook(hook: &mut RawHook) {
    match hook {
        RawHook::Command(words) => {
            words.iter_mut().skip(1).for_each(|word| REDACTED.clone_into(word));
        }
        RawHook::Post { url } => redact_url(url),
    }
}

/// Keeps the scheme, the host and the port.
fn redact_url(url: &mut String) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or_default();
    let path = if matches!(path, "" | "/") { path } else { "/…" };
    *url = format!("{scheme}://{host}{path}");
}

fn changed(mut file: RawFile) -> String {
    file.without_defaults();
    file.limits.without_defaults();
    file.retention.without_defaults();
    file.hooks.without_defaults();
    file.age.without_defaults();
    if let Some(otlp) = &mut file.otlp {
        otlp.get_mut().without_defaults();
    }
    file.exec.values_mut().for_each(|program| program.get_mut().without_defaults());
    for pipeline in &mut file.pipelines {
        pipeline.get_mut().without_defaults();
    }
    toml::to_string(&file).unwrap_or_default()
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = toml::to_string(&RawFile::from(self)).map_err(|_| fmt::Error)?;
        f.write_str(&text)?;
        writeln!(f, "\n# `temporary_names = \"ignore\"` leaves alone: {}", temporary_patterns())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_left_out() {
        for (url, wanted) in [
            ("http://10.0.0.1:80", "http://10.0.0.1:80"),
            ("http://user:word@host:80/hook/token?key=1", "http://host:80/…"),
            ("http://host?key=1", "http://host/…"),
        ] {
            let mut redacted = url.to_owned();
            redact_url(&mut redacted);
            assert_eq!(redacted, wanted);
        }
        let mut hook = RawHook::Command(vec!["/bin/notify".into(), "--token".into(), "x".into()]);
        redact_hook(&mut hook);
        assert!(matches!(hook, RawHook::Command(words) if words == ["/bin/notify", "…", "…"]));
    }
}
