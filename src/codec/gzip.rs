//! gzip on several threads, as one member that every reader takes; or as one for each block, where that
//! is asked for.
//!
//! A file is cut into blocks of a fixed size, each is deflated by itself, and the streams are joined:
//! the mark of each one's last block is cleared, and an empty stored block brings the next one to a
//! whole byte, as pigz does. One trailer has the CRC of all. Where a block ends is told by the count of
//! bytes alone, so the output is the same for every count of threads and however the input is fed (K1);
//! the member carries its CRC (K2).

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use libdeflater::{CompressionLvl, Compressor};

use super::{Error, deflate::Scanner, next::Next};
use crate::transforms::Transform;

/// What is deflated at one time: starting anew costs well under a hundredth of the ratio.
const BLOCK_BYTES: usize = 1024 * 1024;
/// Blocks in work for each thread: one is compressed while the next one waits.
const BLOCKS_QUEUED: usize = 2;
/// A member without a name or a time (RFC 1952, 2.3), of an unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// What is left of an empty stored block after its first three bits and the padding.
const EMPTY_STORED: [u8; 4] = [0, 0, 0xff, 0xff];

/// Compresses one file after another.
pub struct Gzip {
    transform: Transform,
    /// What was fed and is not yet compressed.
    block: Vec<u8>,
    /// Of what was passed on.
    crc: crc32fast::Hasher,
    header: Option<[u8; 10]>,
    level: i32,
    /// Each block is a member.
    members: bool,
    /// A block of this file was handed on.
    begun: bool,
    work: Work,
}

enum Work {
    /// On the caller's thread.
    Here(Deflate),
    Threads(WorkerPool),
}

/// One thread's compressor.
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
        let most = self.compressor.deflate_compress_bound(block.len()) + 1 + EMPTY_STORED.len();
        self.packed.resize(most, 0);
        let length = self.compressor.deflate_compress(block, &mut self.packed);
        self.packed.truncate(length.map_err(io::Error::other)?);
        if !is_last {
            self.open_end()?;
        }
        Ok(&self.packed)
    }

    /// Makes of a whole stream one that another can follow.
    fn open_end(&mut self) -> io::Result<()> {
        let broken = || io::Error::other("libdeflate made a stream that is none");
        let last = self.scanner.last_block(&self.packed).ok_or_else(broken)?;
        let first = self.packed.get_mut(last.begins / 8).ok_or_else(broken)?;
        *first &= !(1 << (last.begins % 8));
        if last.ends.div_ceil(8) != self.packed.len() {
            return Err(broken());
        }
        // The three bits of the empty block's header are zeros, as are those after the end.
        let free = self.packed.len() * 8 - last.ends;
        if free < 3 {
            self.packed.push(0);
        }
        self.packed.extend(EMPTY_STORED);
        Ok(())
    }
}

/// One block on its way to a thread. What came of it goes back with the block's buffer.
struct Order {
    block: Vec<u8>,
    is_last: bool,
    reply: mpsc::SyncSender<Reply>,
}

struct Reply {
    packed: io::Result<Vec<u8>>,
    crc: u32,
    block: Vec<u8>,
}

/// Threads that compress. Dropping it ends them after the blocks they have in hand.
struct WorkerPool {
    /// `None` only while it is dropped: closing the channel is what ends the threads.
    orders: Option<mpsc::Sender<Order>>,
    threads: Vec<JoinHandle<()>>,
    /// Of the blocks in work, in the order of the file.
    replies: VecDeque<mpsc::Receiver<Reply>>,
    /// Buffers to use again, never more than there are blocks in work.
    spare: Vec<Vec<u8>>,
}

impl Gzip {
    pub fn new(
        transform: Transform,
        (level, members): (i32, bool),
        threads: u32,
    ) -> Result<Self, Error> {
        let deflate = CompressionLvl::new(level).unwrap_or_default();
        let work = if threads == 0 {
            Work::Here(Deflate::new(deflate))
        } else {
            let pool = WorkerPool::new(deflate, threads);
            Work::Threads(pool.map_err(|source| Error::Encode { transform, source })?)
        };
        let crc = crc32fast::Hasher::new();
        Ok(Self {
            transform,
            block: Vec::new(),
            crc,
            header: None,
            level,
            members,
            begun: false,
            work,
        })
    }

    pub fn start(&mut self) {
        self.block.clear();
        self.crc.reset();
        self.header = Some(header(self.level));
        self.begun = false;
        if let Work::Threads(pool) = &mut self.work {
            // Blocks of a file that was left: nobody wants them any more.
            pool.replies.clear();
        }
    }

    pub fn feed(&mut self, mut bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error> {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - self.block.len();
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.block.extend_from_slice(now);
            bytes = rest;
            if self.block.len() == BLOCK_BYTES {
                self.end_block(false, next)?;
            }
        }
        Ok(())
    }

    pub fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        // One stream needs its last block; of members there may be enough.
        if !(self.members && self.begun && self.block.is_empty()) {
            self.end_block(true, next)?;
        }
        while self.take_reply(next)? {}
        if self.members { Ok(()) } else { self.end_member(next) }
    }

    fn end_member(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        let crc = self.crc.clone().finalize();
        // The length is modulo 2^32 (RFC 1952, 2.3.1).
        let [a, b, c, d, ..] = self.crc.total_len().to_le_bytes();
        next(&[&crc.to_le_bytes()[..], &[a, b, c, d]].concat())
    }

    fn end_block(&mut self, is_last: bool, next: &mut Next<'_>) -> Result<(), Error> {
        self.begun = true;
        let is_last = is_last || self.members;
        match &mut self.work {
            Work::Here(deflate) => {
                let packed = deflate.pack(&self.block, is_last);
                let packed =
                    packed.map_err(|source| Error::Encode { transform: self.transform, source })?;
                let crc = libdeflater::crc32(&self.block);
                pass((&mut self.header, &mut self.crc), packed, (crc, self.block.len()), next)?;
                self.block.clear();
                self.next_member(next)?;
            }
            Work::Threads(pool) => {
                let is_full = pool.replies.len() >= pool.threads.len() * BLOCKS_QUEUED;
                if is_full {
                    self.take_reply(next)?;
                }
                if let Work::Threads(pool) = &mut self.work {
                    pool.order(&mut self.block, is_last);
                }
            }
        }
        Ok(())
    }

    /// Waits for the oldest block in work and passes it on. Says whether there was one.
    fn take_reply(&mut self, next: &mut Next<'_>) -> Result<bool, Error> {
        let transform = self.transform;
        let failed = |source| Error::Encode { transform, source };
        let Work::Threads(pool) = &mut self.work else { return Ok(false) };
        let Some(reply) = pool.replies.pop_front() else { return Ok(false) };
        let gone = |_| failed(io::Error::other("a thread that compresses has ended"));
        let Reply { packed, crc, mut block } = reply.recv().map_err(gone)?;
        let packed = packed.map_err(failed)?;
        pass((&mut self.header, &mut self.crc), &packed, (crc, block.len()), next)?;
        block.clear();
        pool.spare.push(block);
        self.next_member(next)?;
        Ok(true)
    }

    /// Where each block is a member, it ends here, and the next one begins with a header.
    fn next_member(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        if self.members {
            self.end_member(next)?;
            self.crc.reset();
            self.header = Some(header(self.level));
        }
        Ok(())
    }
}

/// Of the level, a header says only whether it was the fastest or the slowest.
const fn header(level: i32) -> [u8; 10] {
    let mut header = HEADER;
    header[8] = match level {
        8.. => 2,
        2..8 => 0,
        _ => 4,
    };
    header
}

/// Passes a block on, after the header where it is the first, and adds its checksum to the file's.
fn pass(
    (header, all): (&mut Option<[u8; 10]>, &mut crc32fast::Hasher),
    packed: &[u8],
    (crc, length): (u32, usize),
    next: &mut Next<'_>,
) -> Result<(), Error> {
    all.combine(&crc32fast::Hasher::new_with_initial_len(crc, length as u64));
    if let Some(header) = header.take() {
        next(&header)?;
    }
    next(packed)
}

impl WorkerPool {
    fn new(level: CompressionLvl, threads: u32) -> io::Result<Self> {
        let (orders, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let mut pool = Self {
            orders: Some(orders),
            threads: Vec::new(),
            replies: VecDeque::new(),
            spare: Vec::new(),
        };
        for _ in 0..threads {
            let waiting = Arc::clone(&waiting);
            let thread = thread::Builder::new().name("gzip".to_owned());
            pool.threads.push(thread.spawn(move || run_worker(&waiting, Deflate::new(level)))?);
        }
        Ok(pool)
    }

    /// Hands the block to the threads and leaves an empty one in its place.
    fn order(&mut self, block: &mut Vec<u8>, is_last: bool) {
        let next = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES));
        let block = std::mem::replace(block, next);
        let (reply, receiver) = mpsc::sync_channel(1);
        if let Some(orders) = &self.orders {
            // Where all threads are gone the reply is missing, and that is the error.
            drop(orders.send(Order { block, is_last, reply }));
        }
        self.replies.push_back(receiver);
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.orders = None;
        for thread in self.threads.drain(..) {
            // A panic of it was an error of its file already.
            drop(thread.join());
        }
    }
}

fn run_worker(waiting: &Mutex<mpsc::Receiver<Order>>, mut deflate: Deflate) {
    loop {
        let order = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Order { block, is_last, reply }) = order else { return };
        let packed = deflate.pack(&block, is_last).map(<[u8]>::to_vec);
        let crc = libdeflater::crc32(&block);
        // A file that was left takes no reply.
        drop(reply.send(Reply { packed, crc, block }));
    }
}
