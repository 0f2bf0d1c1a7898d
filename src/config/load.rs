//! From what the user wrote to what the program means: every value parsed, every default filled in.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use toml::Spanned;

use super::{
    AdminSocket, Config, Http, Pipeline,
    diagnostics::Diagnostics,
    raw::{self, Located, Location, Options, all, either},
    read::read,
    validate,
};
use crate::{
    limits,
    policy::{
        Durability, ExpansionLimits, HardLinks, LogFormat, OnExists, OnSuccess, Owners, Sandbox,
        Settle, SourceRules, TemporaryNames,
    },
    transforms::Chain,
};

/// The default of `max_ratio`: more than any deflate stream can reach (1032), as zstd's do on logs
/// of one repeated line.
const RATIO: u64 = 2000;
/// The default of `max_output`.
const OUTPUT_BYTES: u64 = 1 << 40;
/// The default of `max_decoder_memory`: enough for every level of every tool but those that are
/// asked for more (`zstd --long=28`, `xz --lzma2=dict=256MiB`).
const DECODER_BYTES: u64 = 128 * 1024 * 1024;
/// No duration is longer: the clock must be able to count to its end.
const LONGEST: Duration = Duration::from_hours(24 * 366);

/// Reads and checks a configuration: the file, the options, or both.
pub fn load(options: &Options) -> Result<Config, Diagnostics> {
    let (config, places, mut problems) = read_and_resolve(options)?;
    validate::check(&config, &places, &mut problems);
    finish(config, problems)
}

/// As [`load`], for those who only look: that directories are there and fit together is not asked.
pub fn resolve(options: &Options) -> Result<Config, Diagnostics> {
    let (config, _, problems) = read_and_resolve(options)?;
    finish(config, problems)
}

fn finish(config: Config, mut problems: Diagnostics) -> Result<Config, Diagnostics> {
    problems.sort();
    if problems.all.is_empty() { Ok(config) } else { Err(problems) }
}

fn read_and_resolve(
    options: &Options,
) -> Result<(Config, validate::Locations, Diagnostics), Diagnostics> {
    let mut problems = Diagnostics::default();
    let file = options
        .config
        .as_deref()
        .map_or_else(|| Some(raw::RawFile::default()), |path| read(path, &mut problems));
    let Some(file) = file else {
        return Err(problems);
    };
    let base = options.config.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let mut resolver = Resolver { base: base.unwrap_or_default(), problems };
    let (config, places) = resolver.config(options, file);
    Ok((config, places, resolver.problems))
}

/// Collects what is wrong while it resolves, so that all of it is told at once.
pub(super) struct Resolver {
    /// Relative paths of the file are relative to its directory.
    base: PathBuf,
    pub problems: Diagnostics,
}

impl Resolver {
    fn config(&mut self, options: &Options, file: raw::RawFile) -> (Config, validate::Locations) {
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
        let token = options.admin_token_file.clone();
        let token = either(token, "--admin-token-file", file.admin_token_file);
        let admin = either(options.admin_socket.clone(), "--admin-socket", file.admin_socket);
        let admin_default = if once { AdminSocket::Off } else { AdminSocket::Default };
        let events = either(options.events.clone(), "--events", file.events);
        let events_at = events.as_ref().map(|written| written.at.clone());
        let deadline = either(
            options.shutdown_deadline.clone(),
            "--shutdown-deadline",
            file.shutdown_deadline,
        );
        let sandbox = either(options.sandbox.clone(), "--sandbox", file.sandbox);
        let log_format = either(options.log_format.clone(), "--log-format", file.log_format);
        let mut config = Config {
            events: events.map(|written| self.path(&written)),
            http: http.map_or(default_http, |written| self.http(&written).unwrap_or(default_http)),
            admin_token_file: token.map(|written| self.path(&written)),
            admin_socket: admin.map_or(admin_default, |written| self.admin_socket(&written)),
            shutdown_deadline: self.duration(deadline, limits::SHUTDOWN_DEADLINE),
            sandbox: self.parsed(sandbox).unwrap_or(Sandbox::BestEffort),
            log_format: self.parsed(log_format).unwrap_or(LogFormat::Text),
            limits: self.limits(file.limits),
            hooks: self.hooks(file.hooks),
            otlp: self.otlp(file.otlp),
            state_dir,
            once,
            pipelines,
        };
        for pipeline in &mut config.pipelines {
            if pipeline.quarantine.as_os_str().is_empty() {
                pipeline.quarantine = config.state_dir.join("quarantine").join(&*pipeline.name);
            }
        }
        (config, validate::Locations { pipelines: given, state_at, events_at })
    }

    fn pipelines(
        &mut self,
        options: &Options,
        mut file: Vec<Spanned<raw::RawPipeline>>,
    ) -> (Vec<Pipeline>, Vec<validate::PipelineLocations>) {
        let both = match (&options.input, &options.output) {
            (Some(_), Some(_)) => true,
            (None, None) => false,
            _ => {
                let help = "tidemill run INPUT OUTPUT";
                self.problems.add(None, "INPUT and OUTPUT go together", Some(help));
                return (Vec::new(), Vec::new());
            }
        };
        if file.is_empty() && both {
            // INPUT OUTPUT are a pipeline of their own.
            file.push(Spanned::new(0..0, raw::RawPipeline::default()));
        } else if file.is_empty() && self.problems.all.is_empty() {
            let help = "tidemill run INPUT OUTPUT, or tidemill run --config FILE with at least one [[pipeline]]";
            self.problems.add(None, "there is no pipeline", Some(help));
        }
        let alone = file.len() == 1;
        if file.len() > 1 {
            self.for_one(options, &file);
        }
        let none = Options::default();
        let options = if alone { options } else { &none };
        file.into_iter().filter_map(|pipeline| self.pipeline(options, pipeline, alone)).unzip()
    }

    /// Options that are for one pipeline, where there are several.
    fn for_one(&mut self, options: &Options, file: &[Spanned<raw::RawPipeline>]) {
        let names: Vec<_> = file.iter().filter_map(|table| table.get_ref().name.as_ref()).collect();
        let names: Vec<_> = names.iter().map(|name| format!("`{}`", name.get_ref())).collect();
        for (option, line) in options.for_one_pipeline() {
            let help =
                format!("write `{line}` into the [[pipeline]] it is for: {}", names.join(", "));
            let message = "the configuration has several pipelines, and this is for one";
            self.problems.add(Some(&Location::Option(option)), message, Some(&help));
        }
    }

    /// None where there is no input or no output to go on with.
    fn pipeline(
        &mut self,
        options: &Options,
        file: Spanned<raw::RawPipeline>,
        alone: bool,
    ) -> Option<(Pipeline, validate::PipelineLocations)> {
        let table = Location::File(file.span());
        let file = file.into_inner();
        let given = validate::PipelineLocations::locate(options, &file, &table);
        let input = either(options.input.clone(), "INPUT", file.input);
        let output = either(options.output.clone(), "OUTPUT", file.output);
        for (missing, key) in [(input.is_none(), "input"), (output.is_none(), "output")] {
            if missing {
                let message = format!("this pipeline has no `{key}`");
                let help = format!("write `{key} = \"DIRECTORY\"`");
                self.problems.add(Some(&table), message, Some(&help));
            }
        }
        let include = all(&options.include, "--include", file.include);
        let exclude = all(&options.exclude, "--exclude", file.exclude);
        let temporary = options.temporary_names.clone();
        let temporary = either(temporary, "--temporary-names", file.temporary_names);
        let transforms = either(options.transforms.clone(), "--transform", file.transforms);
        let on_success = either(options.on_success.clone(), "--on-success", file.on_success);
        let on_exists = either(options.on_exists.clone(), "--on-exists", file.on_exists);
        let settle = either(options.settle.clone(), "--settle", file.settle);
        let durability = either(options.durability.clone(), "--durability", file.durability);
        let name = file.name.map(Spanned::into_inner);
        if name.is_none() && !alone {
            let message = "a pipeline needs a name where there are several";
            self.problems.add(Some(&given.input), message, Some("write `name = \"…\"`"));
        }
        let max_output = file.max_output.map(Located::from);
        let decoder = file.max_decoder_memory.map(Located::from);
        let bounds = ExpansionLimits {
            output_bytes: max_output
                .map_or(OUTPUT_BYTES, |written| self.bytes(&written, OUTPUT_BYTES)),
            ratio: self.at_least_one(file.max_ratio, RATIO),
            decoder_bytes: decoder
                .map_or(DECODER_BYTES, |written| self.bytes(&written, DECODER_BYTES)),
        };
        let trust = SourceRules {
            hard_links: self.parsed(file.hard_links.map(Located::from)).unwrap_or(HardLinks::Take),
            owners: self.parsed(file.owners.map(Located::from)).unwrap_or(Owners::Any),
        };
        let quarantine = file.quarantine.map(Located::from);
        let pipeline = Pipeline {
            name: name.unwrap_or_else(|| "main".to_owned()).into(),
            input: input.as_ref().map(|written| self.path(written)).unwrap_or_default(),
            output: output.as_ref().map(|written| self.path(written)).unwrap_or_default(),
            transforms: self.parsed(transforms).unwrap_or_else(default_transforms),
            on_success: self.on_success(on_success),
            on_exists: self.parsed(on_exists).unwrap_or(OnExists::Update),
            filter: self.filter(&include, &exclude),
            temporary_names: self.parsed(temporary).unwrap_or(TemporaryNames::Ignore),
            settle: settle.map_or(Settle::Auto, |written| self.settle(written)),
            min_age: self.duration(file.min_age.map(Located::from), Duration::ZERO),
            marker: file.marker.map(Spanned::into_inner),
            trust,
            durability: self.parsed(durability).unwrap_or(Durability::Fsync),
            attempts: self.at_least_one(file.attempts, limits::ATTEMPTS),
            backoff: self.duration(file.backoff.map(Located::from), limits::BACKOFF),
            rescan: self.rescan(file.rescan.map(Located::from)),
            quarantine: quarantine.map(|written| self.path(&written)).unwrap_or_default(),
            bounds,
        };
        (input.is_some() && output.is_some()).then_some((pipeline, given))
    }

    /// Absolute, and with no symbolic link in the part that exists.
    fn path(&mut self, written: &Located<PathBuf>) -> PathBuf {
        if written.value.as_os_str().is_empty() {
            self.problems.add(Some(&written.at), "this path is empty", None);
        }
        let path = match written.at {
            Location::File(_) => self.base.join(&written.value),
            Location::Option(_) => written.value.clone(),
        };
        let path = validate::resolved(&path);
        if path.to_str().is_none() {
            let message = format!("the path {} is not UTF-8", path.display());
            let help = "files below it may have any name; the configuration, which is TOML, cannot hold this one";
            self.problems.add(Some(&written.at), message, Some(help));
        }
        path
    }

    pub(super) fn parsed<T: FromStr<Err = String>>(
        &mut self,
        written: Option<Located<String>>,
    ) -> Option<T> {
        let Located { value, at } = written?;
        let parsed: Result<T, String> = value.parse();
        parsed.inspect_err(|message| self.problems.add(Some(&at), message.as_str(), None)).ok()
    }

    fn on_success(&mut self, written: Option<Located<String>>) -> OnSuccess {
        let at = written.as_ref().map(|written| written.at.clone());
        match (self.parsed(written), at) {
            (Some(OnSuccess::Archive(dir)), Some(at)) => {
                OnSuccess::Archive(self.path(&Located { value: dir, at }))
            }
            (Some(on_success), _) => on_success,
            (None, _) => OnSuccess::Keep,
        }
    }

    fn http(&mut self, written: &Located<String>) -> Option<Http> {
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

    fn admin_socket(&mut self, written: &Located<PathBuf>) -> AdminSocket {
        match written.value.to_str() {
            Some("off") => AdminSocket::Off,
            Some("default") => AdminSocket::Default,
            _ => AdminSocket::At(self.path(written)),
        }
    }

    fn settle(&mut self, written: Located<String>) -> Settle {
        if written.value == "auto" {
            return Settle::Auto;
        }
        Settle::Quiet(self.duration(Some(written), Duration::ZERO))
    }

    pub(super) fn duration(
        &mut self,
        written: Option<Located<String>>,
        default: Duration,
    ) -> Duration {
        let Some(Located { value, at }) = written else {
            return default;
        };
        let (message, help) = match duration(&value) {
            Some(duration) if duration <= LONGEST => return duration,
            Some(_) => (format!("`{value}` is longer than a year"), "a year is `8784h`"),
            None => {
                let help = "durations are written `250ms`, `2s`, `1m 30s`, `1h`";
                (format!("`{value}` is not a duration"), help)
            }
        };
        self.problems.add(Some(&at), message, Some(help));
        default
    }

    fn rescan(&mut self, written: Option<Located<String>>) -> Duration {
        let at = written.as_ref().map(|written| written.at.clone());
        let rescan = self.duration(written, limits::RESCAN_INTERVAL);
        if rescan.is_zero() {
            let message = "without a pause between two scans nothing else would be done";
            self.problems.add(at.as_ref(), message, Some("write `rescan = \"5m\"`"));
        }
        rescan
    }

    /// A number of bytes, never 0.
    pub(super) fn bytes(&mut self, written: &Located<String>, default: u64) -> u64 {
        let (message, help) = match written.value.parse::<bytesize::ByteSize>() {
            Ok(size) if size.as_u64() > 0 => return size.as_u64(),
            Ok(_) => ("nothing fits into 0 bytes".to_owned(), "leave it out for the default"),
            Err(_) => {
                let help = "sizes are written `65536`, `64KiB`, `32MiB`, `1TiB`";
                (format!("`{}` is not a size", written.value), help)
            }
        };
        self.problems.add(Some(&written.at), message, Some(help));
        default
    }

    pub(super) fn at_least_one<T: From<u8> + PartialOrd>(
        &mut self,
        file: Option<Spanned<T>>,
        default: T,
    ) -> T {
        match file.map(Located::from) {
            Some(Located { value, at }) if value < T::from(1) => {
                self.problems.add(
                    Some(&at),
                    "it is at least 1",
                    Some("leave it out for the default"),
                );
                default
            }
            Some(Located { value, .. }) => value,
            None => default,
        }
    }
}

fn default_transforms() -> Chain {
    Chain::zstd()
}

/// `250ms`, `1m 30s`, and plain numbers as seconds.
pub fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    text.parse::<jiff::SignedDuration>().ok()?.try_into().ok()
}
