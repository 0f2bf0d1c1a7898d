//! The choices of a pipeline's configuration, with the words of the command line.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

/// What happens to a source once its output is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnSuccess {
    /// It stays in the input; the ledger records that it was processed.
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
            _ if matches!(text, "archive" | "archive:") => {
                Err("`archive` needs a directory: write `archive:DIR`".to_owned())
            }
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

/// An enum whose variants are words.
pub trait Words: FromStr<Err = String> + fmt::Debug + Copy + PartialEq + 'static {
    const WORDS: &'static [&'static str];
    const ALL: &'static [Self];

    fn word(self) -> &'static str;
}

/// Declares an enum whose variants are words, with `FromStr` and `Display`.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            pub const WORDS: &'static [&'static str] = &[$($word),+];
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl $crate::policy::Words for $name {
            const WORDS: &'static [&'static str] = Self::WORDS;
            const ALL: &'static [Self] = Self::ALL;

            fn word(self) -> &'static str {
                self.as_str()
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

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let word = std::borrow::Cow::<str>::deserialize(deserializer)?;
                word.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use words;

words! {
    /// The event upon which a user's hook is run.
    HookKind {
        /// The service is ready.
        OnStart = "on_start",
        /// Outputs were acknowledged.
        OnPublished = "on_published",
        /// Files went to quarantine.
        OnFailed = "on_failed",
        /// No file came to a pipeline for as long as `expect` states.
        OnOverdue = "on_overdue",
        /// The drain is over, and the process is about to end.
        OnDrained = "on_drained",
    }
}

words! {
    /// Which checksum file an output gets.
    Checksum {
        /// None.
        Off = "off",
        /// `NAME.sha256`, as `sha256sum -c` reads it.
        Sha256 = "sha256",
    }
}

words! {
    /// What happens when the final name is taken.
    OnExists {
        /// Replace an unchanged output that this source published before; otherwise as `fail`.
        Update = "update",
        /// Quarantine the source.
        Fail = "fail",
        /// Replace the existing file.
        Replace = "replace",
        /// Publish next to it, as `NAME.1`, `NAME.2`, … before the extension that the transforms added.
        Suffix = "suffix",
        /// Keep the existing file; the source counts as processed.
        Skip = "skip",
    }
}

words! {
    /// How an output is made durable before it is published.
    Durability {
        /// `fsync` of each file, concurrently; or one `syncfs` for many, if few other pages are dirty.
        Fsync = "fsync",
        /// One `syncfs` for each batch, however much other programs write: for a dedicated file system.
        Syncfs = "syncfs",
        /// No sync: a power loss may undo published outputs. A kill cannot.
        None = "none",
    }
}

words! {
    /// What happens to files with the temporary names that producers give to unfinished files.
    TemporaryNames {
        /// They are skipped, and so are all files below a directory with such a name.
        Ignore = "ignore",
        /// They are files like any other.
        Take = "take",
    }
}

words! {
    /// The order in which files that are ready begin.
    Order {
        /// As they were found; small files overtake large ones.
        None = "none",
        /// By the path below the input, compared byte by byte.
        Name = "name",
        /// The one that was modified first.
        Oldest = "oldest",
        /// The one that was modified last.
        Newest = "newest",
        Smallest = "smallest",
        Largest = "largest",
    }
}

words! {
    /// Whether a file with several names (hard links) is taken.
    HardLinks {
        /// It is taken: the output gets its owner and its mode, and its other names stay.
        Take = "take",
        /// It is skipped.
        Refuse = "refuse",
    }
}

words! {
    /// The owners whose files are taken.
    Owners {
        /// Any owner.
        Any = "any",
        /// The owner of the input directory; files of others are skipped.
        Same = "same",
    }
}

/// The rules by which a source's metadata allow it to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRules {
    pub hard_links: HardLinks,
    pub owners: Owners,
    /// In bytes.
    pub size_min: u64,
    pub size_max: Option<u64>,
}

impl SourceRules {
    /// Returns the reason to skip a file of this size with this number of names and this owner, if
    /// there is one.
    #[must_use]
    pub fn skip_reason(
        self,
        (size, names): (u64, u64),
        (owner, input_owner): (u32, u32),
    ) -> Option<String> {
        if size < self.size_min {
            let min = self.size_min;
            return Some(format!("it has {size} bytes, and `min_size` is {min}"));
        }
        if let Some(max) = self.size_max.filter(|max| size > *max) {
            return Some(format!("it has {size} bytes, and `max_size` is {max}"));
        }
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
    /// The kernel's restrictions on the process.
    Sandbox {
        /// Only its own directories and port are accessible, as far as the kernel supports it.
        BestEffort = "best-effort",
        /// The same, and the service does not start if the kernel cannot enforce all of it.
        Require = "require",
        /// No restriction.
        Off = "off",
    }
}

words! {
    /// The format of log lines.
    LogFormat { Text = "text", Json = "json" }
}

/// When a file counts as finished by its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// When the kernel reports no writer; if it cannot report writers, after
    /// [`crate::limits::QUIET_TIME`] without a change. A file that was written under its final name is
    /// taken a short time after its close ([`crate::limits::CLOSED_QUIET_TIME`]), one that was renamed
    /// to its name at once.
    Auto,
    /// When it has no writer and did not change for at least this time: with 0 s, at its close.
    Quiet(Duration),
}

/// The limits of a decompression, against archives made to fill a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpansionLimits {
    /// Bytes of output of one file.
    pub output_bytes: u64,
    /// Output bytes for each byte of the source, over the entire chain of transforms, beyond the first
    /// MiB of output.
    pub ratio: u64,
    /// Bytes that one decoder may request: its window or its dictionary.
    pub decoder_bytes: u64,
}

/// The receiver of traces, as OTLP over HTTP, and the traced files.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    pub address: SocketAddr,
    /// The part of the URL before `/v1/traces`: empty, or a path that begins with `/`.
    pub base: String,
    /// The share of traced files, from 0 to 1.
    pub sampling: f64,
    /// Whether a span names its file.
    pub paths: bool,
}

impl fmt::Display for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.address, self.base)
    }
}
