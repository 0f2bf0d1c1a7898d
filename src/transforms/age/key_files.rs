//! Files with recipients or identities, and why one cannot be used.

use std::{fs, io, os::unix::fs::MetadataExt, path::PathBuf};

use crate::{display_path::display_path, error, transforms::FailureCause};

/// A key file, as it was when the configuration was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    pub path: PathBuf,
    /// Device, inode, size, and the times of content and attributes; `None` if it could not be looked at.
    version: Option<[i128; 5]>,
}

impl KeyFile {
    /// Looks at a file. Blocks while its file system does not respond.
    #[must_use]
    pub fn look(path: PathBuf) -> Self {
        let version = fs::metadata(&path).ok().map(|found| {
            let time = |seconds: i64, nanos: i64| i128::from(seconds) << 32 | i128::from(nanos);
            [
                found.dev().into(),
                found.ino().into(),
                found.len().into(),
                time(found.mtime(), found.mtime_nsec()),
                time(found.ctime(), found.ctime_nsec()),
            ]
        });
        Self { path, version }
    }

    /// Names a file that was not looked at.
    #[must_use]
    pub const fn unseen(path: PathBuf) -> Self {
        Self { path, version: None }
    }
}

/// Why keys cannot be used. No text has a part of a file's content.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the key file {}", display_path(path))]
    Read { path: PathBuf, source: io::Error },
    #[error("the key file {} is not a file", display_path(path))]
    NotFile { path: PathBuf },
    #[error(
        "others may read or write the identity file {}: its mode is {mode:04o}; hint: chmod 600 it",
        display_path(path)
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("line {line} of {} is not {what}", display_path(path))]
    Malformed { path: PathBuf, line: usize, what: &'static str },
    #[error("cannot use the key file {}: {reason}", display_path(path))]
    NoIdentities { path: PathBuf, reason: String },
    #[error("{} has no key", display_path(path))]
    Empty { path: PathBuf },
    #[error("`{0}` is not a recipient")]
    NotRecipient(String),
    #[error("`age` has no recipients")]
    NoRecipients,
    #[error("{0} recipients are more than a header can have: {max}", max = crate::limits::AGE_RECIPIENTS_MAX)]
    TooMany(usize),
    #[error("`unage` has no `identity_file`")]
    NoIdentity,
    #[error("this program was built without the feature `age`")]
    NotCompiledIn,
}

impl KeyError {
    /// Checks whether the file may become readable without a change of the configuration: it exists.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() != io::ErrorKind::NotFound)
    }
}

impl KeyError {
    /// Returns the failure of a file that needs the keys, with all causes on one line.
    pub fn into_cause(self) -> FailureCause {
        match self {
            Self::NotCompiledIn => FailureCause::NotCompiledIn("age"),
            error => FailureCause::KeysUnavailable(error::chain(&error)),
        }
    }
}

#[cfg(not(feature = "age"))]
pub type Recipients = std::convert::Infallible;
#[cfg(not(feature = "age"))]
pub type Identities = std::convert::Infallible;

/// Accepts everything: a build without the feature reports the whole table.
#[cfg(not(feature = "age"))]
pub const fn parse_recipient(_: &str) -> Result<(), KeyError> {
    Ok(())
}

#[cfg(feature = "age")]
pub use self::reading::{
    Identities, Recipients, parse_recipient, read_identities, read_recipients,
};

#[cfg(feature = "age")]
mod reading {
    use std::{
        fmt,
        fs::{File, OpenOptions},
        io::{self, BufReader, Read},
        ops::Deref,
        os::unix::fs::{MetadataExt, OpenOptionsExt},
        path::Path,
    };

    use age::{IdentityFile, x25519::Recipient};

    use super::KeyError;
    use crate::limits::AGE_KEY_FILE_BYTES_MAX;

    pub type Recipients = Vec<Recipient>;

    /// The identities of a file. Dropping them clears the secrets.
    pub struct Identities {
        all: Vec<Box<dyn age::Identity + Send + Sync>>,
        /// Their recipients.
        public: Vec<String>,
    }

    impl Identities {
        /// Checks whether one of them is of one of these recipients.
        pub fn fit(&self, recipients: &Recipients) -> bool {
            recipients.iter().any(|recipient| self.public.contains(&recipient.to_string()))
        }
    }

    impl Deref for Identities {
        type Target = [Box<dyn age::Identity + Send + Sync>];

        fn deref(&self) -> &Self::Target {
            &self.all
        }
    }

    impl fmt::Debug for Identities {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Identities").field("public", &self.public).finish_non_exhaustive()
        }
    }

    pub fn parse_recipient(text: &str) -> Result<Recipient, KeyError> {
        // A secret key that was written here by mistake is not repeated.
        let shown = || {
            if text.starts_with("age1") {
                text.escape_debug().to_string()
            } else {
                "…".to_owned()
            }
        };
        text.parse().map_err(|_| KeyError::NotRecipient(shown()))
    }

    /// Opens a key file and checks its mode, if others may not read it. Blocks while its file system does
    /// not respond.
    fn open(path: &Path, is_secret: bool) -> Result<impl Read, KeyError> {
        let failed = |source| KeyError::Read { path: path.into(), source };
        // A pipe in its place is reported, and not waited for.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file: File = opened.map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(KeyError::NotFile { path: path.into() });
        }
        let mode = metadata.mode() & 0o7777;
        if is_secret && mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.into(), mode });
        }
        if metadata.len() > AGE_KEY_FILE_BYTES_MAX {
            let source = io::Error::from(io::ErrorKind::FileTooLarge);
            return Err(KeyError::Read { path: path.into(), source });
        }
        Ok(file.take(AGE_KEY_FILE_BYTES_MAX))
    }

    /// Reads a file with a recipient on each line; lines that begin with `#` are comments.
    pub fn read_recipients(path: &Path) -> Result<Recipients, KeyError> {
        let mut text = String::new();
        let read = open(path, false)?.read_to_string(&mut text);
        read.map_err(|source| KeyError::Read { path: path.into(), source })?;
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let recipient = |(index, line): (usize, &str)| {
            let (line, path) = (line.parse(), path.into());
            line.map_err(|_| KeyError::Malformed { path, line: index + 1, what: "a recipient" })
        };
        let recipients = lines.map(recipient).collect::<Result<Recipients, _>>()?;
        if recipients.is_empty() {
            return Err(KeyError::Empty { path: path.into() });
        }
        Ok(recipients)
    }

    /// Reads a file of `age-keygen`: an identity on each line; lines that begin with `#` are comments.
    pub fn read_identities(path: &Path) -> Result<Identities, KeyError> {
        let failed = |source| KeyError::Read { path: path.into(), source };
        let file = IdentityFile::from_buffer(BufReader::new(open(path, true)?));
        // Its text has the number of the line, and nothing else of the file.
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => {
                KeyError::NoIdentities { path: path.into(), reason: error.to_string() }
            }
            _ => failed(error),
        })?;
        let mut public = Vec::new();
        if file.write_recipients_file(&mut public).is_err() {
            return Err(KeyError::Empty { path: path.into() });
        }
        let public = String::from_utf8_lossy(&public).lines().map(str::to_owned).collect();
        let all = file.into_identities();
        let all = all.map_err(|_| KeyError::Empty { path: path.into() })?;
        Ok(Identities { all, public })
    }
}
