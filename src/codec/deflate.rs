//! Where the last block of a deflate stream (RFC 1951) begins and ends.
//!
//! libdeflate makes whole streams only: their last block is marked as the last. To join streams into
//! one, that mark has to be cleared, and only reading the stream finds it: nothing is unpacked, and
//! this takes a small part of the time that compressing did.

/// Bits that the first table is indexed by; longer codes are rare, and found bit by bit.
const FAST_BITS: u32 = 11;
const FAST: usize = 1 << FAST_BITS;
const LONGEST: usize = 15;
/// The order in which a block gives the lengths of the code that its lengths are in.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const END_OF_BLOCK: u16 = 256;

/// The last block, by its bits from the stream's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    pub begins: usize,
    pub ends: usize,
}

/// The tables, which are used for one stream after another.
#[derive(Debug, Default)]
pub struct Scanner {
    literals: Code,
    offsets: Code,
    lengths: Code,
}

impl Scanner {
    /// `None` where it is no whole stream.
    pub fn last_block(&mut self, stream: &[u8]) -> Option<Last> {
        let mut bits = Bits { bytes: stream, at: 0, buffer: 0, have: 0 };
        loop {
            let begins = bits.position();
            bits.refill();
            let is_last = bits.take(1)? == 1;
            match bits.take(2)? {
                0 => bits.skip_stored()?,
                1 => {
                    self.fixed()?;
                    self.symbols(&mut bits)?;
                }
                2 => {
                    self.dynamic(&mut bits)?;
                    self.symbols(&mut bits)?;
                }
                _ => return None,
            }
            if is_last {
                return Some(Last { begins, ends: bits.position() });
            }
        }
    }

    fn fixed(&mut self) -> Option<()> {
        let mut lengths = [8; 288];
        lengths.get_mut(144..256)?.fill(9);
        lengths.get_mut(256..280)?.fill(7);
        self.literals.build(&lengths)?;
        self.offsets.build(&[5; 30])
    }

    fn dynamic(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        let literals = bits.take(5)? as usize + 257;
        let offsets = bits.take(5)? as usize + 1;
        let given = bits.take(4)? as usize + 4;
        let mut lengths = [0; 19];
        for index in ORDER.iter().take(given) {
            bits.refill();
            *lengths.get_mut(*index)? = u8::try_from(bits.take(3)?).ok()?;
        }
        self.lengths.build(&lengths)?;
        let mut lengths = [0; 320];
        let all = lengths.get_mut(..literals + offsets)?;
        let mut at = 0;
        while at < all.len() {
            bits.refill();
            let symbol = self.lengths.decode(bits)?;
            let (length, times) = match symbol {
                0..=15 => (u8::try_from(symbol).ok()?, 1),
                16 => (*all.get(at.checked_sub(1)?)?, 3 + bits.take(2)?),
                17 => (0, 3 + bits.take(3)?),
                _ => (0, 11 + bits.take(7)?),
            };
            let end = at + times as usize;
            all.get_mut(at..end)?.fill(length);
            at = end;
        }
        let (of_literals, of_offsets) = all.split_at_checked(literals)?;
        self.literals.build(of_literals)?;
        self.offsets.build(of_offsets)
    }

    /// Passes over a block's symbols, to its end.
    fn symbols(&self, bits: &mut Bits<'_>) -> Option<()> {
        loop {
            // Enough for a length and an offset with all their bits, which are 48.
            bits.refill();
            let symbol = self.literals.decode(bits)?;
            if symbol < END_OF_BLOCK {
                continue;
            }
            if symbol == END_OF_BLOCK {
                return Some(());
            }
            bits.take(u32::from(*LENGTH_EXTRA.get(usize::from(symbol - 257))?))?;
            let offset = self.offsets.decode(bits)?;
            bits.take(u32::from(offset >> 1).saturating_sub(1))?;
        }
    }
}

/// A Huffman code.
#[derive(Debug)]
struct Code {
    /// By the next bits: a symbol and, in the last four bits, its length; 0 where it is longer.
    fast: Box<[u16; FAST]>,
    /// How many symbols have each length, and all of them in the order of their codes.
    counts: [u16; LONGEST + 1],
    symbols: Vec<u16>,
}

impl Default for Code {
    fn default() -> Self {
        Self { fast: Box::new([0; FAST]), counts: [0; LONGEST + 1], symbols: Vec::new() }
    }
}

impl Code {
    /// `lengths` are those of each symbol's code (RFC 1951, 3.2.2).
    fn build(&mut self, lengths: &[u8]) -> Option<()> {
        self.counts = [0; LONGEST + 1];
        for length in lengths {
            *self.counts.get_mut(usize::from(*length))? += 1;
        }
        self.counts[0] = 0;
        let mut next_code = [0_u32; LONGEST + 2];
        let mut next_place = [0_usize; LONGEST + 2];
        for (length, count) in self.counts.iter().enumerate() {
            let code = *next_code.get(length)?;
            let place = *next_place.get(length)?;
            *next_code.get_mut(length + 1)? = (code + u32::from(*count)) << 1;
            *next_place.get_mut(length + 1)? = place + usize::from(*count);
        }
        self.fast.fill(0);
        self.symbols.clear();
        self.symbols.resize(lengths.len(), 0);
        for (symbol, length) in (0_u16..).zip(lengths).filter(|(_, length)| **length > 0) {
            let place = next_place.get_mut(usize::from(*length))?;
            *self.symbols.get_mut(*place)? = symbol;
            *place += 1;
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
        let entry = *self.fast.get(usize::try_from(bits.buffer & (FAST as u64 - 1)).ok()?)?;
        if entry != 0 {
            bits.take(u32::from(entry & 15))?;
            return Some(entry >> 4);
        }
        self.decode_long(bits)
    }

    #[cold]
    fn decode_long(&self, bits: &mut Bits<'_>) -> Option<u16> {
        let (mut code, mut first, mut place) = (0_u32, 0_u32, 0_u32);
        for count in self.counts.iter().skip(1) {
            code = code << 1 | bits.take(1)?;
            first <<= 1;
            let count = u32::from(*count);
            if code < first + count {
                return self.symbols.get((place + code.checked_sub(first)?) as usize).copied();
            }
            first += count;
            place += count;
        }
        None
    }
}

/// Reads bits, the lowest of each byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte that is not in `buffer`.
    at: usize,
    buffer: u64,
    have: u32,
}

impl Bits<'_> {
    fn position(&self) -> usize {
        self.at * 8 - self.have as usize
    }

    /// At least 48 bits, or all that are left.
    fn refill(&mut self) {
        if self.have >= 48 {
            return;
        }
        if let Some(word) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
            self.buffer |= u64::from_le_bytes(*word) << self.have;
            let taken = (63 - self.have) / 8;
            self.at += taken as usize;
            self.have += taken * 8;
            // Bits beyond those that are counted are read again.
            self.buffer &= u64::MAX >> (64 - self.have);
            return;
        }
        while self.have <= 56 {
            let Some(byte) = self.bytes.get(self.at) else { return };
            self.buffer |= u64::from(*byte) << self.have;
            self.at += 1;
            self.have += 8;
        }
    }

    /// At most 16.
    fn take(&mut self, count: u32) -> Option<u32> {
        self.have = self.have.checked_sub(count)?;
        let taken = u32::try_from(self.buffer & ((1 << count) - 1)).ok()?;
        self.buffer >>= count;
        Some(taken)
    }

    fn skip_stored(&mut self) -> Option<()> {
        self.take(self.have % 8)?;
        self.refill();
        let (length, check) = (self.take(16)?, self.take(16)?);
        if length ^ check != 0xffff {
            return None;
        }
        self.at = self.at - self.have as usize / 8 + length as usize;
        (self.buffer, self.have) = (0, 0);
        (self.at <= self.bytes.len()).then_some(())
    }
}
