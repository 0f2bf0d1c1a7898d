//! gzip on several threads, as one member that every reader accepts; or, with the option `members`, as
//! one member per block.
//!
//! A file is split into blocks of a fixed size, each is deflated separately, and the streams are joined
//! as pigz does: the mark of each last block is cleared, and an empty stored block aligns the next
//! stream to a byte. One trailer has the CRC of all blocks. Only the number of bytes decides where a
//! block ends, so the output is the same for every number of threads and for every way of feeding the
//! input (K1); the member has a CRC (K2).

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use libdeflater::{CompressionLvl, Compressor};

use super::{Error, FailureCause, Next, Settings, Transform, deflate::Scanner};
use crate::{sync::Mutex, transforms::FileInfo};

/// Size of a separately deflated block. Splitting costs well under a hundredth of the ratio.
const BLOCK_BYTES: usize = 1024 * 1024;
/// Blocks in flight per thread: one is compressed while the next one waits.
const BLOCKS_PER_THREAD: usize = 2;
/// A member without a name or a time (RFC 1952, 2.3), of an unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// Empty stored block without its first three bits and the padding.
const EMPTY_STORED: [u8; 4] = [0, 0, 0xff, 0xff];

/// Compresses one file after another.
pub struct Gzip {
    /// Bytes fed and not compressed.
    block: Vec<u8>,
    /// Checksum of the bytes passed on.
    crc: crc32fast::Hasher,
    /// Header to pass on before the next block.
    header: Option<[u8; 10]>,
    level: i32,
    /// Whether each block is a member.
    members: bool,
    /// Whether a block of this file was passed on.
    has_blocks: bool,
    backend: Backend,
}

enum Backend {
    /// Compresses on the caller's thread.
    Inline(Deflate),
    Threads(WorkerPool),
}

/// Compressor of one thread.
struct Deflate {
    compressor: Compressor,
    scanner: Scanner,
    packed: Vec<u8>,
}

impl Deflate {
    fn new(level: CompressionLvl) -> Self {
        let compressor = Compressor::new(level);
        Self { compressor, scanner: Scanner::default(), packed: Vec::new() }
    }

    fn pack(&mut self, block: &[u8], is_last: bool) -> io::Result<&[u8]> {
        let length_max =
            self.compressor.deflate_compress_bound(block.len()) + 1 + EMPTY_STORED.len();
        self.packed.resize(length_max, 0);
        let length = self.compressor.deflate_compress(block, &mut self.packed);
        self.packed.truncate(length.map_err(io::Error::other)?);
        if !is_last {
            self.make_joinable()?;
        }
        Ok(&self.packed)
    }

    /// Turns a complete stream into one that another can follow.
    fn make_joinable(&mut self) -> io::Result<()> {
        let invalid = || io::Error::other("libdeflate made an invalid stream");
        let last_block = self.scanner.last_block(&self.packed).ok_or_else(invalid)?;
        let byte = self.packed.get_mut(last_block.start / 8).ok_or_else(invalid)?;
        *byte &= !(1 << (last_block.start % 8));
        if last_block.end.div_ceil(8) != self.packed.len() {
            return Err(invalid());
        }
        // The three header bits of the empty block are zeros, as are the bits after the end.
        let free_bits = self.packed.len() * 8 - last_block.end;
        if free_bits < 3 {
            self.packed.push(0);
        }
        self.packed.extend(EMPTY_STORED);
        Ok(())
    }
}

/// Request to compress one block. The reply returns the block's buffer.
struct Request {
    block: Vec<u8>,
    is_last: bool,
    reply: mpsc::SyncSender<Reply>,
}

struct Reply {
    packed: io::Result<Vec<u8>>,
    crc: u32,
    block: Vec<u8>,
}

/// Compressing threads. Dropping it ends them after their current blocks, and waits for that.
struct WorkerPool {
    /// `None` only during the drop: closing the channel ends the threads.
    requests: Option<mpsc::Sender<Request>>,
    threads: Vec<JoinHandle<()>>,
    /// Replies for the blocks in flight, in the order of the file.
    replies: VecDeque<mpsc::Receiver<Reply>>,
    /// Buffers for reuse, at most one per block in flight.
    spare: Vec<Vec<u8>>,
}

impl Gzip {
    pub fn new(settings: Settings) -> Result<Self, FailureCause> {
        let Settings { level, members, threads } = settings;
        let deflate = CompressionLvl::new(level).unwrap_or_default();
        let backend = if threads == 0 {
            Backend::Inline(Deflate::new(deflate))
        } else {
            Backend::Threads(WorkerPool::new(deflate, threads).map_err(FailureCause::Failed)?)
        };
        let crc = crc32fast::Hasher::new();
        Ok(Self {
            block: Vec::new(),
            crc,
            header: None,
            level,
            members,
            has_blocks: false,
            backend,
        })
    }

    fn end_member(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        let crc = self.crc.clone().finalize();
        // The length is modulo 2^32 (RFC 1952, 2.3.1).
        let [a, b, c, d, ..] = self.crc.total_len().to_le_bytes();
        next(&[&crc.to_le_bytes()[..], &[a, b, c, d]].concat())
    }

    fn end_block(&mut self, is_last: bool, next: &mut Next<'_>) -> Result<(), Error> {
        self.has_blocks = true;
        let is_last = is_last || self.members;
        match &mut self.backend {
            Backend::Inline(deflate) => {
                let packed = deflate.pack(&self.block, is_last)?;
                let crc = libdeflater::crc32(&self.block);
                pass((&mut self.header, &mut self.crc), packed, (crc, self.block.len()), next)?;
                self.block.clear();
                self.next_member(next)?;
            }
            Backend::Threads(pool) => {
                let is_full = pool.replies.len() >= pool.threads.len() * BLOCKS_PER_THREAD;
                if is_full {
                    self.take_reply(next)?;
                }
                if let Backend::Threads(pool) = &mut self.backend {
                    pool.send(&mut self.block, is_last);
                }
            }
        }
        Ok(())
    }

    /// Waits for the oldest block in flight and passes it on. Returns whether there was one.
    fn take_reply(&mut self, next: &mut Next<'_>) -> Result<bool, Error> {
        let Backend::Threads(pool) = &mut self.backend else { return Ok(false) };
        let Some(reply) = pool.replies.pop_front() else { return Ok(false) };
        let thread_ended = |_| io::Error::other("a compressing thread ended");
        let Reply { packed, crc, mut block } = reply.recv().map_err(thread_ended)?;
        pass((&mut self.header, &mut self.crc), &packed?, (crc, block.len()), next)?;
        block.clear();
        pool.spare.push(block);
        self.next_member(next)?;
        Ok(true)
    }

    /// Ends the member, if each block is one, and prepares the next header.
    fn next_member(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        if self.members {
            self.end_member(next)?;
            self.crc.reset();
            self.header = Some(header(self.level));
        }
        Ok(())
    }
}

impl Transform for Gzip {
    fn start(&mut self, _: &FileInfo<'_>) {
        self.block.clear();
        self.crc.reset();
        self.header = Some(header(self.level));
        self.has_blocks = false;
        if let Backend::Threads(pool) = &mut self.backend {
            // Drop the blocks of an unfinished file.
            pool.replies.clear();
        }
    }

    fn feed(&mut self, mut bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error> {
        while !bytes.is_empty() {
            let space = BLOCK_BYTES - self.block.len();
            let (head, rest) = bytes.split_at(space.min(bytes.len()));
            self.block.extend_from_slice(head);
            bytes = rest;
            if self.block.len() == BLOCK_BYTES {
                self.end_block(false, next)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        // A single member needs a last block. With several members the last one may be complete.
        if !(self.members && self.has_blocks && self.block.is_empty()) {
            self.end_block(true, next)?;
        }
        while self.take_reply(next)? {}
        if self.members { Ok(()) } else { self.end_member(next) }
    }
}

/// Returns the header, which marks only the fastest and the slowest levels.
const fn header(level: i32) -> [u8; 10] {
    let mut header = HEADER;
    header[8] = match level {
        8.. => 2,
        2..8 => 0,
        _ => 4,
    };
    header
}

/// Passes a block on, after the pending header, and adds its checksum to the file's.
fn pass(
    (header, checksum): (&mut Option<[u8; 10]>, &mut crc32fast::Hasher),
    packed: &[u8],
    (crc, length): (u32, usize),
    next: &mut Next<'_>,
) -> Result<(), Error> {
    checksum.combine(&crc32fast::Hasher::new_with_initial_len(crc, length as u64));
    if let Some(header) = header.take() {
        next(&header)?;
    }
    next(packed)
}

impl WorkerPool {
    fn new(level: CompressionLvl, threads: u32) -> io::Result<Self> {
        let (requests, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let mut pool = Self {
            requests: Some(requests),
            threads: Vec::new(),
            replies: VecDeque::new(),
            spare: Vec::new(),
        };
        for _ in 0..threads {
            let receiver = Arc::clone(&receiver);
            let thread = thread::Builder::new().name("gzip".to_owned());
            pool.threads.push(thread.spawn(move || run_worker(&receiver, Deflate::new(level)))?);
        }
        Ok(pool)
    }

    /// Sends the block to the threads and replaces it by an empty buffer.
    fn send(&mut self, block: &mut Vec<u8>, is_last: bool) {
        let spare = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES));
        let block = std::mem::replace(block, spare);
        let (reply, receiver) = mpsc::sync_channel(1);
        if let Some(requests) = &self.requests {
            // If all threads have ended, the missing reply is the error.
            drop(requests.send(Request { block, is_last, reply }));
        }
        self.replies.push_back(receiver);
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.requests = None;
        for thread in self.threads.drain(..) {
            // A panic of the thread was reported as an error of its file.
            drop(thread.join());
        }
    }
}

fn run_worker(receiver: &Mutex<mpsc::Receiver<Request>>, mut deflate: Deflate) {
    loop {
        let request = receiver.lock().recv();
        let Ok(Request { block, is_last, reply }) = request else { return };
        let packed = deflate.pack(&block, is_last).map(<[u8]>::to_vec);
        let crc = libdeflater::crc32(&block);
        // The reply for an unfinished file has no receiver.
        drop(reply.send(Reply { packed, crc, block }));
    }
}
