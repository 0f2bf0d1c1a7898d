//! The configuration as the user wrote it: each value with the place it was written at.

use std::{ops::Range, path::PathBuf};

use serde::Deserialize;
use toml::Spanned;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// In the configuration file, in these bytes.
    File(Range<usize>),
    /// As this option of the command line.
    Option(&'static str),
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written<T> {
    pub value: T,
    pub at: At,
}

impl<T> From<Spanned<T>> for Written<T> {
    fn from(spanned: Spanned<T>) -> Self {
        let at = At::File(spanned.span());
        Self { value: spanned.into_inner(), at }
    }
}

/// A value of the file, if it has it.
pub type Value<T> = Option<Spanned<T>>;

/// A whole configuration file. The keys are those of the command line, with `_` for `-`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub state_dir: Value<PathBuf>,
    pub http: Value<String>,
    pub events: Value<PathBuf>,
    pub shutdown_deadline: Value<String>,
    pub log_format: Value<String>,
    pub once: Option<bool>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default, rename = "pipeline")]
    pub pipelines: Vec<Pipeline>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub memory: Value<String>,
    pub files: Value<u32>,
    pub workers: Value<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    pub name: Value<String>,
    pub input: Spanned<PathBuf>,
    pub output: Spanned<PathBuf>,
    pub steps: Value<String>,
    pub on_success: Value<String>,
    pub on_exists: Value<String>,
    #[serde(default)]
    pub include: Vec<Spanned<String>>,
    #[serde(default)]
    pub exclude: Vec<Spanned<String>>,
    pub settle: Value<String>,
    pub min_age: Value<String>,
    pub marker: Value<String>,
    pub durability: Value<String>,
    pub attempts: Value<u32>,
    pub backoff: Value<String>,
    pub rescan: Value<String>,
    pub quarantine: Value<PathBuf>,
    pub max_output: Value<String>,
    pub max_ratio: Value<u64>,
}

impl Pipeline {
    /// The two directories, and the default for everything else.
    pub fn of(input: Spanned<PathBuf>, output: Spanned<PathBuf>) -> Self {
        Self {
            input,
            output,
            name: None,
            steps: None,
            on_success: None,
            on_exists: None,
            include: Vec::new(),
            exclude: Vec::new(),
            settle: None,
            min_age: None,
            marker: None,
            durability: None,
            attempts: None,
            backoff: None,
            rescan: None,
            quarantine: None,
            max_output: None,
            max_ratio: None,
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
    pub steps: Option<String>,
    pub on_success: Option<String>,
    pub on_exists: Option<String>,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub settle: Option<String>,
    pub http: Option<String>,
    pub state_dir: Option<PathBuf>,
    pub events: Option<PathBuf>,
    pub durability: Option<String>,
    pub shutdown_deadline: Option<String>,
    pub log_format: Option<String>,
}

/// The option where it was given, otherwise what the file has.
pub fn either<T>(
    option: Option<T>,
    name: &'static str,
    file: Option<Spanned<T>>,
) -> Option<Written<T>> {
    match option {
        Some(value) => Some(Written { value, at: At::Option(name) }),
        None => file.map(Written::from),
    }
}

/// As [`either`], for values that may be given more than once.
pub fn all(
    options: &[String],
    name: &'static str,
    file: Vec<Spanned<String>>,
) -> Vec<Written<String>> {
    if options.is_empty() {
        return file.into_iter().map(Written::from).collect();
    }
    let written = |value: &String| Written { value: value.clone(), at: At::Option(name) };
    options.iter().map(written).collect()
}
