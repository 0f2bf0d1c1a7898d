//! `exec:NAME`: a user's program, as the table `[exec.NAME]` of the configuration describes it.
//!
//! Here is what the chain has to know of it. A [`ProgramRunner`] outside of the service's sandbox runs the
//! programs; a chain gets it by [`Chain::connect`](super::Chain::connect).

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Effect, FailureCause, Kind, Parsed, Spec, Transform};
use crate::policy::ExpansionLimits;

pub const KIND: Kind = Kind { words: &["exec"], parse };

/// The placeholder of an argument for the path of a file with the input.
pub const INPUT: &str = "{in}";
/// The placeholder of an argument for the path at which the program makes its output.
pub const OUTPUT: &str = "{out}";

/// The configured programs, by name.
pub type Programs = BTreeMap<String, Arc<Program>>;

/// A program: a table `[exec.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    /// The absolute path of the program, and its arguments. No shell is involved.
    pub command: Vec<String>,
    /// Appended to the output's name, such as `.pdf`.
    pub extension: Option<String>,
    /// Removed from the end of the input's name before that, such as `.docx`.
    pub replaces: Option<String>,
    pub timeout: Duration,
    /// The address space of each of its processes, in bytes.
    pub memory: u64,
    /// Processes and threads at one time.
    pub processes: u32,
    /// What it may read in addition to the system's programs and libraries.
    pub read: Vec<PathBuf>,
    /// Where it may also create, change and remove files.
    pub write: Vec<PathBuf>,
    /// Whether it may open TCP connections.
    pub network: bool,
    /// Variables of its environment, `NAME=VALUE`.
    pub environment: Vec<String>,
    /// Exit codes for which the file is quarantined without another attempt.
    pub reject_codes: Vec<i32>,
    /// Exit codes for which the pipeline pauses: the file is not at fault.
    pub pause_codes: Vec<i32>,
    /// Whether an empty output of an input that is not empty counts.
    pub allow_empty: bool,
}

impl Program {
    fn has(&self, placeholder: &str) -> bool {
        self.command.iter().any(|word| word.contains(placeholder))
    }

    /// Returns whether it takes its input as a file; otherwise on the standard input.
    #[must_use]
    pub fn takes_file(&self) -> bool {
        self.has(INPUT)
    }

    /// Returns whether it makes its output as a file; otherwise on the standard output.
    #[must_use]
    pub fn makes_file(&self) -> bool {
        self.has(OUTPUT)
    }

    /// Returns the name of its output for the name of its input.
    #[must_use]
    pub fn output_name(&self, mut input: Vec<u8>) -> Vec<u8> {
        let replaced = self.replaces.as_deref().unwrap_or_default().as_bytes();
        let length = input.len().saturating_sub(replaced.len());
        // A name that is nothing but the extension stays.
        if length > 0 && input.get(length..).is_some_and(|end| end.eq_ignore_ascii_case(replaced)) {
            input.truncate(length);
        }
        input.extend_from_slice(self.extension.as_deref().unwrap_or_default().as_bytes());
        input
    }

    /// Returns a hash of everything that its output may depend on.
    fn hash(&self) -> String {
        let Self { command, environment, network, read, write, .. } = self;
        let of_output = format!("{command:?}{environment:?}{network}{read:?}{write:?}");
        blake3::hash(of_output.as_bytes()).to_hex().chars().take(8).collect()
    }
}

/// The process that runs programs.
pub trait ProgramRunner: fmt::Debug + Send + Sync {
    /// Returns a transform that starts the program once for each file. `output_bytes` limits each output.
    fn transform(self: Arc<Self>, program: &Arc<Program>, output_bytes: u64) -> Box<dyn Transform>;
}

/// The transform as it is configured.
#[derive(Debug)]
pub struct Exec {
    name: String,
    /// `None` before the chain is resolved.
    program: Option<Arc<Program>>,
    runner: OnceLock<Arc<dyn ProgramRunner>>,
}

impl Exec {
    pub const fn new(name: String, program: Option<Arc<Program>>) -> Self {
        Self { name, program, runner: OnceLock::new() }
    }
}

fn parse(_: &str, options: Option<&str>) -> Parsed {
    match options {
        Some(name) if is_name(name) => Ok(Arc::new(Exec::new(name.to_owned(), None))),
        _ => Err("`exec` needs the name of a program, such as `exec:pdf` for the table `[exec.pdf]`; a name has letters, digits, `-` and `_`".to_owned()),
    }
}

/// Whether a table `[exec.NAME]` may have this name.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

impl fmt::Display for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exec:{}", self.name)
    }
}

impl Spec for Exec {
    fn effect(&self) -> Effect {
        Effect::Unknown
    }

    fn output_name(&self, input: Vec<u8>) -> Vec<u8> {
        match &self.program {
            Some(program) => program.output_name(input),
            None => input,
        }
    }

    fn memory_bytes(&self, _: u32, _: u64) -> u64 {
        self.program.as_ref().map_or(0, |program| program.memory)
    }

    fn start(&self, limits: ExpansionLimits, _: u32) -> Result<Box<dyn Transform>, FailureCause> {
        let (Some(program), Some(runner)) = (&self.program, self.runner.get()) else {
            return Err(FailureCause::Unavailable("no program runner".to_owned()));
        };
        Ok(Arc::clone(runner).transform(program, limits.output_bytes))
    }

    fn recorded(&self) -> String {
        match &self.program {
            Some(program) => format!("{self}@{}", program.hash()),
            None => self.to_string(),
        }
    }

    fn program_name(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn connect(&self, runner: &Arc<dyn ProgramRunner>) {
        // It stays the same for the life of the process.
        self.runner.get_or_init(|| Arc::clone(runner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn program(extension: &str, replaces: &str) -> Program {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Program {
            name: "p".into(),
            command: vec!["/bin/cat".into()],
            extension: some(extension),
            replaces: some(replaces),
            timeout: Duration::from_secs(1),
            memory: 0,
            processes: 1,
            read: Vec::new(),
            write: Vec::new(),
            network: false,
            environment: Vec::new(),
            reject_codes: Vec::new(),
            pause_codes: Vec::new(),
            allow_empty: false,
        }
    }

    #[test]
    fn an_extension_is_appended_in_place_of_another_one() {
        for (extension, replaces, input, output) in [
            (".pdf", ".docx", "a.docx", "a.pdf"),
            (".pdf", ".docx", "A.DOCX", "A.pdf"),
            (".pdf", ".docx", "a.odt", "a.odt.pdf"),
            (".pdf", ".docx", ".docx", ".docx.pdf"),
            (".gpg", "", "a", "a.gpg"),
            ("", "", "a", "a"),
        ] {
            let name = program(extension, replaces).output_name(input.into());
            assert_eq!(String::from_utf8(name).expect("text"), output);
        }
    }

    #[test]
    fn the_ledger_stores_which_program_it_was() {
        let chain: super::super::Chain = "exec:p,zstd".parse().expect("a chain");
        assert_eq!(chain.to_string(), "exec:p,zstd:3");
        let recorded = |program: Program| {
            let programs = Programs::from([("p".to_owned(), Arc::new(program))]);
            chain.resolve(&programs, &Arc::default()).expect("resolved").recorded()
        };
        let (one, other) = (program("", ""), program("", ""));
        let other = Program { command: vec!["/bin/tac".into()], ..other };
        assert!(recorded(one.clone()).starts_with("exec:p@"), "{}", recorded(one.clone()));
        assert_ne!(recorded(one), recorded(other));
    }

    #[test]
    fn a_program_without_a_table_is_an_error() {
        let chain: super::super::Chain = "gunzip,exec:q".parse().expect("a chain");
        let error = chain.resolve(&Programs::new(), &Arc::default()).expect_err("no table");
        assert!(error.contains("[exec.q]"), "{error}");
        for wrong in ["exec", "exec:", "exec:a b", "exec:../x"] {
            assert!(wrong.parse::<super::super::Chain>().is_err(), "{wrong}");
        }
    }
}
