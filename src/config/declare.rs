//! How a configuration key is declared: one row gives the key of the file, the option of the command
//! line, its default and its help. [`super::keys`] has the rows.

use std::{ops::Range, path::PathBuf};

use serde::{Deserialize, Serialize};
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

/// A key's value as it was written, and its default.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    pub written: Option<Located<T>>,
    pub default: Option<T>,
}

impl<T> Entry<T> {
    /// The option where it was given, otherwise the value of the file.
    pub fn new(option: Option<Located<T>>, file: Option<Spanned<T>>, default: Option<T>) -> Self {
        Self { written: option.or_else(|| file.map(Located::from)), default }
    }

    /// Where the value was written; None for a default.
    pub fn location(&self) -> Option<Location> {
        self.written.as_ref().map(|written| written.at.clone())
    }

    pub fn value(self) -> Option<T> {
        self.written.map(|written| written.value).or(self.default)
    }
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum ValueKind {
    Text,
    /// Up to `u32::MAX`.
    Number,
    /// A number that may be negative.
    Signed,
    /// Up to `i64::MAX`, TOML's largest.
    Large,
    /// From 0 to 1.
    Share,
    Boolean,
    /// A list of strings.
    Texts,
    /// A list of numbers.
    Numbers,
    /// `["/program", "argument"]` or `{ url = "…" }`.
    Hook,
    Table(&'static KeyTable),
    /// Any number of tables.
    Tables(&'static KeyTable),
    /// Any number of tables, each with a name.
    Named(&'static KeyTable),
}

impl ValueKind {
    pub const fn words(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Number | Self::Signed | Self::Large => "a whole number",
            Self::Boolean => "`true` or `false`",
            Self::Texts => "a list of strings",
            Self::Numbers => "a list of whole numbers",
            Self::Hook => "a command, or a table with a `url`",
            Self::Share => "a number from 0 to 1",
            Self::Table(_) => "a table",
            Self::Tables(_) => "a list of tables",
            Self::Named(_) => "a table with named tables",
        }
    }

    /// How a key of this kind is written.
    pub fn example(self, key: &str) -> String {
        match self {
            Self::Text => format!("strings are in quotes: `{key} = \"…\"`"),
            Self::Number => format!("write `{key} = 3`, or another from 1 to {}", u32::MAX),
            Self::Signed => format!("write `{key} = 5`, or `{key} = -5`"),
            Self::Large => format!("write `{key} = 100`, or another from 1 to {}", i64::MAX),
            Self::Boolean => format!("write `{key} = true`, without quotes"),
            Self::Texts => format!("write `{key} = [\"*.log\"]`"),
            Self::Numbers => format!("write `{key} = [65]`"),
            Self::Hook => format!(
                "write `{key} = [\"/path/to/program\", \"argument\"]`, or `{key} = {{ url = \"http://127.0.0.1:8080/\" }}`"
            ),
            Self::Share => format!("write `{key} = 0.1`, or another from 0 to 1"),
            Self::Table(_) => format!("begin it with `[{key}]`"),
            Self::Tables(_) => format!("begin each with `[[{key}]]`, in double brackets"),
            Self::Named(_) => format!("begin each with `[{key}.NAME]`"),
        }
    }
}

/// A key of a table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: ValueKind,
    /// The option of the command line that overrides it.
    pub option: Option<&'static str>,
    /// As TOML; None where there is none, or where it depends on other keys.
    pub default: Option<&'static str>,
    pub help: &'static str,
    /// Of a key of the part `values`, which has a kind.
    pub facts: Option<Facts>,
}

/// What follows from a key's kind.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The word for the kind of value.
    pub kind: &'static str,
    /// What the reference states: the help, or more.
    pub meaning: &'static str,
    /// What the reference states where there is no default.
    pub unset: &'static str,
    /// The words that the value can be, if these are all.
    pub words: &'static [&'static str],
    /// A value that is refused, as TOML; `None` if every one is good.
    pub refused: Option<&'static str>,
    /// A value that is not this default, as TOML.
    pub other: fn(Option<&str>) -> String,
}

/// A table of a configuration file.
#[derive(Debug)]
pub struct KeyTable {
    /// Where in the file its keys are written.
    pub place: &'static str,
    pub keys: &'static [Key],
}

/// A type that values are written as.
pub trait Written: Clone + PartialEq {
    const KIND: ValueKind;
    /// A default of this type, in the source.
    type Literal;

    fn literal(literal: Self::Literal) -> Self;

    /// As TOML.
    fn toml(&self) -> String;
}

/// One of a list of strings, each with its own location.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LocatedText(pub Spanned<String>);

impl PartialEq for LocatedText {
    fn eq(&self, other: &Self) -> bool {
        self.0.get_ref() == other.0.get_ref()
    }
}

impl From<&str> for LocatedText {
    fn from(text: &str) -> Self {
        Self(Spanned::new(0..0, text.to_owned()))
    }
}

/// A command, or where to send a request to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RawHook {
    Command(Vec<String>),
    Post { url: String },
}

macro_rules! written {
    ($($type:ty, $kind:ident, $literal:ty, $from:expr, $toml:expr;)+) => {
        $(impl Written for $type {
            const KIND: ValueKind = ValueKind::$kind;
            type Literal = $literal;

            fn literal(literal: $literal) -> Self {
                let from: fn($literal) -> Self = $from;
                from(literal)
            }

            fn toml(&self) -> String {
                let toml: fn(&Self) -> String = $toml;
                toml(self)
            }
        })+
    };
}

written! {
    String, Text, &'static str, str::to_owned, |text| format!("{text:?}");
    PathBuf, Text, &'static str, PathBuf::from, |path| format!("\"{}\"", path.display());
    u32, Number, u32, |number| number, u32::to_string;
    i32, Signed, i32, |number| number, i32::to_string;
    u64, Large, u64, |number| number, u64::to_string;
    f64, Share, f64, |number| number, f64::to_string;
    bool, Boolean, bool, |boolean| boolean, bool::to_string;
    Vec<LocatedText>, Texts, [&'static str; 0], |_| Vec::new(), |globs| {
        format!("{:?}", globs.iter().map(|glob| glob.0.get_ref()).collect::<Vec<_>>())
    };
    Vec<u32>, Numbers, [u32; 1], Vec::from, |numbers| format!("{numbers:?}");
    RawHook, Hook, std::convert::Infallible, |never| match never {}, |hook| format!("{hook:?}");
}
