//! From what the user wrote to what the program means: every value parsed, every default filled in.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use toml::Spanned;

use super::{
    Config, Filter, Http, Limits, Pipeline, checks,
    problems::Problems,
    words,
    written::{self, At, Options, Written, all, either},
};
use crate::{
    limits,
    policy::{Bounds, Durability, LogFormat, OnExists, OnSuccess, Settle},
    steps::Chain,
};

/// The default of `max_ratio`: more than any deflate stream can reach (1032), as zstd's do on logs
/// of one repeated line.
const RATIO: u64 = 2000;
/// The default of `max_output`.
const OUTPUT_BYTES: u64 = 1 << 40;
/// The defaults of `[limits]`.
const MEMORY_BYTES: u64 = 16 << 20;
const FILES: u32 = 512;

/// Reads and checks a configuration: the file, the options, or both.
pub fn load(options: &Options) -> Result<Config, Problems> {
    let (config, places, mut problems) = read_and_resolve(options)?;
    checks::check(&config, &places, &mut problems);
    if problems.all.is_empty() { Ok(config) } else { Err(problems.in_order()) }
}

/// As [`load`], for those who only look: that directories are there and fit together is not asked.
pub fn resolve(options: &Options) -> Result<Config, Problems> {
    let (config, _, problems) = read_and_resolve(options)?;
    if problems.all.is_empty() { Ok(config) } else { Err(problems) }
}

fn read_and_resolve(options: &Options) -> Result<(Config, checks::Places, Problems), Problems> {
    let mut problems = Problems::default();
    let file = options
        .config
        .as_deref()
        .map_or_else(|| Some(written::File::default()), |path| read(path, &mut problems));
    let Some(file) = file else {
        return Err(problems);
    };
    let base = options.config.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let mut resolver = Resolver { base: base.unwrap_or_default(), problems };
    let (config, places) = resolver.config(options, file);
    Ok((config, places, resolver.problems))
}

fn read(path: &Path, problems: &mut Problems) -> Option<written::File> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            let help = "`tidemill init FILE` writes a configuration to begin with";
            problems.add(Some(&At::Option("--config")), message, Some(help));
            return None;
        }
    };
    let parsed = toml::from_str(&text);
    problems.file = Some((path.to_path_buf(), text));
    parsed
        .inspect_err(|error: &toml::de::Error| {
            let at = error.span().map(At::File);
            let (message, help) = words::in_our_words(error.message());
            problems.add(at.as_ref(), message, help.as_deref());
        })
        .ok()
}

/// Collects what is wrong while it resolves, so that all of it is told at once.
pub(super) struct Resolver {
    /// Relative paths of the file are relative to its directory.
    base: PathBuf,
    pub problems: Problems,
}

impl Resolver {
    fn config(&mut self, options: &Options, file: written::File) -> (Config, checks::Places) {
        let (pipelines, given) = self.pipelines(options, file.pipelines);
        let http = either(options.http.clone(), "--http", file.http);
        let once = options.once || file.once.unwrap_or(false);
        let default_http = if once { Http::Off } else { Http::Default };
        let state_dir = either(options.state_dir.clone(), "--state-dir", file.state_dir);
        let state_at = state_dir.as_ref().map(|written| written.at.clone());
        let state_dir = match (state_dir, pipelines.as_slice()) {
            (Some(written), _) => self.path(&written),
            (None, [only]) => only.output.join(".tidemill"),
            (None, []) => PathBuf::new(),
            (None, _) => {
                let help = "write `state_dir = \"/var/lib/tidemill\"`, or another directory, above the first [[pipeline]]";
                self.problems.add(None, "several pipelines need a `state_dir`", Some(help));
                PathBuf::new()
            }
        };
        let events = either(options.events.clone(), "--events", file.events);
        let events_at = events.as_ref().map(|written| written.at.clone());
        let deadline = either(
            options.shutdown_deadline.clone(),
            "--shutdown-deadline",
            file.shutdown_deadline,
        );
        let log_format = either(options.log_format.clone(), "--log-format", file.log_format);
        let mut config = Config {
            events: events.map(|written| self.path(&written)),
            http: http.map_or(default_http, |written| self.http(&written).unwrap_or(default_http)),
            shutdown_deadline: self.duration(deadline, limits::SHUTDOWN_DEADLINE),
            log_format: self.parsed(log_format).unwrap_or(LogFormat::Text),
            limits: self.limits(file.limits),
            state_dir,
            once,
            pipelines,
        };
        for pipeline in &mut config.pipelines {
            if pipeline.quarantine.as_os_str().is_empty() {
                pipeline.quarantine = config.state_dir.join("quarantine").join(&*pipeline.name);
            }
        }
        (config, checks::Places { pipelines: given, state_at, events_at })
    }

    fn pipelines(
        &mut self,
        options: &Options,
        file: Vec<written::Pipeline>,
    ) -> (Vec<Pipeline>, Vec<checks::Given>) {
        let from_options = self.of_options(options, &file);
        let alone = file.len() + from_options.iter().len() == 1;
        if file.is_empty() && from_options.is_none() && self.problems.all.is_empty() {
            let help = "tidemill run INPUT OUTPUT, or tidemill run --config FILE with at least one [[pipeline]]";
            self.problems.add(None, "there is no pipeline", Some(help));
        }
        if !alone && let Some(option) = first_pipeline_option(options) {
            let help = "write it into the [[pipeline]] that it is for";
            let message = "the configuration has several pipelines, and this is for one";
            self.problems.add(Some(&At::Option(option)), message, Some(help));
        }
        let none = Options::default();
        let options = if alone { options } else { &none };
        let all = file.into_iter().chain(from_options);
        all.map(|pipeline| self.pipeline(options, pipeline, alone)).unzip()
    }

    /// INPUT OUTPUT are a pipeline of their own.
    fn of_options(
        &mut self,
        options: &Options,
        file: &[written::Pipeline],
    ) -> Option<written::Pipeline> {
        let (input, output) = match (&options.input, &options.output) {
            (None, None) => return None,
            (Some(input), Some(output)) => (input, output),
            _ => {
                self.problems.add(
                    None,
                    "INPUT and OUTPUT go together",
                    Some("tidemill run INPUT OUTPUT"),
                );
                return None;
            }
        };
        if !file.is_empty() {
            let help = "leave INPUT and OUTPUT out, or add a [[pipeline]] with them to the file";
            let message = "the configuration file has pipelines of its own";
            self.problems.add(Some(&At::Option("INPUT OUTPUT")), message, Some(help));
            return None;
        }
        let here = |path: &PathBuf| {
            Spanned::new(0..0, std::path::absolute(path).unwrap_or_else(|_| path.clone()))
        };
        Some(written::Pipeline::of(here(input), here(output)))
    }

    fn pipeline(
        &mut self,
        options: &Options,
        file: written::Pipeline,
        alone: bool,
    ) -> (Pipeline, checks::Given) {
        let given = checks::Given::of(options, &file);
        let include = all(&options.include, "--include", file.include);
        let exclude = all(&options.exclude, "--exclude", file.exclude);
        let steps = either(options.steps.clone(), "--steps", file.steps);
        let on_success = either(options.on_success.clone(), "--on-success", file.on_success);
        let on_exists = either(options.on_exists.clone(), "--on-exists", file.on_exists);
        let settle = either(options.settle.clone(), "--settle", file.settle);
        let durability = either(options.durability.clone(), "--durability", file.durability);
        let name = file.name.map(Spanned::into_inner);
        if name.is_none() && !alone {
            let message = "a pipeline needs a name where there are several";
            self.problems.add(Some(&given.input), message, Some("write `name = \"…\"`"));
        }
        let max_output = file.max_output.map(Written::from);
        let bounds = Bounds {
            output_bytes: max_output
                .map_or(OUTPUT_BYTES, |written| self.bytes(&written, OUTPUT_BYTES)),
            ratio: file.max_ratio.map_or(RATIO, Spanned::into_inner),
        };
        let quarantine = file.quarantine.map(Written::from);
        let pipeline = Pipeline {
            name: name.unwrap_or_else(|| "main".to_owned()).into(),
            input: self.path(&file.input.into()),
            output: self.path(&file.output.into()),
            steps: self.parsed(steps).unwrap_or_else(default_steps),
            on_success: self.on_success(on_success),
            on_exists: self.parsed(on_exists).unwrap_or(OnExists::Update),
            filter: self.filter(&include, &exclude),
            settle: settle.map_or(Settle::Auto, |written| self.settle(written)),
            min_age: self.duration(file.min_age.map(Written::from), Duration::ZERO),
            marker: file.marker.map(Spanned::into_inner),
            durability: self.parsed(durability).unwrap_or(Durability::Fsync),
            attempts: self.attempts(file.attempts),
            backoff: self.duration(file.backoff.map(Written::from), limits::BACKOFF),
            rescan: self.duration(file.rescan.map(Written::from), limits::RESCAN),
            quarantine: quarantine.map(|written| self.path(&written)).unwrap_or_default(),
            bounds,
        };
        (pipeline, given)
    }

    /// Absolute, and with no symbolic link in the part that exists.
    fn path(&self, written: &Written<PathBuf>) -> PathBuf {
        let path = match written.at {
            At::File(_) => self.base.join(&written.value),
            At::Option(_) => written.value.clone(),
        };
        checks::resolved(&path)
    }

    fn parsed<T: FromStr<Err = String>>(&mut self, written: Option<Written<String>>) -> Option<T> {
        let Written { value, at } = written?;
        let parsed: Result<T, String> = value.parse();
        parsed.inspect_err(|message| self.problems.add(Some(&at), message.as_str(), None)).ok()
    }

    fn on_success(&mut self, written: Option<Written<String>>) -> OnSuccess {
        let at = written.as_ref().map(|written| written.at.clone());
        match (self.parsed(written), at) {
            (Some(OnSuccess::Archive(dir)), Some(at)) => {
                OnSuccess::Archive(self.path(&Written { value: dir, at }))
            }
            (Some(on_success), _) => on_success,
            (None, _) => OnSuccess::Keep,
        }
    }

    fn http(&mut self, written: &Written<String>) -> Option<Http> {
        if written.value == "off" {
            return Some(Http::Off);
        }
        if written.value == "default" {
            return Some(Http::Default);
        }
        if let Ok(address) = written.value.parse::<SocketAddr>() {
            return Some(Http::At(address));
        }
        let message = format!("`{}` is neither an address nor `off`", written.value);
        let help = "an address is an IP and a port: `127.0.0.1:9464`, `[::1]:9464`";
        self.problems.add(Some(&written.at), message, Some(help));
        None
    }

    fn settle(&mut self, written: Written<String>) -> Settle {
        if written.value == "auto" {
            return Settle::Auto;
        }
        Settle::Quiet(self.duration(Some(written), Duration::ZERO))
    }

    fn duration(&mut self, written: Option<Written<String>>, default: Duration) -> Duration {
        let Some(Written { value, at }) = written else {
            return default;
        };
        duration(&value).unwrap_or_else(|| {
            let message = format!("`{value}` is not a duration");
            self.problems.add(
                Some(&at),
                message,
                Some("durations are written `250ms`, `2s`, `1m 30s`, `1h`"),
            );
            default
        })
    }

    fn bytes(&mut self, written: &Written<String>, default: u64) -> u64 {
        written.value.parse::<bytesize::ByteSize>().map_or_else(
            |_| {
                let message = format!("`{}` is not a size", written.value);
                let help = "sizes are written `65536`, `64KiB`, `32MiB`, `1TiB`";
                self.problems.add(Some(&written.at), message, Some(help));
                default
            },
            |size| size.as_u64(),
        )
    }

    fn filter(&mut self, include: &[Written<String>], exclude: &[Written<String>]) -> Filter {
        for written in include.iter().chain(exclude) {
            if let Err(error) = Filter::new(std::slice::from_ref(&written.value), &[]) {
                let help = "globs are written `*.log`, `2026/**`, `*.{csv,tsv}`";
                let message = format!("`{}` is not a glob: {}", written.value, error.kind());
                self.problems.add(Some(&written.at), message, Some(help));
            }
        }
        let values =
            |all: &[Written<String>]| all.iter().map(|one| one.value.clone()).collect::<Vec<_>>();
        Filter::new(&values(include), &values(exclude)).unwrap_or_else(|_| Filter::all())
    }

    fn attempts(&mut self, file: Option<Spanned<u32>>) -> u32 {
        match file.map(Written::from) {
            None => limits::ATTEMPTS,
            Some(Written { value: 0, at }) => {
                self.problems.add(Some(&at), "a file is tried at least once", Some("attempts = 1"));
                1
            }
            Some(Written { value, .. }) => value,
        }
    }

    fn limits(&mut self, file: written::Limits) -> Limits {
        let memory = file.memory.map(Written::from);
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = u32::try_from(workers).unwrap_or(1);
        let mut at_least_one =
            |key, file: Option<Spanned<u32>>, default: u32| match file.map(Written::from) {
                Some(Written { value: 0, at }) => {
                    self.problems.add(Some(&at), format!("`{key}` is at least 1"), None);
                    1
                }
                Some(Written { value, .. }) => value,
                None => default,
            };
        let files = at_least_one("files", file.files, FILES);
        let workers = at_least_one("workers", file.workers, workers);
        let memory_bytes =
            memory.map_or(MEMORY_BYTES, |written| self.bytes(&written, MEMORY_BYTES));
        Limits { memory_bytes, files, workers }
    }
}

fn default_steps() -> Chain {
    Chain::zstd()
}

/// `250ms`, `1m 30s`, and plain numbers as seconds.
pub fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    text.parse::<jiff::SignedDuration>().ok()?.try_into().ok()
}

/// The first option given that is for one pipeline.
fn first_pipeline_option(options: &Options) -> Option<&'static str> {
    let Options { steps, on_success, on_exists, include, exclude, settle, durability, .. } =
        options;
    let given = [
        (steps.is_some(), "--steps"),
        (on_success.is_some(), "--on-success"),
        (on_exists.is_some(), "--on-exists"),
        (!include.is_empty(), "--include"),
        (!exclude.is_empty(), "--exclude"),
        (settle.is_some(), "--settle"),
        (durability.is_some(), "--durability"),
    ];
    given.into_iter().find(|(given, _)| *given).map(|(_, name)| name)
}
