//! Finds the last block of a deflate stream (RFC 1951).
//!
//! libdeflate makes complete streams only, whose last block is marked. To join streams into one, the
//! mark has to be cleared, and only a scan of the stream finds it. The scan decompresses nothing and
//! takes a small part of the time of the compression.

/// Number of bits that index the fast table. Longer codes are rare and decoded bit by bit.
const FAST_BITS: u32 = 11;
const FAST_ENTRIES: usize = 1 << FAST_BITS;
const CODE_BITS_MAX: usize = 15;
/// Order of the lengths of the code that encodes a block's code lengths.
const CODE_LENGTH_ORDER: [usize; 19] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const LENGTH_EXTRA_BITS: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const END_OF_BLOCK: u16 = 256;

/// Position of the last block, in bits from the start of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastBlock {
    pub start: usize,
    pub end: usize,
}

/// Finds last blocks. Its tables are reused for stream after stream.
#[derive(Debug, Default)]
pub struct Scanner {
    literals: Code,
    offsets: Code,
    lengths: Code,
}

impl Scanner {
    /// Finds the last block, or returns `None` for an incomplete stream.
    pub fn last_block(&mut self, stream: &[u8]) -> Option<LastBlock> {
        let mut bits = Bits { bytes: stream, next: 0, buffer: 0, buffered: 0 };
        loop {
            let start = bits.position();
            bits.refill();
            let is_last = bits.take(1)? == 1;
            match bits.take(2)? {
                0 => bits.skip_stored()?,
                1 => {
                    self.build_fixed_codes()?;
                    self.skip_symbols(&mut bits)?;
                }
                2 => {
                    self.read_codes(&mut bits)?;
                    self.skip_symbols(&mut bits)?;
                }
                _ => return None,
            }
            if is_last {
                return Some(LastBlock { start, end: bits.position() });
            }
        }
    }

    fn build_fixed_codes(&mut self) -> Option<()> {
        let mut lengths = [8; 288];
        lengths.get_mut(144..256)?.fill(9);
        lengths.get_mut(256..280)?.fill(7);
        self.literals.build(&lengths)?;
        self.offsets.build(&[5; 30])
    }

    fn read_codes(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        let literals = bits.take(5)? as usize + 257;
        let offsets = bits.take(5)? as usize + 1;
        let length_codes = bits.take(4)? as usize + 4;
        let mut lengths = [0; 19];
        for index in CODE_LENGTH_ORDER.iter().take(length_codes) {
            bits.refill();
            *lengths.get_mut(*index)? = u8::try_from(bits.take(3)?).ok()?;
        }
        self.lengths.build(&lengths)?;
        let mut lengths = [0; 320];
        let all = lengths.get_mut(..literals + offsets)?;
        let mut position = 0;
        while position < all.len() {
            bits.refill();
            let symbol = self.lengths.decode(bits)?;
            let (length, times) = match symbol {
                0..=15 => (u8::try_from(symbol).ok()?, 1),
                16 => (*all.get(position.checked_sub(1)?)?, 3 + bits.take(2)?),
                17 => (0, 3 + bits.take(3)?),
                _ => (0, 11 + bits.take(7)?),
            };
            let end = position + times as usize;
            all.get_mut(position..end)?.fill(length);
            position = end;
        }
        let (literal_lengths, offset_lengths) = all.split_at_checked(literals)?;
        self.literals.build(literal_lengths)?;
        self.offsets.build(offset_lengths)
    }

    /// Skips a block's symbols, to its end.
    fn skip_symbols(&self, bits: &mut Bits<'_>) -> Option<()> {
        loop {
            // Enough for a length and an offset with their extra bits, which are at most 48.
            bits.refill();
            let symbol = self.literals.decode(bits)?;
            if symbol < END_OF_BLOCK {
                continue;
            }
            if symbol == END_OF_BLOCK {
                return Some(());
            }
            bits.take(u32::from(*LENGTH_EXTRA_BITS.get(usize::from(symbol - 257))?))?;
            let offset = self.offsets.decode(bits)?;
            bits.take(u32::from(offset >> 1).saturating_sub(1))?;
        }
    }
}

/// A Huffman code.
#[derive(Debug)]
struct Code {
    /// Symbol and, in the last four bits, code length by the next bits; 0 for a longer code.
    fast: Box<[u16; FAST_ENTRIES]>,
    /// Number of symbols by code length.
    counts: [u16; CODE_BITS_MAX + 1],
    /// Symbols in the order of their codes.
    symbols: Vec<u16>,
}

impl Default for Code {
    fn default() -> Self {
        Self {
            fast: Box::new([0; FAST_ENTRIES]),
            counts: [0; CODE_BITS_MAX + 1],
            symbols: Vec::new(),
        }
    }
}

impl Code {
    /// Builds the tables from the code length of each symbol (RFC 1951, 3.2.2).
    fn build(&mut self, lengths: &[u8]) -> Option<()> {
        self.counts = [0; CODE_BITS_MAX + 1];
        for length in lengths {
            *self.counts.get_mut(usize::from(*length))? += 1;
        }
        self.counts[0] = 0;
        let mut next_code = [0_u32; CODE_BITS_MAX + 2];
        let mut next_index = [0_usize; CODE_BITS_MAX + 2];
        for (length, count) in self.counts.iter().enumerate() {
            let code = *next_code.get(length)?;
            let index = *next_index.get(length)?;
            *next_code.get_mut(length + 1)? = (code + u32::from(*count)) << 1;
            *next_index.get_mut(length + 1)? = index + usize::from(*count);
        }
        self.fast.fill(0);
        self.symbols.clear();
        self.symbols.resize(lengths.len(), 0);
        for (symbol, length) in (0_u16..).zip(lengths).filter(|(_, length)| **length > 0) {
            let index = next_index.get_mut(usize::from(*length))?;
            *self.symbols.get_mut(*index)? = symbol;
            *index += 1;
            let code = next_code.get_mut(usize::from(*length))?;
            let length = u32::from(*length);
            if length <= FAST_BITS {
                let first = (*code << (32 - length)).reverse_bits() as usize;
                let entry = symbol << 4 | u16::try_from(length).ok()?;
                for slot in self.fast.iter_mut().skip(first).step_by(1 << length) {
                    *slot = entry;
                }
            }
            *code += 1;
        }
        Some(())
    }

    fn decode(&self, bits: &mut Bits<'_>) -> Option<u16> {
        let entry =
            *self.fast.get(usize::try_from(bits.buffer & (FAST_ENTRIES as u64 - 1)).ok()?)?;
        if entry != 0 {
            bits.take(u32::from(entry & 15))?;
            return Some(entry >> 4);
        }
        self.decode_long(bits)
    }

    #[cold]
    fn decode_long(&self, bits: &mut Bits<'_>) -> Option<u16> {
        let (mut code, mut first_code, mut index) = (0_u32, 0_u32, 0_u32);
        for count in self.counts.iter().skip(1) {
            code = code << 1 | bits.take(1)?;
            first_code <<= 1;
            let count = u32::from(*count);
            if code < first_code + count {
                return self.symbols.get((index + code.checked_sub(first_code)?) as usize).copied();
            }
            first_code += count;
            index += count;
        }
        None
    }
}

/// Reads bits, the lowest of each byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    /// Index of the first byte after those in `buffer`.
    next: usize,
    /// Unread bits, the next one lowest.
    buffer: u64,
    /// Number of bits in `buffer`.
    buffered: u32,
}

impl Bits<'_> {
    fn position(&self) -> usize {
        self.next * 8 - self.buffered as usize
    }

    /// Fills the buffer with at least 48 bits, or all remaining ones.
    fn refill(&mut self) {
        if self.buffered >= 48 {
            return;
        }
        if let Some(word) = self.bytes.get(self.next..).and_then(<[u8]>::first_chunk) {
            self.buffer |= u64::from_le_bytes(*word) << self.buffered;
            let taken = (63 - self.buffered) / 8;
            self.next += taken as usize;
            self.buffered += taken * 8;
            // Uncounted bits are read again later.
            self.buffer &= u64::MAX >> (64 - self.buffered);
            return;
        }
        while self.buffered <= 56 {
            let Some(byte) = self.bytes.get(self.next) else { return };
            self.buffer |= u64::from(*byte) << self.buffered;
            self.next += 1;
            self.buffered += 8;
        }
    }

    /// Takes at most 16 bits.
    fn take(&mut self, count: u32) -> Option<u32> {
        self.buffered = self.buffered.checked_sub(count)?;
        let taken = u32::try_from(self.buffer & ((1 << count) - 1)).ok()?;
        self.buffer >>= count;
        Some(taken)
    }

    fn skip_stored(&mut self) -> Option<()> {
        self.take(self.buffered % 8)?;
        self.refill();
        let (length, check) = (self.take(16)?, self.take(16)?);
        if length ^ check != 0xffff {
            return None;
        }
        self.next = self.next - self.buffered as usize / 8 + length as usize;
        (self.buffer, self.buffered) = (0, 0);
        (self.next <= self.bytes.len()).then_some(())
    }
}
