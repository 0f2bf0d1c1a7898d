//! Brotli's decoder with a bound on its window: a "large window" stream may ask for 1 GiB.

use std::io;

use async_compression::{
    codecs::{BrotliDecoder, DecodeV2},
    core::util::{PartialBuffer, WriteBuffer},
};

/// What the first byte of a stream with a large window is; the next six bits are its logarithm.
const LARGE_WINDOW: u8 = 0x11;

pub struct Brotli {
    decoder: BrotliDecoder,
    most_bytes: u64,
    header: Header,
}

#[derive(Clone, Copy)]
enum Header {
    /// Nothing was read.
    First,
    /// The first byte was that of a large window.
    Window,
    Seen,
}

impl Brotli {
    pub fn new(most_bytes: u64) -> Self {
        Self { decoder: BrotliDecoder::new(), most_bytes, header: Header::First }
    }

    fn look(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            self.header = match self.header {
                Header::First if *byte == LARGE_WINDOW => Header::Window,
                Header::Window if 1_u64 << (byte & 0x3f) > self.most_bytes => {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
                _ => Header::Seen,
            };
            if matches!(self.header, Header::Seen) {
                break;
            }
        }
        Ok(())
    }
}

impl DecodeV2 for Brotli {
    fn reinit(&mut self) -> io::Result<()> {
        self.header = Header::First;
        self.decoder.reinit()
    }

    fn decode(
        &mut self,
        input: &mut PartialBuffer<&[u8]>,
        output: &mut WriteBuffer<'_>,
    ) -> io::Result<bool> {
        self.look(input.unwritten())?;
        DecodeV2::decode(&mut self.decoder, input, output)
    }

    fn flush(&mut self, output: &mut WriteBuffer<'_>) -> io::Result<bool> {
        self.decoder.flush(output)
    }

    fn finish(&mut self, output: &mut WriteBuffer<'_>) -> io::Result<bool> {
        self.decoder.finish(output)
    }
}
