//! A chain that runs, driven synchronously on the caller's thread.
//!
//! The caller pushes bytes in, and the output goes to a [`Sink`]. At most one buffer lies between two
//! transforms, so the memory does not depend on the size of a file. A [`Transformer`] is reused for
//! file after file: creating a zstd context costs as much as compressing a small file.

use std::{fmt, path::Path, sync::Arc};

use super::{Chain, Error, FileInfo, Sink, Transform};
use crate::policy::ExpansionLimits;

/// A running chain. Dropping it frees its transforms; an unfinished file leaves nothing behind.
#[derive(Debug)]
pub struct Transformer {
    chain: Chain,
    running: Vec<Running>,
    /// Bytes of the file fed so far.
    source_bytes: u64,
}

/// One transform of the chain.
struct Running {
    /// Its notation, for errors.
    notation: Arc<str>,
    transform: Box<dyn Transform>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notation.fmt(f)
    }
}

impl Transformer {
    /// Creates the transforms. `threads` is the number of worker threads for each transform that
    /// supports them (zstd, gzip). 0 runs on the caller's thread, for inputs of at most
    /// [`limits::SMALL_FILE_MAX_BYTES`](crate::limits::SMALL_FILE_MAX_BYTES). The output is the same for
    /// every number from 1 on; for zstd and xz it differs from that of 0.
    pub fn new(chain: &Chain, limits: ExpansionLimits, threads: u32) -> Result<Self, Error> {
        let mut running = Vec::new();
        for spec in chain.specs() {
            let notation: Arc<str> = spec.to_string().into();
            let transform = spec.start(limits, threads);
            let transform = transform.map_err(|cause| Error::from(cause).of(&notation))?;
            running.push(Running { notation, transform });
        }
        Ok(Self { chain: chain.clone(), running, source_bytes: 0 })
    }

    /// Starts a file, whether or not the previous one was finished. `source` is its path below the input.
    pub fn start(&mut self, source: &Path) {
        self.source_bytes = 0;
        for (index, running) in self.running.iter_mut().enumerate() {
            let before = self.chain.specs().get(..index).unwrap_or_default();
            running.transform.start(&FileInfo { source, before });
        }
    }

    /// Feeds the next bytes of the file. After an error only [`Self::start`] is valid.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Error> {
        self.source_bytes += bytes.len() as u64;
        for running in &mut self.running {
            running.transform.set_source_bytes(self.source_bytes);
        }
        push(&mut self.running, bytes, sink)
    }

    /// Ends the file and sends the rest of the output.
    pub fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let mut chain = &mut self.running[..];
        while let Some((Running { notation, transform }, rest)) = chain.split_first_mut() {
            let result = transform.finish(&mut |bytes| push(rest, bytes, sink));
            result.map_err(|error| error.of(notation))?;
            chain = rest;
        }
        Ok(())
    }
}

/// Pushes bytes through these transforms into the sink.
fn push(chain: &mut [Running], bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Error> {
    match chain.split_first_mut() {
        None => Ok(sink.put(bytes)?),
        Some((Running { notation, transform }, rest)) => {
            let result = transform.feed(bytes, &mut |bytes| push(rest, bytes, sink));
            result.map_err(|error| error.of(notation))
        }
    }
}
