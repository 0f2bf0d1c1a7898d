//! Brotli's decoder with a bound on its window: a "large window" stream may need 1 GiB.

use std::io;

use async_compression::{
    codecs::{BrotliDecoder, DecodeV2},
    core::util::{PartialBuffer, WriteBuffer},
};

/// First byte of a stream with a large window; the next six bits are the logarithm of its size.
const LARGE_WINDOW: u8 = 0x11;

pub struct Brotli {
    decoder: BrotliDecoder,
    window_bytes_max: u64,
    header: Header,
}

#[derive(Clone, Copy)]
enum Header {
    /// Nothing was read.
    Start,
    /// The first byte announces a large window.
    Window,
    Checked,
}

impl Brotli {
    pub fn new(window_bytes_max: u64) -> Self {
        Self { decoder: BrotliDecoder::new(), window_bytes_max, header: Header::Start }
    }

    fn check_window(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            self.header = match self.header {
                Header::Start if *byte == LARGE_WINDOW => Header::Window,
                Header::Window if 1_u64 << (byte & 0x3f) > self.window_bytes_max => {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
                _ => Header::Checked,
            };
            if matches!(self.header, Header::Checked) {
                break;
            }
        }
        Ok(())
    }
}

impl DecodeV2 for Brotli {
    fn reinit(&mut self) -> io::Result<()> {
        self.header = Header::Start;
        self.decoder.reinit()
    }

    fn decode(
        &mut self,
        input: &mut PartialBuffer<&[u8]>,
        output: &mut WriteBuffer<'_>,
    ) -> io::Result<bool> {
        self.check_window(input.unwritten())?;
        DecodeV2::decode(&mut self.decoder, input, output)
    }

    fn flush(&mut self, output: &mut WriteBuffer<'_>) -> io::Result<bool> {
        self.decoder.flush(output)
    }

    fn finish(&mut self, output: &mut WriteBuffer<'_>) -> io::Result<bool> {
        self.decoder.finish(output)
    }
}
