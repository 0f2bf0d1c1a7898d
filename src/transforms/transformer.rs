//! A chain that runs, driven synchronously on the caller's thread.
//!
//! The caller pushes bytes in, and the output goes to a [`Receiver`]. At most one buffer lies between two
//! transforms, so the memory does not depend on the size of a file. A [`Transformer`] is reused for
//! file after file: creating a zstd context costs as much as compressing a small file.

use std::path::Path;

use super::{
    Chain, Error, FileInfo, Receiver,
    running::{Running, push, running},
    verifier::{Verified, Verifier},
};
use crate::policy::ExpansionLimits;

/// A running chain. Dropping it frees its transforms; an unfinished file leaves nothing behind.
#[derive(Debug)]
pub struct Transformer {
    chain: Chain,
    running: Vec<Running>,
    /// Bytes of the file fed so far.
    source_bytes: u64,
    /// Decodes the output, if it is to be compared with the source.
    verifier: Option<Verifier>,
    /// An output did not decode to its source.
    is_suspect: bool,
}

impl Transformer {
    /// Creates the transforms. `threads` is the number of worker threads for each transform that
    /// supports them (zstd, gzip). 0 runs on the caller's thread, for inputs of at most
    /// [`limits::SMALL_FILE_MAX_BYTES`](crate::limits::SMALL_FILE_MAX_BYTES). The output is the same for
    /// every number from 1 on; for zstd and xz it differs from that of 0.
    pub fn new(chain: &Chain, limits: ExpansionLimits, threads: u32) -> Result<Self, Error> {
        let specs = chain.specs().iter();
        let running =
            specs.map(|spec| running(&**spec, limits, threads)).collect::<Result<_, _>>()?;
        Ok(Self {
            chain: chain.clone(),
            running,
            source_bytes: 0,
            verifier: None,
            is_suspect: false,
        })
    }

    /// Decodes each output, so that [`Self::verify`] can compare it with its source.
    pub fn with_verifier(mut self) -> Result<Self, Error> {
        self.verifier = Some(Verifier::new(&self.chain)?);
        Ok(self)
    }

    /// Checks that the finished output decodes to a source with this hash, if the transformer has a verifier.
    pub fn verify(&mut self, source: &[u8; 32]) -> Result<(), Error> {
        let verified = self.verifier.as_mut().map_or(Ok(()), |verifier| verifier.finish(source));
        self.is_suspect |= verified.is_err();
        verified
    }

    /// Checks whether it decodes its outputs.
    #[must_use]
    pub const fn verifies(&self) -> bool {
        self.verifier.is_some()
    }

    /// Checks whether an output did not decode to its source: its memory may be at fault.
    #[must_use]
    pub const fn is_suspect(&self) -> bool {
        self.is_suspect
    }

    /// Starts a file, whether or not the previous one was finished. `source` is its path below the input.
    pub fn start(&mut self, source: &Path) {
        self.source_bytes = 0;
        if let Some(verifier) = &mut self.verifier {
            verifier.start();
        }
        for (index, running) in self.running.iter_mut().enumerate() {
            let before = self.chain.specs().get(..index).unwrap_or_default();
            running.start(&FileInfo { source, before });
        }
    }

    /// Feeds the next bytes of the file. After an error only [`Self::start`] is valid.
    pub fn feed(&mut self, bytes: &[u8], receiver: &mut dyn Receiver) -> Result<(), Error> {
        self.source_bytes += bytes.len() as u64;
        for running in &mut self.running {
            running.set_source_bytes(self.source_bytes);
        }
        self.with_receiver(receiver, |running, receiver| push(running, bytes, receiver))
    }

    /// Ends the file and sends the rest of the output.
    pub fn finish(&mut self, receiver: &mut dyn Receiver) -> Result<(), Error> {
        self.with_receiver(receiver, |mut chain, receiver| {
            while let Some((first, rest)) = chain.split_first_mut() {
                first.finish(rest, receiver)?;
                chain = rest;
            }
            Ok(())
        })
    }

    /// Calls `work` with the transforms and the receiver of their output.
    fn with_receiver<T>(
        &mut self,
        receiver: &mut dyn Receiver,
        work: impl FnOnce(&mut [Running], &mut dyn Receiver) -> T,
    ) -> T {
        match &mut self.verifier {
            None => work(&mut self.running, receiver),
            Some(verifier) => work(&mut self.running, &mut Verified { receiver, verifier }),
        }
    }
}
