//! The kinds of values that a key can have: how one is written, checked and shown. A kind is a type
//! without values; [`Kind::Value`] is what the rest of the program gets.

use std::{fmt::Debug, marker::PhantomData, num::NonZero, thread};

use bytesize::ByteSize;

use super::{
    declare::{Entry, Facts, Located, Location, Written},
    memory::{self, Memory},
};
use crate::policy::Words;

/// Why a value is refused, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    pub help: Option<&'static str>,
}

pub fn refused<T>(message: impl Into<String>, help: &'static str) -> Result<T, Refusal> {
    Err(Refusal { message: message.into(), help: Some(help) })
}

/// A kind of value.
pub trait Kind {
    /// The type as which it is written.
    type Written: Written;
    type Value: Clone + Debug + PartialEq;
    /// The word for it in the reference.
    const NAME: &'static str;
    /// The words that it can be, if these are all.
    const WORDS: &'static [&'static str] = &[];
    /// A value that is refused, as TOML; `None` if every one is good.
    const REFUSED: Option<&'static str>;
    /// What the reference states where there is no default.
    const UNSET: &'static str = "none";

    fn parse(written: &Self::Written) -> Result<Self::Value, Refusal>;

    /// The value as it is written; `None` if it is not.
    fn show(value: &Self::Value) -> Option<Self::Written>;

    /// The value of a key that has no default.
    fn unset() -> Self::Value;

    /// Two values, as TOML.
    const EXAMPLES: [&'static str; 2];

    /// A value that is not this default, as TOML.
    fn other(default: Option<&str>) -> String {
        let [one, other] = Self::EXAMPLES;
        if default == Some(one) { other } else { one }.to_owned()
    }
}

/// The type as which a value of this kind is written.
pub type WrittenAs<K> = <K as Kind>::Written;

/// What follows from a kind, for a key of this meaning.
pub const fn facts<K: Kind>(meaning: &'static str) -> Facts {
    let (kind, unset, words, refused) = (K::NAME, K::UNSET, K::WORDS, K::REFUSED);
    Facts { kind, meaning, unset, words, refused, other: K::other }
}

/// Gets the values that are refused.
pub trait Refusals {
    fn refused(&mut self, at: &Location, refusal: Refusal);
}

/// The value, or the default where it is refused.
pub fn value<K: Kind>(entry: Entry<K::Written>, refusals: &mut impl Refusals) -> K::Value {
    if let Some(Located { value, at }) = entry.written {
        match K::parse(&value) {
            Ok(value) => return value,
            Err(refusal) => refusals.refused(&at, refusal),
        }
    }
    entry.default.and_then(|default| K::parse(&default).ok()).unwrap_or_else(K::unset)
}

/// `true` or `false`.
#[derive(Debug)]
pub struct Boolean;

impl Kind for Boolean {
    type Written = bool;
    type Value = bool;
    const NAME: &'static str = "boolean";
    const REFUSED: Option<&'static str> = None;
    const EXAMPLES: [&'static str; 2] = ["true", "false"];

    fn parse(written: &bool) -> Result<bool, Refusal> {
        Ok(*written)
    }

    fn show(value: &bool) -> Option<bool> {
        Some(*value)
    }

    fn unset() -> bool {
        false
    }
}

/// A number from 1 to `MAX`.
#[derive(Debug)]
pub struct Count<T = u32, const MAX: u64 = { u64::MAX }>(PhantomData<T>);

impl<T, const MAX: u64> Kind for Count<T, MAX>
where
    T: Written + Copy + Debug + From<u8> + Into<u64>,
{
    type Written = T;
    type Value = T;
    const NAME: &'static str = "number";
    const REFUSED: Option<&'static str> = Some("0");
    const EXAMPLES: [&'static str; 2] = ["7", "8"];

    fn parse(written: &T) -> Result<T, Refusal> {
        let help = "leave it out for the default";
        match (*written).into() {
            0 => refused("the number must be at least 1", help),
            number if number > MAX => refused(format!("the number must be at most {MAX}"), help),
            _ => Ok(*written),
        }
    }

    fn show(value: &T) -> Option<T> {
        Some(*value)
    }

    fn unset() -> T {
        T::from(1)
    }
}

/// From -10 to 10.
#[derive(Debug)]
pub struct Priority;

impl Kind for Priority {
    type Written = i32;
    type Value = i32;
    const NAME: &'static str = "number";
    const REFUSED: Option<&'static str> = Some("11");
    const EXAMPLES: [&'static str; 2] = ["5", "-5"];

    fn parse(written: &i32) -> Result<i32, Refusal> {
        if (-10..=10).contains(written) {
            return Ok(*written);
        }
        refused(format!("{written} is not a priority"), "a priority is a number from -10 to 10")
    }

    fn show(value: &i32) -> Option<i32> {
        Some(*value)
    }

    fn unset() -> i32 {
        0
    }
}

/// A number of threads: without one, that of the processors.
#[derive(Debug)]
pub struct Threads;

impl Kind for Threads {
    type Written = u32;
    type Value = u32;
    const NAME: &'static str = "number";
    const REFUSED: Option<&'static str> = Some("0");
    const EXAMPLES: [&'static str; 2] = ["77", "78"];
    const UNSET: &'static str = "processors";

    fn parse(written: &u32) -> Result<u32, Refusal> {
        Count::<u32>::parse(written)
    }

    fn show(value: &u32) -> Option<u32> {
        Count::<u32>::show(value)
    }

    fn unset() -> u32 {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        u32::try_from(processors).unwrap_or(1)
    }
}

/// Exact, in the largest unit that it is a multiple of.
pub fn bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(bits, _)| bytes != 0 && bytes.is_multiple_of(1 << bits));
    unit.map_or_else(|| bytes.to_string(), |(bits, unit)| format!("{}{unit}", bytes >> bits))
}

/// A number of bytes, never 0: `65536`, `64KiB`, `1TiB`.
#[derive(Debug)]
pub struct Size;

impl Kind for Size {
    type Written = String;
    type Value = u64;
    const NAME: &'static str = "size";
    const REFUSED: Option<&'static str> = Some("\"much\"");
    const EXAMPLES: [&'static str; 2] = ["\"9MiB\"", "\"8MiB\""];

    fn parse(written: &String) -> Result<u64, Refusal> {
        match written.parse::<ByteSize>() {
            Ok(size) if size.as_u64() > 0 => Ok(size.as_u64()),
            Ok(_) => refused("the size must be greater than 0", "leave it out for the default"),
            Err(_) => {
                let help = "sizes are written `65536`, `64KiB`, `32MiB`, `1TiB`";
                refused(format!("`{written}` is not a size"), help)
            }
        }
    }

    fn show(value: &u64) -> Option<String> {
        Some(bytes(*value))
    }

    fn unset() -> u64 {
        1
    }
}

/// A size, or a share of the memory.
#[derive(Debug)]
pub struct MemoryLimit;

impl Kind for MemoryLimit {
    type Written = String;
    type Value = Memory;
    const NAME: &'static str = "size or share";
    const REFUSED: Option<&'static str> = Some("\"101%\"");
    const EXAMPLES: [&'static str; 2] = ["\"64MiB\"", "\"65MiB\""];

    fn parse(written: &String) -> Result<Memory, Refusal> {
        written.parse().map_err(|message| Refusal { message, help: None })
    }

    fn show(value: &Memory) -> Option<String> {
        Some(value.to_string())
    }

    fn unset() -> Memory {
        memory::DEFAULT
    }
}

/// The end of a file name.
#[derive(Debug)]
pub struct Suffix;

impl Kind for Suffix {
    type Written = String;
    type Value = String;
    const NAME: &'static str = "text";
    const REFUSED: Option<&'static str> = Some("\"a/b\"");
    const EXAMPLES: [&'static str; 2] = ["\".done\"", "\".ok\""];

    fn parse(written: &String) -> Result<String, Refusal> {
        if written.is_empty() || written.contains(['/', '\0']) {
            let help = "write a suffix without `/`, such as `.done`";
            return refused("this cannot be a suffix of a file name", help);
        }
        Ok(written.clone())
    }

    fn show(value: &String) -> Option<String> {
        Some(value.clone())
    }

    fn unset() -> String {
        String::new()
    }
}

/// Exit codes of a program.
#[derive(Debug)]
pub struct ExitCodes;

impl Kind for ExitCodes {
    type Written = Vec<u32>;
    type Value = Vec<i32>;
    const NAME: &'static str = "list of numbers";
    const REFUSED: Option<&'static str> = Some("[256]");
    const EXAMPLES: [&'static str; 2] = ["[1]", "[2]"];

    fn parse(written: &Vec<u32>) -> Result<Vec<i32>, Refusal> {
        let codes = written.iter().map(|code| u8::try_from(*code).map(i32::from));
        codes.collect::<Result<_, _>>().or_else(|_| {
            refused("no program ends with this exit code", "an exit code is at most 255")
        })
    }

    fn show(value: &Vec<i32>) -> Option<Vec<u32>> {
        Some(value.iter().map(|code| code.unsigned_abs()).collect())
    }

    fn unset() -> Vec<i32> {
        Vec::new()
    }
}

/// One of the words of an enum, which `words!` declares.
#[derive(Debug)]
pub struct Word<T>(PhantomData<T>);

impl<T: Words> Kind for Word<T> {
    type Written = String;
    type Value = T;
    const NAME: &'static str = "word";
    const WORDS: &'static [&'static str] = T::WORDS;
    const REFUSED: Option<&'static str> = Some("\"maybe\"");
    const EXAMPLES: [&'static str; 2] = [""; 2];

    fn parse(written: &String) -> Result<T, Refusal> {
        written.parse().map_err(|message| Refusal { message, help: None })
    }

    fn show(value: &T) -> Option<String> {
        Some(value.word().to_owned())
    }

    fn unset() -> T {
        match T::ALL {
            [first, ..] => *first,
            [] => unreachable!("an enum has words"),
        }
    }

    fn other(default: Option<&str>) -> String {
        let quoted = T::WORDS.iter().map(|word| format!("{word:?}"));
        quoted.into_iter().find(|word| Some(&**word) != default).unwrap_or_default()
    }
}

/// A value that may be left out.
#[derive(Debug)]
pub struct Optional<K>(PhantomData<K>);

impl<K: Kind> Kind for Optional<K> {
    type Written = K::Written;
    type Value = Option<K::Value>;
    const NAME: &'static str = K::NAME;
    const WORDS: &'static [&'static str] = K::WORDS;
    const REFUSED: Option<&'static str> = K::REFUSED;
    const EXAMPLES: [&'static str; 2] = K::EXAMPLES;

    fn parse(written: &K::Written) -> Result<Self::Value, Refusal> {
        K::parse(written).map(Some)
    }

    fn show(value: &Self::Value) -> Option<K::Written> {
        value.as_ref().and_then(K::show)
    }

    fn unset() -> Self::Value {
        None
    }

    fn other(default: Option<&str>) -> String {
        K::other(default)
    }
}
