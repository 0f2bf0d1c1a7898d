//! gzip as members of a fixed size, which are compressed beside one another.
//!
//! A gzip file is a sequence of members, and every reader takes them as one content (RFC 1952,
//! 2.2). Where a member ends is told by the count of bytes alone, so the output is the same for
//! every count of threads and however the input is fed (K1); each member carries its CRC (K2).

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use libdeflater::{CompressionLvl, Compressor};

use super::{Error, link::Next};
use crate::steps::Step;

/// What one member holds: starting anew costs well under a hundredth of the ratio.
const MEMBER_BYTES: usize = 1024 * 1024;
/// Members in work for each thread: one is compressed while the next one waits.
const MEMBERS_QUEUED: usize = 2;

/// Compresses one file after another.
pub struct Gzip {
    step: Step,
    /// What was fed and is not yet a member.
    block: Vec<u8>,
    /// Whether the file has a member: an empty one has an empty member.
    begun: bool,
    work: Work,
}

enum Work {
    /// On the caller's thread.
    Here(Deflate),
    Threads(Pool),
}

/// One thread's compressor.
struct Deflate {
    compressor: Compressor,
    packed: Vec<u8>,
}

impl Deflate {
    fn new(level: CompressionLvl) -> Self {
        Self { compressor: Compressor::new(level), packed: Vec::new() }
    }

    fn member(&mut self, block: &[u8]) -> io::Result<&[u8]> {
        let most = self.compressor.gzip_compress_bound(block.len());
        if self.packed.len() < most {
            self.packed.resize(most, 0);
        }
        let packed = self.compressor.gzip_compress(block, &mut self.packed);
        let length = packed.map_err(io::Error::other)?;
        Ok(self.packed.get(..length).unwrap_or_default())
    }
}

/// One block on its way to a thread. What came of it goes back with the block's buffer.
struct Order {
    block: Vec<u8>,
    reply: mpsc::SyncSender<Reply>,
}

struct Reply {
    packed: io::Result<Vec<u8>>,
    block: Vec<u8>,
}

/// Threads that compress. Dropping it ends them after the members they have in hand.
struct Pool {
    /// `None` only while it is dropped: closing the channel is what ends the threads.
    orders: Option<mpsc::Sender<Order>>,
    threads: Vec<JoinHandle<()>>,
    /// Of the members in work, in the order of the file.
    replies: VecDeque<mpsc::Receiver<Reply>>,
    /// Buffers to use again, never more than there are members in work.
    spare: Vec<Vec<u8>>,
}

impl Gzip {
    pub fn new(step: Step, level: i32, threads: u32) -> Result<Self, Error> {
        let deflate = CompressionLvl::new(level).unwrap_or_default();
        let work = if threads == 0 {
            Work::Here(Deflate::new(deflate))
        } else {
            let pool = Pool::new(deflate, threads);
            Work::Threads(pool.map_err(|source| Error::Encode { step, source })?)
        };
        Ok(Self { step, block: Vec::new(), begun: false, work })
    }

    pub fn start(&mut self) {
        self.block.clear();
        self.begun = false;
        if let Work::Threads(pool) = &mut self.work {
            // Members of a file that was left: nobody wants them any more.
            pool.replies.clear();
        }
    }

    pub fn feed(&mut self, mut bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error> {
        while !bytes.is_empty() {
            let room = MEMBER_BYTES - self.block.len();
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.block.extend_from_slice(now);
            bytes = rest;
            if self.block.len() == MEMBER_BYTES {
                self.end_block(next)?;
            }
        }
        Ok(())
    }

    pub fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        if !self.block.is_empty() || !self.begun {
            self.end_block(next)?;
        }
        if let Work::Threads(pool) = &mut self.work {
            while let Some(reply) = pool.replies.pop_front() {
                pool.pass(self.step, &reply, next)?;
            }
        }
        Ok(())
    }

    fn end_block(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        self.begun = true;
        match &mut self.work {
            Work::Here(deflate) => {
                let packed = deflate.member(&self.block);
                next(packed.map_err(|source| Error::Encode { step: self.step, source })?)?;
                self.block.clear();
            }
            Work::Threads(pool) => {
                if pool.replies.len() >= pool.threads.len() * MEMBERS_QUEUED
                    && let Some(reply) = pool.replies.pop_front()
                {
                    pool.pass(self.step, &reply, next)?;
                }
                pool.order(&mut self.block);
            }
        }
        Ok(())
    }
}

impl Pool {
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
            pool.threads.push(thread.spawn(move || work(&waiting, Deflate::new(level)))?);
        }
        Ok(pool)
    }

    /// Hands the block to the threads and leaves an empty one in its place.
    fn order(&mut self, block: &mut Vec<u8>) {
        let next = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(MEMBER_BYTES));
        let block = std::mem::replace(block, next);
        let (reply, receiver) = mpsc::sync_channel(1);
        if let Some(orders) = &self.orders {
            // Where all threads are gone the reply is missing, and that is the error.
            drop(orders.send(Order { block, reply }));
        }
        self.replies.push_back(receiver);
    }

    /// Waits for one member and passes it on.
    fn pass(
        &mut self,
        step: Step,
        reply: &mpsc::Receiver<Reply>,
        next: &mut Next<'_>,
    ) -> Result<(), Error> {
        let failed = |source| Error::Encode { step, source };
        let gone = |_| failed(io::Error::other("a thread that compresses has ended"));
        let Reply { packed, mut block } = reply.recv().map_err(gone)?;
        block.clear();
        self.spare.push(block);
        next(&packed.map_err(failed)?)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.orders = None;
        for thread in self.threads.drain(..) {
            // A panic of it was an error of its file already.
            drop(thread.join());
        }
    }
}

fn work(waiting: &Mutex<mpsc::Receiver<Order>>, mut deflate: Deflate) {
    loop {
        let order = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Order { block, reply }) = order else { return };
        let packed = deflate.member(&block).map(<[u8]>::to_vec);
        // A file that was left takes no reply.
        drop(reply.send(Reply { packed, block }));
    }
}
