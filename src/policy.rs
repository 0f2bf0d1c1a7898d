//! The choices a user makes for a pipeline, in the words of the command line.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

/// What happens to a source once its output is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnSuccess {
    /// It stays where it is; the ledger remembers that it was done.
    Keep,
    /// It is unlinked.
    Delete,
    /// It is renamed into this directory, under the path it had below the input.
    Archive(PathBuf),
}

impl FromStr for OnSuccess {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "keep" => Ok(Self::Keep),
            None if text == "delete" => Ok(Self::Delete),
            Some(("archive", dir)) if !dir.is_empty() => Ok(Self::Archive(PathBuf::from(dir))),
            _ => Err(format!("`{text}` is none of `keep`, `delete`, `archive:DIR`")),
        }
    }
}

impl fmt::Display for OnSuccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("keep"),
            Self::Delete => f.write_str("delete"),
            Self::Archive(dir) => write!(f, "archive:{}", dir.display()),
        }
    }
}

/// Declares an enum of plain words with `FromStr` and `Display`.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::string::String;

            fn from_str(text: &str) -> std::result::Result<Self, std::string::String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("`{text}` is none of `{}`", Self::WORDS.join("`, `"))),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;

words! {
    /// When a user's hook is run.
    HookKind {
        /// The service is ready.
        OnStart = "on_start",
        /// Outputs were acknowledged.
        OnPublished = "on_published",
        /// Files went to quarantine.
        OnFailed = "on_failed",
        /// The drain is over, and the process is about to end.
        OnDrained = "on_drained",
    }
}

impl HookKind {
    pub const ALL: [Self; 4] = [Self::OnStart, Self::OnPublished, Self::OnFailed, Self::OnDrained];
}

words! {
    /// What happens when the final name is taken.
    OnExists {
        /// Replace what the ledger says this source published and nobody changed since; else as `fail`.
        Update = "update",
        /// Quarantine the source.
        Fail = "fail",
        /// Replace whatever is there.
        Replace = "replace",
        /// Publish beside it, as `NAME.1`, `NAME.2`, … before the extension the transforms added.
        Suffix = "suffix",
        /// Leave what is there; the source counts as done.
        Skip = "skip",
    }
}

words! {
    /// How an output is made durable before it is published.
    Durability {
        /// `fsync` of each file, concurrently; or one `syncfs` for many, where little else is unwritten.
        Fsync = "fsync",
        /// One `syncfs` for each batch, however much others write: for a file system of one's own.
        Syncfs = "syncfs",
        /// None: a power loss may take published outputs back. A kill cannot.
        None = "none",
    }
}

words! {
    /// What happens to files whose names producers use for files they have not finished.
    TemporaryNames {
        /// They are left alone, and so is all below a directory of such a name.
        Ignore = "ignore",
        /// They are files like any other.
        Take = "take",
    }
}

words! {
    /// Whether a file is taken that has other names too (hard links).
    HardLinks {
        /// It is: its output has its owner and its mode, and its other names stay.
        Take = "take",
        /// It is left alone.
        Refuse = "refuse",
    }
}

words! {
    /// Whose files are taken.
    Owners {
        /// Everyone's.
        Any = "any",
        /// Those of the input directory's owner; others are left alone.
        Same = "same",
    }
}

/// Which files are trusted, by what the file system tells of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRules {
    pub hard_links: HardLinks,
    pub owners: Owners,
}

impl SourceRules {
    /// Why a file with so many names, of this owner, is left alone in an input of that owner.
    #[must_use]
    pub fn refuses(self, names: u64, owner: u32, input_owner: u32) -> Option<String> {
        if self.hard_links == HardLinks::Refuse && names > 1 {
            return Some(format!(
                "it has {names} names, and the policy is `hard_links = \"refuse\"`"
            ));
        }
        (self.owners == Owners::Same && owner != input_owner).then(|| {
            format!(
                "its owner is {owner}, the input's is {input_owner}, and the policy is `owners = \"same\"`"
            )
        })
    }
}

words! {
    /// What the kernel keeps the process from.
    Sandbox {
        /// All but its own directories and port, as far as the kernel can.
        BestEffort = "best-effort",
        /// The same, and no start where the kernel cannot hold all of it.
        Require = "require",
        /// Nothing.
        Off = "off",
    }
}

words! {
    /// How log lines look.
    LogFormat { Text = "text", Json = "json" }
}

/// When a file counts as finished by its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// When the kernel says that nobody writes it; where it cannot say, after
    /// [`crate::limits::QUIET_TIME`] without a change. A file that was written in its place is
    /// taken a short time after its close ([`crate::limits::CLOSED_QUIET_TIME`]), one that was renamed
    /// to its name at once.
    Auto,
    /// When nobody writes it, and unchanged for at least this long: with 0 s, at its close.
    Quiet(Duration),
}

/// What a transform that decompresses may produce, against archives made to fill a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpansionLimits {
    /// Bytes of output of one file.
    pub output_bytes: u64,
    /// Output bytes for each byte of the source, over the whole chain of transforms, beyond the first MiB
    /// of output.
    pub ratio: u64,
    /// Memory that one decoder may ask for: its window or its dictionary.
    pub decoder_bytes: u64,
}

/// Where traces are sent to, as OTLP over HTTP, and of which files.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    pub address: SocketAddr,
    /// What comes before `/v1/traces` in the URL: nothing, or a path that begins with `/`.
    pub base: String,
    /// Of all files, from 0 to 1.
    pub sampling: f64,
    /// Whether a span names its file.
    pub paths: bool,
}

impl fmt::Display for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.address, self.base)
    }
}
