//! The configuration as the user wrote it: each value with the place it was written at.

use std::{ops::Range, path::PathBuf};

use serde::Deserialize;
use toml::Spanned;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the configuration file, in these bytes.
    File(Range<usize>),
    /// As this option of the command line.
    Option(&'static str),
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    pub value: T,
    pub at: Location,
}

impl<T> From<Spanned<T>> for Located<T> {
    fn from(spanned: Spanned<T>) -> Self {
        let at = Location::File(spanned.span());
        Self { value: spanned.into_inner(), at }
    }
}

/// A value of the file, if it has it.
pub type Value<T> = Option<Spanned<T>>;

/// A whole configuration file. The keys are those of the command line, with `_` for `-`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFile {
    pub state_dir: Value<PathBuf>,
    pub http: Value<String>,
    pub admin_token_file: Value<PathBuf>,
    pub admin_socket: Value<PathBuf>,
    pub events: Value<PathBuf>,
    pub shutdown_deadline: Value<String>,
    pub sandbox: Value<String>,
    pub log_format: Value<String>,
    pub once: Option<bool>,
    #[serde(default)]
    pub limits: RawLimits,
    #[serde(default)]
    pub hooks: RawHooks,
    pub otlp: Option<Spanned<RawOtlp>>,
    #[serde(default, rename = "pipeline")]
    pub pipelines: Vec<Spanned<RawPipeline>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLimits {
    pub memory: Value<String>,
    pub files: Value<u32>,
    pub workers: Value<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOtlp {
    pub endpoint: Value<String>,
    pub sampling: Value<f64>,
    pub paths: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHooks {
    pub on_start: Value<RawHook>,
    pub on_published: Value<RawHook>,
    pub on_failed: Value<RawHook>,
    pub on_drained: Value<RawHook>,
    pub batch_files: Value<u32>,
    pub batch_delay: Value<String>,
    pub timeout: Value<String>,
}

/// A command, or where to send a request to.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum RawHook {
    Command(Vec<String>),
    Post { url: String },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPipeline {
    pub name: Value<String>,
    pub input: Value<PathBuf>,
    pub output: Value<PathBuf>,
    pub transforms: Value<String>,
    pub on_success: Value<String>,
    pub on_exists: Value<String>,
    #[serde(default)]
    pub include: Vec<Spanned<String>>,
    #[serde(default)]
    pub exclude: Vec<Spanned<String>>,
    pub temporary_names: Value<String>,
    pub settle: Value<String>,
    pub min_age: Value<String>,
    pub marker: Value<String>,
    pub hard_links: Value<String>,
    pub owners: Value<String>,
    pub durability: Value<String>,
    pub attempts: Value<u32>,
    pub backoff: Value<String>,
    pub rescan: Value<String>,
    pub quarantine: Value<PathBuf>,
    pub max_output: Value<String>,
    pub max_ratio: Value<u64>,
    pub max_decoder_memory: Value<String>,
}

/// The tables of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTable {
    File,
    Limits,
    Hooks,
    Otlp,
    Pipeline,
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    Text,
    /// Up to `u32::MAX`.
    Number,
    /// Up to `i64::MAX`, TOML's largest.
    Large,
    /// From 0 to 1.
    Share,
    Truth,
    Globs,
    /// `["/program", "argument"]` or `{ url = "…" }`.
    Hook,
    Table(KeyTable),
    Pipelines,
}

impl KeyTable {
    pub const ALL: [Self; 5] = [Self::File, Self::Limits, Self::Hooks, Self::Otlp, Self::Pipeline];

    /// Its keys, in the order of the struct that serde fills.
    pub const fn keys(self) -> &'static [(&'static str, ValueKind)] {
        match self {
            Self::File => &[
                ("state_dir", ValueKind::Text),
                ("http", ValueKind::Text),
                ("admin_token_file", ValueKind::Text),
                ("admin_socket", ValueKind::Text),
                ("events", ValueKind::Text),
                ("shutdown_deadline", ValueKind::Text),
                ("sandbox", ValueKind::Text),
                ("log_format", ValueKind::Text),
                ("once", ValueKind::Truth),
                ("limits", ValueKind::Table(Self::Limits)),
                ("hooks", ValueKind::Table(Self::Hooks)),
                ("otlp", ValueKind::Table(Self::Otlp)),
                ("pipeline", ValueKind::Pipelines),
            ],
            Self::Limits => &[
                ("memory", ValueKind::Text),
                ("files", ValueKind::Number),
                ("workers", ValueKind::Number),
            ],
            Self::Hooks => &[
                ("on_start", ValueKind::Hook),
                ("on_published", ValueKind::Hook),
                ("on_failed", ValueKind::Hook),
                ("on_drained", ValueKind::Hook),
                ("batch_files", ValueKind::Number),
                ("batch_delay", ValueKind::Text),
                ("timeout", ValueKind::Text),
            ],
            Self::Otlp => &[
                ("endpoint", ValueKind::Text),
                ("sampling", ValueKind::Share),
                ("paths", ValueKind::Truth),
            ],
            Self::Pipeline => &[
                ("name", ValueKind::Text),
                ("input", ValueKind::Text),
                ("output", ValueKind::Text),
                ("transforms", ValueKind::Text),
                ("on_success", ValueKind::Text),
                ("on_exists", ValueKind::Text),
                ("include", ValueKind::Globs),
                ("exclude", ValueKind::Globs),
                ("temporary_names", ValueKind::Text),
                ("settle", ValueKind::Text),
                ("min_age", ValueKind::Text),
                ("marker", ValueKind::Text),
                ("hard_links", ValueKind::Text),
                ("owners", ValueKind::Text),
                ("durability", ValueKind::Text),
                ("attempts", ValueKind::Number),
                ("backoff", ValueKind::Text),
                ("rescan", ValueKind::Text),
                ("quarantine", ValueKind::Text),
                ("max_output", ValueKind::Text),
                ("max_ratio", ValueKind::Large),
                ("max_decoder_memory", ValueKind::Text),
            ],
        }
    }

    /// Where in the file its keys are written.
    pub const fn place(self) -> &'static str {
        match self {
            Self::File => "above the first table",
            Self::Limits => "in [limits]",
            Self::Hooks => "in [hooks]",
            Self::Otlp => "in [otlp]",
            Self::Pipeline => "in a [[pipeline]]",
        }
    }
}

impl ValueKind {
    pub const fn words(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Number | Self::Large => "a whole number",
            Self::Truth => "`true` or `false`",
            Self::Globs => "a list of strings",
            Self::Hook => "a command, or a table with a `url`",
            Self::Share => "a number from 0 to 1",
            Self::Table(_) => "a table",
            Self::Pipelines => "a list of tables",
        }
    }

    /// How a key of this kind is written.
    pub fn example(self, key: &str) -> String {
        match self {
            Self::Text => format!("strings are in quotes: `{key} = \"…\"`"),
            Self::Number => format!("write `{key} = 3`, or another from 1 to {}", u32::MAX),
            Self::Large => format!("write `{key} = 100`, or another from 1 to {}", i64::MAX),
            Self::Truth => format!("write `{key} = true`, without quotes"),
            Self::Globs => format!("write `{key} = [\"*.log\"]`"),
            Self::Hook => format!(
                "write `{key} = [\"/path/to/program\", \"argument\"]`, or `{key} = {{ url = \"http://127.0.0.1:8080/\" }}`"
            ),
            Self::Share => format!("write `{key} = 0.1`, or another from 0 to 1"),
            Self::Table(_) => format!("begin it with `[{key}]`"),
            Self::Pipelines => format!("begin each with `[[{key}]]`, in double brackets"),
        }
    }
}

/// The options of `tidemill run`, as they were given.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub input: Option<PathBuf>,
    pub output: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub once: bool,
    pub transforms: Option<String>,
    pub on_success: Option<String>,
    pub on_exists: Option<String>,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub temporary_names: Option<String>,
    pub settle: Option<String>,
    pub http: Option<String>,
    pub admin_token_file: Option<PathBuf>,
    pub admin_socket: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
    pub events: Option<PathBuf>,
    pub durability: Option<String>,
    pub shutdown_deadline: Option<String>,
    pub sandbox: Option<String>,
    pub log_format: Option<String>,
}

impl Options {
    /// The options given that are for one pipeline, and each as a line of its table.
    pub fn for_one_pipeline(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let single = [
            ("INPUT", "input", path(&self.input)),
            ("OUTPUT", "output", path(&self.output)),
            ("--transform", "transforms", self.transforms.clone()),
            ("--on-success", "on_success", self.on_success.clone()),
            ("--on-exists", "on_exists", self.on_exists.clone()),
            ("--temporary-names", "temporary_names", self.temporary_names.clone()),
            ("--settle", "settle", self.settle.clone()),
            ("--durability", "durability", self.durability.clone()),
        ];
        let single = single
            .into_iter()
            .filter_map(|(option, key, value)| Some((option, format!("{key} = {:?}", value?))));
        let lists =
            [("--include", "include", &self.include), ("--exclude", "exclude", &self.exclude)];
        let lists = lists.into_iter().filter(|(_, _, globs)| !globs.is_empty());
        single
            .chain(lists.map(|(option, key, globs)| (option, format!("{key} = {globs:?}"))))
            .collect()
    }
}

/// The option where it was given, otherwise what the file has.
pub fn either<T>(
    option: Option<T>,
    name: &'static str,
    file: Option<Spanned<T>>,
) -> Option<Located<T>> {
    match option {
        Some(value) => Some(Located { value, at: Location::Option(name) }),
        None => file.map(Located::from),
    }
}

/// As [`either`], for values that may be given more than once.
pub fn all(
    options: &[String],
    name: &'static str,
    file: Vec<Spanned<String>>,
) -> Vec<Located<String>> {
    if options.is_empty() {
        return file.into_iter().map(Located::from).collect();
    }
    let written = |value: &String| Located { value: value.clone(), at: Location::Option(name) };
    options.iter().map(written).collect()
}
