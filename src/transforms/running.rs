//! The transforms of a chain that run, one behind the other.

use std::{fmt, sync::Arc};

use super::{Error, FileInfo, Receiver, Spec, Transform};
use crate::policy::ExpansionLimits;

/// One transform of the chain.
pub struct Running {
    /// Its notation, for errors.
    notation: Arc<str>,
    transform: Box<dyn Transform>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notation.fmt(f)
    }
}

impl Running {
    pub fn start(&mut self, file: &FileInfo<'_>) {
        self.transform.start(file);
    }

    pub fn set_source_bytes(&mut self, bytes: u64) {
        self.transform.set_source_bytes(bytes);
    }

    /// Ends the file and passes the rest of its output to the next transforms.
    pub fn finish(&mut self, next: &mut [Self], receiver: &mut dyn Receiver) -> Result<(), Error> {
        let result = self.transform.finish(&mut |bytes| push(next, bytes, receiver));
        result.map_err(|error| error.of(&self.notation))
    }
}

/// Creates one transform.
pub fn running(spec: &dyn Spec, limits: ExpansionLimits, threads: u32) -> Result<Running, Error> {
    let notation: Arc<str> = spec.to_string().into();
    let transform = spec.start(limits, threads);
    let transform = transform.map_err(|cause| Error::from(cause).of(&notation))?;
    Ok(Running { notation, transform })
}

/// Pushes bytes through these transforms into the receiver.
pub fn push(chain: &mut [Running], bytes: &[u8], receiver: &mut dyn Receiver) -> Result<(), Error> {
    match chain.split_first_mut() {
        None => Ok(receiver.put(bytes)?),
        Some((Running { notation, transform }, rest)) => {
            let result = transform.feed(bytes, &mut |bytes| push(rest, bytes, receiver));
            result.map_err(|error| error.of(notation))
        }
    }
}
