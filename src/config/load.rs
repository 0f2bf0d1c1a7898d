//! Resolves what the user wrote: parses every value and fills in every default.

use std::{
    mem::take,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use toml::Spanned;

use super::{
    AdminSocket, Config, Http, Options, Pipeline,
    declare::{Entry, Located, Location},
    diagnostics::Diagnostics,
    keys::{FileEntries, PipelineEntries, PipelineOptions, RawFile, RawPipeline, RetentionOptions},
    kinds::{Refusal, Refusals},
    paths,
    read::read,
    validate,
};
use crate::{
    policy::OnSuccess,
    transforms::{Chain, age::AgeKeys, exec::Programs},
};

/// Reads and checks a configuration: the file, the options, or both.
pub fn load(options: &Options) -> Result<Config, Diagnostics> {
    let (config, locations, mut problems) = read_and_resolve(options)?;
    let before = problems.all.len();
    validate::check(&config, &locations, &mut problems);
    // A directory that does not fit is no error of usage.
    problems.is_usage &= problems.all.len() == before;
    finish(config, problems)
}

/// As [`load`], without the checks of directories, for commands that only read.
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
        .map_or_else(|| Some(RawFile::default()), |path| read(path, &mut problems));
    let Some(file) = file else {
        return Err(problems);
    };
    let base = options.config.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let mut resolver = Resolver { base: base.unwrap_or_default(), problems };
    let (config, locations) = resolver.config(options, file);
    let mut problems = resolver.problems;
    problems.is_usage = problems.are_of_options();
    Ok((config, locations, problems))
}

/// Collects errors while it resolves, so that all of them are reported together.
pub struct Resolver {
    /// Relative paths of the file are relative to its directory.
    base: PathBuf,
    pub problems: Diagnostics,
}

impl Resolver {
    fn config(&mut self, options: &Options, mut file: RawFile) -> (Config, validate::Locations) {
        let (exec, pipelines) = (take(&mut file.exec), take(&mut file.pipelines));
        let FileEntries { state_dir, http, admin_token_file, admin_socket, events, once } =
            file.entries(&options.file);
        let programs = self.programs(exec);
        let (age, age_at) = self.age(take(&mut file.age), &options.age);
        let (pipelines, locations) = self.pipelines(options, pipelines, (&programs, &age));
        let keys = file.values(&options.file, self);
        let once = options.once || once.value().unwrap_or(false);
        let default_http = if once { Http::Off } else { Http::Default };
        let default_socket = if once { AdminSocket::Off } else { AdminSocket::Default };
        let (state_at, events_at) = (state_dir.location(), events.location());
        let mut config = Config {
            state_dir: self.state_dir(state_dir, &pipelines),
            http: http.written.and_then(|written| self.http(&written)).unwrap_or(default_http),
            admin_token_file: self.optional_path(admin_token_file),
            admin_socket: admin_socket
                .written
                .map_or(default_socket, |written| self.admin_socket(&written)),
            events: self.optional_path(events),
            keys,
            limits: file.limits.values(&options.limits, self),
            retention: file.retention.values(&RetentionOptions::default(), self),
            hooks: self.hooks(file.hooks, &options.hooks),
            age,
            programs,
            otlp: self.otlp(file.otlp, &options.otlp),
            once,
            pipelines,
        };
        for pipeline in &mut config.pipelines {
            if pipeline.quarantine.as_os_str().is_empty() {
                pipeline.quarantine = config.state_dir.join("quarantine").join(&*pipeline.name);
            }
        }
        (config, validate::Locations { pipelines: locations, state_at, events_at, age_at })
    }

    fn state_dir(&mut self, written: Entry<PathBuf>, pipelines: &[Pipeline]) -> PathBuf {
        match (written.written, pipelines) {
            (Some(written), _) => self.path(&written),
            (None, [only]) => only.output.join(".tidemill"),
            (None, []) => PathBuf::new(),
            (None, _) => {
                let help = "write `state_dir = \"/var/lib/tidemill\"`, or another directory, above the first [[pipeline]]";
                self.problems.add(None, "several pipelines need a `state_dir`", Some(help));
                PathBuf::new()
            }
        }
    }

    fn pipelines(
        &mut self,
        options: &Options,
        mut file: Vec<Spanned<RawPipeline>>,
        (programs, age): (&Programs, &Arc<AgeKeys>),
    ) -> (Vec<Pipeline>, Vec<validate::PipelineLocations>) {
        let both = match (&options.pipeline.input, &options.pipeline.output) {
            (Some(_), Some(_)) => true,
            (None, None) => false,
            _ => {
                let help = "tidemill run INPUT OUTPUT";
                self.problems.add(None, "INPUT and OUTPUT go together", Some(help));
                return (Vec::new(), Vec::new());
            }
        };
        if file.is_empty() && both {
            file.push(Spanned::new(0..0, RawPipeline::default()));
        } else if file.is_empty() && self.problems.all.is_empty() {
            let help = "tidemill run INPUT OUTPUT, or tidemill run --config FILE with at least one [[pipeline]]";
            self.problems.add(None, "there is no pipeline", Some(help));
        }
        let alone = file.len() == 1;
        if file.len() > 1 {
            self.reject_pipeline_options(&options.pipeline, &file);
        }
        let none = PipelineOptions::default();
        let options = if alone { &options.pipeline } else { &none };
        let pipelines: Vec<_> = file
            .into_iter()
            .filter_map(|pipeline| self.pipeline(options, pipeline, alone))
            .collect();
        let resolved = pipelines.into_iter().map(|(mut pipeline, locations)| {
            match pipeline.transforms.resolve(programs, age) {
                Ok(chain) => pipeline.transforms = chain,
                // A wrong table was reported.
                Err(message) if self.problems.all.is_empty() => {
                    let help = "write the table, with the program as its `command`";
                    self.problems.add(Some(&locations.transforms), message, Some(help));
                }
                Err(_) => {}
            }
            (pipeline, locations)
        });
        resolved.unzip()
    }

    /// Reports the options for one pipeline where there are several.
    fn reject_pipeline_options(
        &mut self,
        options: &PipelineOptions,
        file: &[Spanned<RawPipeline>],
    ) {
        let names: Vec<_> = file.iter().filter_map(|table| table.get_ref().name.as_ref()).collect();
        let names: Vec<_> = names.iter().map(|name| format!("`{}`", name.get_ref())).collect();
        for (option, line) in options.given() {
            let help =
                format!("write `{line}` into the [[pipeline]] it is for: {}", names.join(", "));
            let message =
                "the configuration has several pipelines, and this option is for a single one";
            self.problems.add(Some(&Location::Option(option)), message, Some(&help));
        }
    }

    /// None without an input or an output.
    fn pipeline(
        &mut self,
        options: &PipelineOptions,
        file: Spanned<RawPipeline>,
        alone: bool,
    ) -> Option<(Pipeline, validate::PipelineLocations)> {
        let table = Location::File(file.span());
        let mut file = file.into_inner();
        let (entries, keys) = (file.entries(options), file.values(options, self));
        let locations = validate::PipelineLocations::new(&entries, &table);
        let PipelineEntries {
            name,
            input,
            output,
            transforms,
            on_success,
            include,
            exclude,
            quarantine,
        } = entries;
        let is_complete = self.has_directories([(&input, "input"), (&output, "output")], &table);
        if name.written.is_none() && !alone {
            let message = "a pipeline needs a name where there are several";
            self.problems.add(Some(&locations.input), message, Some("write `name = \"…\"`"));
        }
        let pipeline = Pipeline {
            name: name.value().unwrap_or_else(|| "main".to_owned()).into(),
            input: self.optional_path(input).unwrap_or_default(),
            output: self.optional_path(output).unwrap_or_default(),
            transforms: self.parsed(transforms).unwrap_or_else(Chain::zstd),
            on_success: self.on_success(on_success),
            filter: self.filter((include, exclude), keys.ignore_case),
            quarantine: self.optional_path(quarantine).unwrap_or_default(),
            keys,
        };
        is_complete.then_some((pipeline, locations))
    }

    /// Reports a missing input or output of the pipeline at this location.
    fn has_directories(
        &mut self,
        directories: [(&Entry<PathBuf>, &str); 2],
        table: &Location,
    ) -> bool {
        for (_, key) in directories.iter().filter(|(entry, _)| entry.written.is_none()) {
            let message = format!("this pipeline has no `{key}`");
            let help = format!("write `{key} = \"DIRECTORY\"`");
            self.problems.add(Some(table), message, Some(&help));
        }
        directories.iter().all(|(entry, _)| entry.written.is_some())
    }

    fn optional_path(&mut self, entry: Entry<PathBuf>) -> Option<PathBuf> {
        entry.written.map(|written| self.path(&written))
    }

    /// The absolute path, without symbolic links in the part that exists.
    pub(super) fn path(&mut self, written: &Located<PathBuf>) -> PathBuf {
        if written.value.as_os_str().is_empty() {
            self.problems.add(Some(&written.at), "this path is empty", None);
        }
        let path = paths::resolved(&self.absolute(written));
        if path.to_str().is_none() {
            let message = format!("the path {} is not UTF-8", path.display());
            let help = "file names may have any bytes, but TOML, and so the configuration, holds UTF-8 only";
            self.problems.add(Some(&written.at), message, Some(help));
        }
        path
    }

    /// The absolute path as it was written.
    pub(super) fn absolute(&self, written: &Located<PathBuf>) -> PathBuf {
        let path = match written.at {
            Location::File(_) => self.base.join(&written.value),
            Location::Option(_) => written.value.clone(),
        };
        std::path::absolute(&path).unwrap_or(path)
    }

    /// The value, or the default where it cannot be parsed.
    pub(super) fn parsed<T: FromStr<Err = String>>(&mut self, entry: Entry<String>) -> Option<T> {
        if let Some(Located { value, at }) = entry.written {
            match value.parse() {
                Ok(parsed) => return Some(parsed),
                Err(message) => self.problems.add(Some(&at), message, None),
            }
        }
        entry.default?.parse().ok()
    }

    fn on_success(&mut self, entry: Entry<String>) -> OnSuccess {
        let at = entry.location();
        match (self.parsed(entry), at) {
            (Some(OnSuccess::Archive(dir)), Some(at)) => {
                OnSuccess::Archive(self.path(&Located { value: dir, at }))
            }
            (on_success, _) => on_success.unwrap_or(OnSuccess::Keep),
        }
    }

    fn http(&mut self, written: &Located<String>) -> Option<Http> {
        if written.value == "off" {
            return Some(Http::Off);
        }
        if written.value == "default" {
            return Some(Http::Default);
        }
        // A port alone is one of this machine.
        let port = written.value.strip_prefix(':').unwrap_or(&written.value);
        if let Ok(port) = port.parse() {
            return Some(Http::At(SocketAddr::from(([127, 0, 0, 1], port))));
        }
        if let Ok(address) = written.value.parse::<SocketAddr>() {
            return Some(Http::At(address));
        }
        let message = format!("`{}` is neither an address nor `off`", written.value);
        let help = "an address is `IP:PORT` (`[::1]:9464`), or a port of this machine (`9464`)";
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
}

impl Refusals for Resolver {
    fn refused(&mut self, at: &Location, Refusal { message, help }: Refusal) {
        self.problems.add(Some(at), message, help);
    }
}
