//! `age` encrypts to the recipients of `[age]`, and `unage` decrypts with its identities: the format of
//! <https://c2sp.org/age>, with X25519 keys.
//!
//! Each encryption has a new random key, so two outputs of one file differ. After the intent recovery
//! publishes the staged output, and never a second encryption.
//!
//! A secret is only in the memory of a running decryption: errors, the log and the configuration have the
//! path of its file.

#[cfg(feature = "age")]
mod decrypt;
#[cfg(feature = "age")]
mod encrypt;
mod key_files;
mod keys;

use std::{fmt, sync::Arc};

use super::{
    Effect, FailureCause, Kind, Spec, Transform, compression::strip_extension, without_options,
};
use crate::{limits, policy::ExpansionLimits};

pub use self::{
    key_files::{KeyError, KeyFile, parse_recipient},
    keys::AgeKeys,
};

pub const KIND: Kind = Kind {
    words: &["age", "unage"],
    parse: |word, options| match word {
        "age" => without_options(word, options, Encrypt { keys: None }),
        _ => without_options(word, options, Decrypt { keys: None, verifies: false }),
    },
};

/// The extension of encrypted files, without the dot.
pub const EXTENSION: &str = "age";

/// Plaintext in one part of an encrypted file, which is encrypted and authenticated as a whole.
const PART_BYTES: usize = 64 * 1024;

/// Memory of a running transform in bytes: a header, two parts, and the buffers before and after them.
const MEMORY_BYTES: u64 = (limits::AGE_HEADER_BYTES_MAX + 6 * PART_BYTES) as u64;

/// The transform `age`, as it is configured.
#[derive(Debug)]
struct Encrypt {
    /// `None` before the chain is resolved.
    keys: Option<Arc<AgeKeys>>,
}

impl fmt::Display for Encrypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("age")
    }
}

impl Spec for Encrypt {
    fn effect(&self) -> Effect {
        Effect::Encrypts
    }

    fn output_name(&self, mut input: Vec<u8>) -> Vec<u8> {
        input.push(b'.');
        input.extend_from_slice(EXTENSION.as_bytes());
        input
    }

    fn memory_bytes(&self, _: u32, _: u64) -> u64 {
        MEMORY_BYTES
    }

    /// Returns the decryption, if there is an identity. A recipient's identity is not always where files
    /// are encrypted.
    fn inverse(&self) -> Option<Arc<dyn Spec>> {
        let keys = self.keys.as_ref().filter(|keys| keys.identity_file().is_some())?;
        Some(Arc::new(Decrypt { keys: Some(Arc::clone(keys)), verifies: true }))
    }

    fn start(&self, _: ExpansionLimits, _: u32) -> Result<Box<dyn Transform>, FailureCause> {
        let keys = self.keys.as_ref().ok_or(KeyError::NoRecipients);
        let recipients = keys.and_then(|keys| keys.recipients()).map_err(KeyError::into_cause)?;
        #[cfg(feature = "age")]
        return Ok(Box::new(encrypt::Encryptor::new(recipients)));
        #[cfg(not(feature = "age"))]
        match *recipients {}
    }

    /// Returns the notation with a hash of the recipients: whom an output is for is a difference.
    fn recorded(&self) -> String {
        match &self.keys {
            Some(keys) => format!("{self}@{}", keys.recipients_hash()),
            None => self.to_string(),
        }
    }

    fn with_keys(&self, keys: &Arc<AgeKeys>) -> Option<Arc<dyn Spec>> {
        Some(Arc::new(Self { keys: Some(Arc::clone(keys)) }))
    }
}

/// The transform `unage`, as it is configured.
#[derive(Debug)]
struct Decrypt {
    /// `None` before the chain is resolved.
    keys: Option<Arc<AgeKeys>>,
    /// Whether it decrypts what the same chain encrypted: an identity that does not fit is then no fault
    /// of the file.
    verifies: bool,
}

impl fmt::Display for Decrypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unage")
    }
}

impl Spec for Decrypt {
    fn effect(&self) -> Effect {
        Effect::Decrypts
    }

    fn output_name(&self, input: Vec<u8>) -> Vec<u8> {
        strip_extension(&input, EXTENSION).map(<[u8]>::to_vec).unwrap_or(input)
    }

    fn memory_bytes(&self, _: u32, _: u64) -> u64 {
        MEMORY_BYTES
    }

    fn start(&self, _: ExpansionLimits, _: u32) -> Result<Box<dyn Transform>, FailureCause> {
        let keys = self.keys.as_ref().ok_or(KeyError::NoIdentity);
        let identities = keys.and_then(|keys| keys.identities()).map_err(KeyError::into_cause)?;
        #[cfg(feature = "age")]
        return Ok(Box::new(decrypt::Decryptor::new(identities, self.verifies)));
        #[cfg(not(feature = "age"))]
        match *identities {}
    }

    fn with_keys(&self, keys: &Arc<AgeKeys>) -> Option<Arc<dyn Spec>> {
        Some(Arc::new(Self { keys: Some(Arc::clone(keys)), verifies: self.verifies }))
    }
}

#[cfg(test)]
#[cfg(feature = "age")]
pub(super) mod tests;
