//! Disks that remember every write and every flush, in one order with what was acknowledged.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What a disk writes as a whole or not at all.
pub const PAGE: usize = 4096;

pub type Page = Arc<[u8; PAGE]>;

/// The content of a disk, by page number; a page that is not there is zeros.
#[derive(Clone, Debug, Default)]
pub struct Pages(pub BTreeMap<u64, Page>);

impl Pages {
    /// Reads a disk's content from a file.
    pub fn load(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut pages = BTreeMap::new();
        let mut offset = 0;
        // Holes are passed over: a fresh disk is mostly holes.
        while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(offset)) {
            let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(data))?;
            for number in data / PAGE as u64..end.div_ceil(PAGE as u64) {
                let mut page = [0; PAGE];
                let found = file.read_at(&mut page, number * PAGE as u64)?;
                if page.iter().take(found).any(|byte| *byte != 0) {
                    pages.insert(number, Arc::new(page));
                }
            }
            offset = end;
        }
        Ok(Self(pages))
    }

    /// Makes a file of this content, sparse where it is zeros.
    pub fn store(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(bytes)?;
        for (number, page) in &self.0 {
            file.write_all_at(&page[..], number * PAGE as u64)?;
        }
        Ok(())
    }

    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        for (number, within, part) in parts(offset, buffer.len()) {
            let into = &mut buffer[part];
            match self.0.get(&number) {
                Some(page) => into.copy_from_slice(&page[within..within + into.len()]),
                None => into.fill(0),
            }
        }
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) {
        for (number, within, part) in parts(offset, data.len()) {
            let page = self.0.entry(number).or_insert_with(|| Arc::new([0; PAGE]));
            let data = &data[part];
            Arc::make_mut(page)[within..within + data.len()].copy_from_slice(data);
        }
    }
}

/// The pages that a range covers: number, where in it the range begins, which part of the range.
pub fn parts(offset: u64, length: usize) -> Vec<(u64, usize, std::ops::Range<usize>)> {
    let mut parts = Vec::new();
    let mut done = 0;
    while done < length {
        let at = offset + done as u64;
        let within = usize::try_from(at % PAGE as u64).expect("less than a page");
        let count = (PAGE - within).min(length - done);
        parts.push((at / PAGE as u64, within, done..done + count));
        done += count;
    }
    parts
}

/// One thing that happened, at its place in the one order of all of them.
#[derive(Clone, Debug)]
pub enum Op<M> {
    Write {
        disk: usize,
        offset: u64,
        data: Arc<[u8]>,
    },
    /// All earlier writes of the disk survive from here on.
    Flush {
        disk: usize,
    },
    /// Bytes were appended to the events file: a consumer may have read them.
    Event(Vec<u8>),
    /// The events file was cut to this length.
    EventCut(usize),
    EventSync,
    /// What producers and consumers did.
    Mark(M),
}

/// What is recorded, shared by the disks' server, the producers and the consumers.
#[derive(Debug)]
pub struct Tape<M>(Arc<Mutex<Inner<M>>>);

#[derive(Debug)]
struct Inner<M> {
    /// The disks as they are now.
    disks: Vec<Pages>,
    events: Vec<u8>,
    ops: Vec<Op<M>>,
    /// How long a flush takes.
    latency: Duration,
    /// Where a consumer waits for what was appended to the events file.
    readers: Vec<std::sync::mpsc::Sender<()>>,
}

impl<M> Clone for Tape<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Tape<M> {
    pub fn new() -> Self {
        let (disks, events, ops, latency, readers) = Default::default();
        Self(Arc::new(Mutex::new(Inner { disks, events, ops, latency, readers })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner<M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins again, with this on the disks and in the events file.
    pub fn rewind(&self, disks: Vec<Pages>, events: Vec<u8>) {
        let mut inner = self.inner();
        inner.disks = disks;
        inner.events = events;
        inner.ops.clear();
        inner.readers.clear();
    }

    /// Takes what was recorded.
    pub fn take(&self) -> Vec<Op<M>> {
        std::mem::take(&mut self.inner().ops)
    }

    /// The disks as they are now.
    pub fn disks(&self) -> Vec<Pages> {
        self.inner().disks.clone()
    }

    pub fn mark(&self, mark: M) {
        self.inner().ops.push(Op::Mark(mark));
    }

    pub fn events(&self) -> Vec<u8> {
        self.inner().events.clone()
    }

    /// Gets a message whenever something was appended to the events file.
    pub fn follow(&self) -> std::sync::mpsc::Receiver<()> {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.inner().readers.push(sender);
        receiver
    }

    /// Ends the consumers' waiting.
    pub fn stop_following(&self) {
        self.inner().readers.clear();
    }

    pub fn read_disk(&self, disk: usize, offset: u64, buffer: &mut [u8]) {
        self.inner().disks[disk].read(offset, buffer);
    }

    pub fn write_disk(&self, disk: usize, offset: u64, data: &[u8]) {
        let mut inner = self.inner();
        inner.disks[disk].write(offset, data);
        inner.ops.push(Op::Write { disk, offset, data: data.into() });
    }

    /// From here on a flush takes this long, as on a disk that is one.
    pub fn slow_down(&self, latency: Duration) {
        self.inner().latency = latency;
    }

    pub fn flush_disk(&self, disk: usize) {
        let latency = self.inner().latency;
        if !latency.is_zero() {
            std::thread::sleep(latency);
        }
        self.inner().ops.push(Op::Flush { disk });
    }

    /// What is there already may be written again, in its place.
    pub fn write_events(&self, offset: u64, data: &[u8]) {
        let mut inner = self.inner();
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if at < inner.events.len() {
            let there = inner.events.get(at..).is_some_and(|there| there.starts_with(data));
            assert!(there, "an acknowledged line was overwritten");
            return;
        }
        inner.events.extend(data);
        inner.ops.push(Op::Event(data.to_vec()));
        inner.readers.retain(|reader| reader.send(()).is_ok());
    }

    pub fn cut_events(&self, length: usize) {
        let mut inner = self.inner();
        inner.events.truncate(length);
        inner.ops.push(Op::EventCut(length));
    }

    pub fn sync_events(&self) {
        self.inner().ops.push(Op::EventSync);
    }
}

/// Where the disks' server has its files.
#[derive(Clone, Debug)]
pub struct Served {
    pub root: PathBuf,
}

impl Served {
    pub fn disk(&self, number: usize) -> PathBuf {
        self.root.join(format!("disk{number}"))
    }

    pub fn events(&self) -> PathBuf {
        self.root.join("events")
    }
}
