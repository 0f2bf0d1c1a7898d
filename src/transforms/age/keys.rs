//! The recipients and identities of `[age]`, and their files.
//!
//! A file is read when its keys are needed for the first time, and again after a reload that found another
//! one. Until it can be read, its pipelines pause. A file that is replaced in several steps is so never used
//! half-written.

use std::{fmt, path::Path, sync::Arc};

use super::key_files::{Identities, KeyError, KeyFile, Recipients};
#[cfg(feature = "age")]
use super::key_files::{parse_recipient, read_identities, read_recipients};
#[cfg(feature = "age")]
use crate::{limits::AGE_RECIPIENTS_MAX, sync::Mutex};

/// The table `[age]`: public keys, and paths. Equal ones have the same recipients and unchanged files.
#[derive(Default)]
pub struct AgeKeys {
    /// The recipients of the configuration, `age1…`.
    listed: Vec<String>,
    recipients_file: Option<KeyFile>,
    identity_file: Option<KeyFile>,
    /// All recipients; `None` until their file could be read.
    #[cfg(feature = "age")]
    recipients: Mutex<Option<Arc<Recipients>>>,
    #[cfg(feature = "age")]
    identities: Mutex<Option<Arc<Identities>>>,
}

impl PartialEq for AgeKeys {
    fn eq(&self, other: &Self) -> bool {
        let keys = |keys: &Self| {
            let Self { listed, recipients_file, identity_file, .. } = keys;
            (listed.clone(), recipients_file.clone(), identity_file.clone())
        };
        keys(self) == keys(other)
    }
}

impl Eq for AgeKeys {}

/// Without the keys that were read.
impl fmt::Debug for AgeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgeKeys")
            .field("listed", &self.listed)
            .field("recipients_file", &self.recipients_file)
            .field("identity_file", &self.identity_file)
            .finish_non_exhaustive()
    }
}

impl AgeKeys {
    #[must_use]
    pub fn new(
        listed: Vec<String>,
        recipients_file: Option<KeyFile>,
        identity_file: Option<KeyFile>,
    ) -> Self {
        Self { listed, recipients_file, identity_file, ..Self::default() }
    }

    /// Returns the recipients that the configuration lists.
    #[must_use]
    pub fn listed(&self) -> &[String] {
        &self.listed
    }

    #[must_use]
    pub fn recipients_file(&self) -> Option<&Path> {
        self.recipients_file.as_ref().map(|file| &*file.path)
    }

    #[must_use]
    pub fn identity_file(&self) -> Option<&Path> {
        self.identity_file.as_ref().map(|file| &*file.path)
    }

    /// Returns the files that a reload reads again.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.recipients_file().into_iter().chain(self.identity_file())
    }

    /// Checks whether there is nothing to encrypt to.
    #[must_use]
    pub fn has_no_recipients(&self) -> bool {
        self.listed.is_empty() && self.recipients_file.is_none()
    }
}

#[cfg(feature = "age")]
impl AgeKeys {
    /// Returns the recipients of the configuration and of their file, which is read if it was not yet.
    /// Blocks while its file system does not respond.
    pub fn recipients(&self) -> Result<Arc<Recipients>, KeyError> {
        let mut known = self.recipients.lock();
        if let Some(recipients) = &*known {
            return Ok(Arc::clone(recipients));
        }
        let listed = self.listed.iter().map(|text| parse_recipient(text));
        let mut all = listed.collect::<Result<Recipients, _>>()?;
        if let Some(path) = self.recipients_file() {
            all.extend(read_recipients(path)?);
        }
        match all.len() {
            0 => Err(KeyError::NoRecipients),
            count if count > AGE_RECIPIENTS_MAX => Err(KeyError::TooMany(count)),
            _ => Ok(Arc::clone(known.insert(Arc::new(all)))),
        }
    }

    /// Returns the identities of their file, which is read if it was not yet. Blocks while its file system
    /// does not respond.
    pub fn identities(&self) -> Result<Arc<Identities>, KeyError> {
        let mut known = self.identities.lock();
        if let Some(identities) = &*known {
            return Ok(Arc::clone(identities));
        }
        let path = self.identity_file().ok_or(KeyError::NoIdentity)?;
        Ok(Arc::clone(known.insert(Arc::new(read_identities(path)?))))
    }

    /// Checks that the file of identities can be used. Keeps no secret. Blocks while its file system does
    /// not respond.
    pub fn check_identities(&self) -> Result<(), KeyError> {
        let path = self.identity_file().ok_or(KeyError::NoIdentity)?;
        read_identities(path).map(drop)
    }

    /// Checks whether an identity can decrypt what is encrypted. Keeps no secret. Blocks while a file system
    /// of the key files does not respond.
    pub fn has_fitting_identity(&self) -> Result<bool, KeyError> {
        let path = self.identity_file().ok_or(KeyError::NoIdentity)?;
        Ok(read_identities(path)?.fit(&*self.recipients()?))
    }

    /// Returns a hash of the recipients: of all, or of those of the configuration until the others are known.
    #[must_use]
    pub fn recipients_hash(&self) -> String {
        let known = self.recipients.lock().clone();
        let mut texts = match known {
            Some(recipients) => recipients.iter().map(ToString::to_string).collect(),
            None => self.listed.clone(),
        };
        texts.sort();
        texts.dedup();
        let hash = blake3::hash(texts.join("\n").as_bytes());
        hash.to_hex().chars().take(8).collect()
    }
}

#[cfg(not(feature = "age"))]
impl AgeKeys {
    pub fn recipients(&self) -> Result<Arc<Recipients>, KeyError> {
        Err(KeyError::NotCompiledIn)
    }

    pub fn identities(&self) -> Result<Arc<Identities>, KeyError> {
        Err(KeyError::NotCompiledIn)
    }

    pub fn check_identities(&self) -> Result<(), KeyError> {
        Err(KeyError::NotCompiledIn)
    }

    pub fn has_fitting_identity(&self) -> Result<bool, KeyError> {
        Err(KeyError::NotCompiledIn)
    }

    #[must_use]
    pub fn recipients_hash(&self) -> String {
        String::new()
    }
}
