//! Transforms: what happens to a file's bytes between its source and its output.
//!
//! ```text
//! "gunzip,zstd:9"  ── Kind ──▶  Chain of Spec  ── Spec::start ──▶  Transformer of Transform
//!  the configuration             one per pipeline                   one per file in flight, reused
//! ```
//!
//! A [`Kind`] parses the notation, a [`Spec`] is one configured transform, and a [`Transform`] is one
//! that runs. A new kind is a file and a line of `KINDS`; nothing outside of this module knows how
//! many there are. Every kind but `exec`, whose outputs are a program's, passes the suite of
//! `conformance.rs`.
//!
//! K1: the same input, fed in pieces of the same sizes, gives the same output: the output depends on no
//! clock and no machine, and worker threads do not change a byte. A user's program (`exec`) may give another
//! one, and an encryption (`age`) always does: nothing depends on it, because recovery publishes the staged
//! output, and a source is known by its own content.
//! K2: truncated input, damaged input and trailing data are errors, never a shorter output: all members
//! of a file are read, and every format except Brotli and LZ4's legacy frame has a checksum.
//! K3: the output of decompression is bounded, over the entire chain.

pub mod age;
mod chain;
pub mod compression;
#[cfg(test)]
mod conformance;
mod copy;
mod error;
pub mod exec;
mod file_info;
pub mod memory;
mod receiver;
mod running;
mod transformer;
mod verifier;

use std::{fmt, sync::Arc};

use self::{age::AgeKeys, compression::Format};
pub use self::{
    chain::Chain,
    error::{Error, FailureCause},
    exec::ProgramRunner,
    file_info::FileInfo,
    receiver::{Receiver, Stopped},
    transformer::Transformer,
};
use crate::policy::ExpansionLimits;

/// A parsed transform, or an error that names the valid values.
type Parsed = Result<Arc<dyn Spec>, String>;

/// A kind of transform.
#[derive(Debug)]
pub struct Kind {
    /// The words that its notation begins with.
    words: &'static [&'static str],
    /// Parses `WORD` or `WORD:OPTIONS`, with one of the words.
    parse: fn(word: &str, options: Option<&str>) -> Parsed,
}

/// All kinds, in the order in which messages list them.
const KINDS: [Kind; 10] = [
    compression::zstd::KIND,
    compression::gzip::KIND,
    compression::brotli::KIND,
    compression::xz::KIND,
    compression::bzip2::KIND,
    compression::lz4::KIND,
    compression::DETECT,
    copy::KIND,
    age::KIND,
    exec::KIND,
];

/// One configured transform. Its `Display` is its notation, with all options.
pub trait Spec: fmt::Display + fmt::Debug + Send + Sync {
    fn effect(&self) -> Effect;

    /// Returns the name of the output for the name of the input.
    fn output_name(&self, input: Vec<u8>) -> Vec<u8>;

    /// Returns the maximum memory of the running transform in bytes, with this number of worker threads
    /// and with decoders limited to `decoder_bytes`. 0 threads are for small files.
    fn memory_bytes(&self, threads: u32, decoder_bytes: u64) -> u64;

    /// Creates the running transform. 0 threads run on the caller's thread, for inputs of at most
    /// [`limits::SMALL_FILE_MAX_BYTES`](crate::limits::SMALL_FILE_MAX_BYTES).
    fn start(
        &self,
        limits: ExpansionLimits,
        threads: u32,
    ) -> Result<Box<dyn Transform>, FailureCause>;

    /// Returns the transform that makes the input of this one from its output; `None` if there is none
    /// for every input.
    fn inverse(&self) -> Option<Arc<dyn Spec>> {
        None
    }

    /// Returns the notation as the ledger stores it: of two transforms that may give different outputs, it
    /// differs.
    fn recorded(&self) -> String {
        self.to_string()
    }

    /// Returns the name of the configured program, for a transform that runs one.
    fn program_name(&self) -> Option<&str> {
        None
    }

    /// Returns the same transform with the keys of `[age]`, if it needs them.
    fn with_keys(&self, _keys: &Arc<AgeKeys>) -> Option<Arc<dyn Spec>> {
        None
    }

    /// Gives the process that runs programs to a transform that needs it.
    fn connect(&self, _runner: &Arc<dyn ProgramRunner>) {}
}

/// What a transform does, as far as the rest of the program depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The output equals the input, byte for byte.
    Copies,
    /// The output's name ends with the format's extension.
    Compresses(&'static Format),
    /// The output may be larger than the input, without an inherent bound. `None` is a detected format.
    Decompresses(Option<&'static Format>),
    /// The output can be read with an identity only.
    Encrypts,
    Decrypts,
    /// Anything: a user's program.
    Unknown,
}

/// A running transform. It processes one file after another; dropping it frees what it holds.
pub trait Transform: Send {
    /// Starts a file, whether or not the previous one was finished.
    fn start(&mut self, file: &FileInfo<'_>);

    /// Sets the number of bytes fed to the chain so far, to which K3's ratio refers.
    fn set_source_bytes(&mut self, _bytes: u64) {}

    /// Takes the next bytes of the file. After an error only [`Self::start`] is valid.
    fn feed(&mut self, bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error>;

    /// Ends the file and passes on the rest of its output.
    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Error>;
}

/// Receives the output of a transform.
pub type Next<'a> = dyn FnMut(&[u8]) -> Result<(), Error> + 'a;

/// Parses one transform of a chain.
fn parse(text: &str) -> Parsed {
    let (word, options) = match text.split_once(':') {
        Some((word, options)) => (word, Some(options)),
        None => (text, None),
    };
    match KINDS.iter().find(|kind| kind.words.contains(&word)) {
        Some(kind) => (kind.parse)(word, options),
        None => Err(unknown(word)),
    }
}

/// Returns every transform as it is written, and beginnings of those that need an option: for completions.
#[must_use]
pub fn notations() -> Vec<&'static str> {
    let words = KINDS.iter().flat_map(|kind| kind.words).copied();
    words.filter(|word| parse(word).is_ok()).chain(["decompress:or-copy", "exec:"]).collect()
}

fn unknown(word: &str) -> String {
    let words: Vec<&str> = KINDS.iter().flat_map(|kind| kind.words).copied().collect();
    let words = words.join("`, `");
    if word.is_empty() {
        return format!("a transform is missing: the transforms are `{words}`");
    }
    format!("`{word}` is not a transform: the transforms are `{words}`")
}

/// Returns the transform if there are no options.
fn without_options(word: &str, options: Option<&str>, spec: impl Spec + 'static) -> Parsed {
    match options {
        None => Ok(Arc::new(spec)),
        Some(_) => Err(format!("`{word}` takes no options")),
    }
}

#[cfg(test)]
mod tests;
