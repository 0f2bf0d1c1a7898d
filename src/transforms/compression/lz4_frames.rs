//! LZ4's frames, and the legacy frames that `lz4 -l` and the Linux kernel's build write.
//!
//! A legacy frame is a magic number and blocks of at most 8 MiB, each preceded by its size. It has
//! neither an end mark nor a checksum: it ends with the file, or with the magic number of the next
//! frame instead of a size.

use std::io;

use async_compression::{
    codecs::{DecodeV2, Lz4Decoder},
    core::util::{PartialBuffer, WriteBuffer},
};

const LEGACY_MAGIC: u32 = 0x184c_2102;
const LEGACY_BLOCK_BYTES: usize = 8 * 1024 * 1024;
/// Maximum compressed size of a block (`LZ4_COMPRESSBOUND`). A larger "size" is a magic number.
const LEGACY_PACKED_BYTES_MAX: usize = LEGACY_BLOCK_BYTES + LEGACY_BLOCK_BYTES / 255 + 16;

/// Reads one frame after another.
#[derive(Default)]
pub struct Lz4 {
    decoder: Lz4Decoder,
    position: Position,
    /// Bytes of the magic number, of a legacy block's size, or of the block.
    gathered: Vec<u8>,
    /// Content of a legacy block.
    block: Vec<u8>,
    /// Number of bytes of the block passed on.
    passed: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Position {
    #[default]
    Magic,
    Frame,
    /// At the size of a legacy block.
    Size,
    /// In a legacy block of this compressed size.
    Block(usize),
}

impl Lz4 {
    /// Takes input until `bytes` bytes are gathered, and returns whether they are.
    fn gather(&mut self, bytes: usize, input: &mut PartialBuffer<&[u8]>) -> bool {
        let count = (bytes - self.gathered.len()).min(input.unwritten().len());
        self.gathered.extend_from_slice(input.unwritten().get(..count).unwrap_or_default());
        input.advance(count);
        self.gathered.len() == bytes
    }

    /// Returns the four gathered bytes.
    fn word(&self) -> u32 {
        self.gathered.first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
    }

    /// Starts the frame of the type that the gathered magic number shows.
    fn begin_frame(&mut self) -> io::Result<()> {
        if self.word() == LEGACY_MAGIC {
            self.position = Position::Size;
        } else {
            self.decoder.reinit()?;
            let mut magic = PartialBuffer::new(&self.gathered[..]);
            let mut empty = [];
            let mut output = WriteBuffer::new_initialized(&mut empty);
            self.decoder.decode(&mut magic, &mut output)?;
            self.position = Position::Frame;
        }
        self.gathered.clear();
        Ok(())
    }

    fn unpack(&mut self) -> io::Result<()> {
        self.block.resize(LEGACY_BLOCK_BYTES, 0);
        let size_max = i32::try_from(LEGACY_BLOCK_BYTES).map_err(io::Error::other)?;
        let length =
            lz4::block::decompress_to_buffer(&self.gathered, Some(size_max), &mut self.block);
        self.block.truncate(length?);
        (self.passed, self.position) = (0, Position::Size);
        self.gathered.clear();
        Ok(())
    }

    fn pass(&mut self, output: &mut WriteBuffer<'_>) {
        let pending = self.block.get(self.passed..).unwrap_or_default();
        let space = output.initialize_unwritten();
        let length = pending.len().min(space.len());
        if let (Some(space), Some(pending)) = (space.get_mut(..length), pending.get(..length)) {
            space.copy_from_slice(pending);
        }
        output.advance(length);
        self.passed += length;
    }
}

impl DecodeV2 for Lz4 {
    fn reinit(&mut self) -> io::Result<()> {
        self.position = Position::Magic;
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
            let position = self.position;
            match position {
                Position::Frame => return self.decoder.decode(input, output),
                Position::Magic if self.gather(4, input) => self.begin_frame()?,
                Position::Size if self.gather(4, input) => {
                    let size = self.word() as usize;
                    if size > LEGACY_PACKED_BYTES_MAX {
                        self.begin_frame()?;
                    } else {
                        self.position = Position::Block(size);
                        self.gathered.clear();
                    }
                }
                Position::Block(size) if self.gather(size, input) => self.unpack()?,
                Position::Magic | Position::Size | Position::Block(_) => return Ok(false),
            }
        }
    }

    fn flush(&mut self, output: &mut WriteBuffer<'_>) -> io::Result<bool> {
        self.pass(output);
        if self.position == Position::Frame { self.decoder.flush(output) } else { Ok(true) }
    }

    fn finish(&mut self, output: &mut WriteBuffer<'_>) -> io::Result<bool> {
        self.pass(output);
        match self.position {
            Position::Frame => self.decoder.finish(output),
            Position::Size if self.gathered.is_empty() => Ok(self.passed == self.block.len()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
