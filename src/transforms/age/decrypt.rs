//! The running transform `unage`.
//!
//! The library pulls its input from a reader, and a transform is pushed. The reader has what was pushed, and
//! reports `WouldBlock` where more is to come: the library keeps the part that it has read until then and
//! goes on at the next call. So it needs no thread. Only its header cannot be read in pieces: it is kept
//! until it is complete.

use std::{
    io::{self, BufRead, ErrorKind, Read},
    sync::Arc,
};

use age::{DecryptError, stream::StreamReader};

use super::{PART_BYTES, key_files::Identities};
use crate::{
    limits::AGE_HEADER_BYTES_MAX,
    sync::Mutex,
    transforms::{Error, FailureCause, FileInfo, Next, Transform},
};

const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// What files of every version begin with.
const MAGIC_OF_ALL: &[u8] = b"age-encryption.org/";
const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
/// The beginning of a header's last line, with the end of the line before. No other line begins so.
const LAST_LINE: &[u8] = b"\n---";
/// Random bytes between the header and the payload.
const NONCE_BYTES: usize = 16;

/// Decrypts one file after another. What it passes on is authenticated in parts; that no part is missing is
/// known at the end only, so an output counts only after [`Transform::finish`].
pub struct Decryptor {
    identities: Arc<Identities>,
    /// Whether it decrypts what this service encrypted.
    verifies: bool,
    /// First bytes of the file, until the header is complete.
    header: Vec<u8>,
    /// Bytes of the header in which its end was not found.
    searched: usize,
    /// `None` before the end of the header.
    payload: Option<StreamReader<Input>>,
    pushed: Pushed,
    buffer: Box<[u8]>,
}

/// Bytes of the payload that the library has not read yet. The library's reader has a clone of it.
#[derive(Clone, Default)]
struct Pushed(Arc<Mutex<PushedBytes>>);

#[derive(Default)]
struct PushedBytes {
    bytes: Vec<u8>,
    read: usize,
    is_end: bool,
}

impl Pushed {
    fn push(&self, bytes: &[u8]) {
        let mut pushed = self.0.lock();
        let read = std::mem::take(&mut pushed.read);
        pushed.bytes.drain(..read);
        pushed.bytes.extend_from_slice(bytes);
    }

    fn end(&self) {
        self.0.lock().is_end = true;
    }
}

impl Read for Pushed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let pushed = &mut *self.0.lock();
        let mut rest = pushed.bytes.get(pushed.read..).unwrap_or_default();
        if rest.is_empty() && !pushed.is_end {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = rest.read(buffer)?;
        pushed.read += count;
        Ok(count)
    }
}

/// The library's input: the header by lines, and everything else by bytes.
struct Input {
    header: Vec<u8>,
    pushed: Pushed,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pushed.read(buffer)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(&self.header)
    }

    fn consume(&mut self, count: usize) {
        self.header.drain(..count);
    }

    /// Returns all lines at once: the library parses everything again after each call.
    fn read_until(&mut self, _: u8, lines: &mut Vec<u8>) -> io::Result<usize> {
        let count = self.header.len();
        lines.append(&mut self.header);
        Ok(count)
    }
}

fn damaged(what: &'static str) -> FailureCause {
    FailureCause::Corrupt(io::Error::other(what))
}

impl Decryptor {
    pub fn new(identities: Arc<Identities>, verifies: bool) -> Self {
        Self {
            identities,
            verifies,
            header: Vec::new(),
            searched: 0,
            payload: None,
            pushed: Pushed::default(),
            buffer: vec![0; PART_BYTES].into(),
        }
    }

    /// Checks the first bytes of the file. `is_all` if there are no others.
    fn check_magic(&self, is_all: bool) -> Result<(), FailureCause> {
        let begins = |magic: &[u8]| magic.iter().zip(&self.header).all(|(one, other)| one == other);
        let is_longer = |magic: &[u8]| self.header.len() >= magic.len();
        if begins(MAGIC) {
            return if is_all { Err(FailureCause::Truncated) } else { Ok(()) };
        }
        if begins(ARMOR) && is_longer(ARMOR) {
            return Err(FailureCause::Unsupported("an armored file (of `age --armor`)"));
        }
        if begins(MAGIC_OF_ALL) && is_longer(MAGIC_OF_ALL) {
            return Err(FailureCause::Unsupported("another version of age's format"));
        }
        if begins(ARMOR) && !is_all { Ok(()) } else { Err(damaged("it is no file of age")) }
    }

    /// Returns the length of the header once it and the nonce are complete.
    fn header_bytes(&mut self) -> Option<usize> {
        let from = self.searched.saturating_sub(LAST_LINE.len());
        let rest = self.header.get(from..)?;
        let Some(last) = rest.windows(LAST_LINE.len()).position(|bytes| bytes == LAST_LINE) else {
            self.searched = self.header.len();
            return None;
        };
        let last = from + last;
        let line = self.header.get(last + 1..)?;
        let length = last + 2 + line.iter().position(|byte| *byte == b'\n')?;
        (self.header.len() >= length + NONCE_BYTES).then_some(length)
    }

    /// Takes bytes of the header. Once it is complete, the rest of them is the payload's.
    fn add_to_header(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.header.extend_from_slice(bytes);
        self.check_magic(false)?;
        let Some(length) = self.header_bytes() else {
            if self.header.len() > AGE_HEADER_BYTES_MAX + NONCE_BYTES {
                return Err(damaged("its header does not end").into());
            }
            return Ok(());
        };
        let payload = self.header.split_off(length);
        self.pushed.push(&payload);
        let header = std::mem::take(&mut self.header);
        let input = Input { header, pushed: self.pushed.clone() };
        let decryptor = age::Decryptor::new_buffered(input).map_err(|error| self.of(&error))?;
        if decryptor.is_scrypt() {
            return Err(
                FailureCause::Unsupported("a file that is encrypted with a passphrase").into()
            );
        }
        let identities = self.identities.iter().map(|one| &**one as &dyn age::Identity);
        self.payload = Some(decryptor.decrypt(identities).map_err(|error| self.of(&error))?);
        Ok(())
    }

    /// Classifies an error of the header.
    fn of(&self, error: &DecryptError) -> FailureCause {
        match error {
            DecryptError::NoMatchingKeys if self.verifies => FailureCause::KeysUnavailable(
                "no identity of `[age]` fits one of its recipients, and `verify` needs one"
                    .to_owned(),
            ),
            DecryptError::NoMatchingKeys => FailureCause::NoIdentity,
            DecryptError::UnknownFormat => {
                FailureCause::Unsupported("another version of age's format")
            }
            DecryptError::InvalidMac => damaged("its header does not authenticate"),
            _ => damaged("its header is invalid"),
        }
    }

    /// Passes on what can be decrypted of the pushed bytes.
    fn pass(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        let Some(payload) = &mut self.payload else { return Ok(()) };
        loop {
            match payload.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => next(self.buffer.get(..count).unwrap_or_default())?,
                Err(error) => {
                    let is_end = self.pushed.0.lock().is_end;
                    return match error.kind() {
                        ErrorKind::WouldBlock => Ok(()),
                        ErrorKind::UnexpectedEof => Err(FailureCause::Truncated.into()),
                        _ if is_end => Err(damaged(
                            "its last part does not authenticate: it was changed, or cut off",
                        )
                        .into()),
                        _ => Err(damaged("a part does not authenticate: it was changed").into()),
                    };
                }
            }
        }
    }
}

impl Transform for Decryptor {
    fn start(&mut self, _: &FileInfo<'_>) {
        self.header.clear();
        self.searched = 0;
        self.payload = None;
        self.pushed = Pushed::default();
    }

    fn feed(&mut self, bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error> {
        for piece in bytes.chunks(PART_BYTES) {
            if self.payload.is_some() {
                self.pushed.push(piece);
            } else {
                self.add_to_header(piece)?;
            }
            self.pass(next)?;
        }
        Ok(())
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        if self.payload.is_none() {
            return Err(self.check_magic(true).err().unwrap_or(FailureCause::Truncated).into());
        }
        self.pushed.end();
        self.pass(next)
    }
}
