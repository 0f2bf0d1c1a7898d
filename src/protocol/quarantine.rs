//! Quarantine: files that failed for good, each with a reason file next to it, for the operator.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    config, error,
    fingerprint::Fingerprint,
    observe::{display_path, shell_quoted},
    reason::{Reason, ReasonCode},
    source::{Result, Source},
    stage::Stage,
};

/// The JSON record next to a quarantined file.
#[derive(Serialize)]
struct ReasonFile<'a> {
    pipeline: &'a str,
    source: String,
    stage: Stage,
    reason_code: ReasonCode,
    error: &'a str,
    attempts: u32,
    at: String,
    /// The path of the file, if it was moved to quarantine.
    moved_to: Option<String>,
    identity: Fingerprint,
    transforms: String,
    /// BLAKE3 of the pipeline's resolved configuration.
    config_hash: String,
    requeue: String,
}

/// Checks whether another process took a slot after it was found free: another one is free.
#[must_use]
pub fn is_slot_taken(error: &io::Error) -> bool {
    error::target_error(error).is_some_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
}

/// Checks whether a reason file was written for the file with this identity.
#[must_use]
pub fn is_reason_of(text: &[u8], identity: &Fingerprint) -> bool {
    #[derive(serde::Deserialize)]
    struct ReasonIdentity {
        identity: StoredIdentity,
    }
    #[derive(serde::Deserialize)]
    struct StoredIdentity {
        inode: u64,
        size: u64,
        mtime_ns: i64,
    }
    serde_json::from_slice(text).is_ok_and(|reason: ReasonIdentity| {
        let StoredIdentity { inode, size, mtime_ns } = reason.identity;
        (inode, size, mtime_ns) == (identity.inode, identity.size, identity.mtime_ns)
    })
}

/// A file that goes to quarantine, and the reason.
#[derive(Clone, Copy, Debug)]
pub struct QuarantineEntry<'a> {
    pub config: &'a config::Pipeline,
    /// The source's path, relative to the input.
    pub path: &'a Path,
    pub identity: Fingerprint,
    pub stage: Stage,
    pub reason: &'a Reason,
    pub attempts: u32,
}

impl QuarantineEntry<'_> {
    fn source_path(&self) -> PathBuf {
        self.config.input.join(self.path)
    }

    /// Returns the full path of a free slot. A reason file that was written for this same source, and
    /// has no file next to it, is replaced.
    pub fn find_slot(&self, input: &dyn Source) -> Result<PathBuf> {
        input.quarantine_slot(&self.config.quarantine, self.path, &self.is_ours())
    }

    /// Returns the check whether a reason file was written for this same source.
    fn is_ours(&self) -> impl Fn(&[u8]) -> bool {
        #[derive(serde::Deserialize)]
        struct ReasonSource {
            source: String,
            config_hash: String,
        }
        let source = display_path(&self.source_path()).to_string();
        move |text| {
            serde_json::from_slice(text).is_ok_and(|reason: ReasonSource| {
                reason.source == source && reason.config_hash.len() == 2 * blake3::OUT_LEN
            })
        }
    }

    /// Writes the reason file of a slot, atomically and durably, unless the slot was taken since.
    pub fn write_reason(
        &self,
        input: &dyn Source,
        slot: &Path,
        moved_to: Option<&Path>,
    ) -> Result<()> {
        input.write_reason(slot, &self.content(moved_to), &self.is_ours())
    }

    fn content(&self, moved_to: Option<&Path>) -> Vec<u8> {
        let Self { config, identity, stage, reason, attempts, .. } = *self;
        let source = display_path(&self.source_path()).to_string();
        let reason = ReasonFile {
            pipeline: &config.name,
            stage,
            reason_code: reason.code,
            error: &reason.text,
            attempts,
            at: jiff::Timestamp::now().to_string(),
            moved_to: moved_to.map(|path| display_path(path).to_string()),
            identity,
            transforms: config.transforms.to_string(),
            config_hash: blake3::hash(format!("{config:?}").as_bytes()).to_hex().to_string(),
            requeue: format!("tidemill requeue {}", shell_quoted(&self.source_path())),
            source,
        };
        // JSON can hold all of it: strings and numbers only.
        let mut text = serde_json::to_vec_pretty(&reason).unwrap_or_default();
        text.push(b'\n');
        text
    }
}
