//! LZ4's frames, and the legacy frames that `lz4 -l` and the Linux kernel's build write.
//!
//! A legacy frame is a magic number and blocks of at most 8 MiB, each after its size. It has neither
//! an end mark nor a checksum: it ends with the file, or where the magic number of the next frame
//! stands in the place of a size.

use std::io;

use async_compression::{
    codecs::{DecodeV2, Lz4Decoder},
    core::util::{PartialBuffer, WriteBuffer},
};

const LEGACY_MAGIC: u32 = 0x184c_2102;
const LEGACY_BLOCK_BYTES: usize = 8 * 1024 * 1024;
/// The most that a block of that size can become (`LZ4_COMPRESSBOUND`); larger "sizes" are magic.
const LEGACY_PACKED_BYTES: usize = LEGACY_BLOCK_BYTES + LEGACY_BLOCK_BYTES / 255 + 16;

/// Reads one frame after another.
#[derive(Default)]
pub struct Lz4 {
    decoder: Lz4Decoder,
    at: At,
    /// Of the magic number, of a legacy block's size, or of the block.
    gathered: Vec<u8>,
    /// A legacy block's content, and how much of it is passed on.
    block: Vec<u8>,
    passed: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Magic,
    Frame,
    /// The size of a legacy block.
    Size,
    /// A legacy block of this many bytes.
    Block(usize),
}

impl Lz4 {
    /// Takes input until so many bytes are gathered. Says whether they are.
    fn gather(&mut self, bytes: usize, input: &mut PartialBuffer<&[u8]>) -> bool {
        let there = (bytes - self.gathered.len()).min(input.unwritten().len());
        self.gathered.extend_from_slice(input.unwritten().get(..there).unwrap_or_default());
        input.advance(there);
        self.gathered.len() == bytes
    }

    /// The four bytes that are gathered.
    fn word(&self) -> u32 {
        self.gathered.first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
    }

    /// The magic number is gathered: it tells the kind of the frame.
    fn begin_frame(&mut self) -> io::Result<()> {
        if self.word() == LEGACY_MAGIC {
            self.at = At::Size;
        } else {
            self.decoder.reinit()?;
            let mut magic = PartialBuffer::new(&self.gathered[..]);
            let mut nothing = [];
            let mut output = WriteBuffer::new_initialized(&mut nothing);
            self.decoder.decode(&mut magic, &mut output)?;
            self.at = At::Frame;
        }
        self.gathered.clear();
        Ok(())
    }

    fn unpack(&mut self) -> io::Result<()> {
        self.block.resize(LEGACY_BLOCK_BYTES, 0);
        let most = i32::try_from(LEGACY_BLOCK_BYTES).map_err(io::Error::other)?;
        let length = lz4::block::decompress_to_buffer(&self.gathered, Some(most), &mut self.block);
        self.block.truncate(length?);
        (self.passed, self.at) = (0, At::Size);
        self.gathered.clear();
        Ok(())
    }

    fn pass(&mut self, output: &mut WriteBuffer<'_>) {
        let left = self.block.get(self.passed..).unwrap_or_default();
        let room = output.initialize_unwritten();
        let length = left.len().min(room.len());
        if let (Some(room), Some(left)) = (room.get_mut(..length), left.get(..length)) {
            room.copy_from_slice(left);
        }
        output.advance(length);
        self.passed += length;
    }
}

impl DecodeV2 for Lz4 {
    fn reinit(&mut self) -> io::Result<()> {
        self.at = At::Magic;
        self.gathered.clear();
        self.block.clear();
        self.passed = 0;
        self.decoder.reinit()
    }

    fn decode(
        &mut self,
        input: &mut PartialBuffer<&[u8]>,
        output: &mut WriteBuffer<'_>,
    ) -> io::Result<bool> {
        loop {
            self.pass(output);
            if self.passed < self.block.len() {
                return Ok(false);
            }
            let at = self.at;
            match at {
                At::Frame => return self.decoder.decode(input, output),
                At::Magic if self.gather(4, input) => self.begin_frame()?,
                At::Size if self.gather(4, input) => {
                    let size = self.word() as usize;
                    if size > LEGACY_PACKED_BYTES {
                        self.begin_frame()?;
                    } else {
                        self.at = At::Block(size);
                        self.gathered.clear();
                    }
                }
                At::Block(size) if self.gather(size, input) => self.unpack()?,
                At::Magic | At::Size | At::Block(_) => return Ok(false),
            }
        }
    }

    fn flush(&mut self, output: &mut WriteBuffer<'_>) -> io::Result<bool> {
        self.pass(output);
        if self.at == At::Frame { self.decoder.flush(output) } else { Ok(true) }
    }

    fn finish(&mut self, output: &mut WriteBuffer<'_>) -> io::Result<bool> {
        self.pass(output);
        match self.at {
            At::Frame => self.decoder.finish(output),
            At::Size if self.gathered.is_empty() => Ok(self.passed == self.block.len()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
