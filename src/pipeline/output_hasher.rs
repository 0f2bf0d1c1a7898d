//! The hashes of an output, computed while its bytes pass.

use sha2::Digest;

use crate::{
    ledger::{Hash, Sha256},
    policy::Checksum,
};

/// The hashes of a source and of its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// BLAKE3, as [`Self::output`].
    pub source: Hash,
    pub output: Hash,
    /// For the checksum file; `None` without one.
    pub sha256: Option<Sha256>,
}

/// Hashes an output piece by piece: always with BLAKE3, and with SHA-256 for a checksum file.
#[derive(Clone, Debug)]
pub struct OutputHasher {
    blake3: blake3::Hasher,
    sha256: Option<sha2::Sha256>,
}

impl OutputHasher {
    #[must_use]
    pub fn new(checksum: Checksum) -> Self {
        let sha256 = match checksum {
            Checksum::Off => None,
            Checksum::Sha256 => Some(sha2::Sha256::new()),
        };
        Self { blake3: blake3::Hasher::new(), sha256 }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.blake3.update(bytes);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
    }

    /// Returns both hashes of everything so far.
    #[must_use]
    pub fn finish(self) -> (Hash, Option<Sha256>) {
        (*self.blake3.finalize().as_bytes(), self.sha256.map(|sha256| sha256.finalize().into()))
    }
}
