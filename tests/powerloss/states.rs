//! The states in which a power loss can leave the disks.

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::{
    disk::{Op, Pages, parts},
    known::{Known, lines},
    prove::Random,
    record::Recording,
};

/// What becomes of the writes that no flush covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Every one is on the disk.
    All,
    /// None is.
    None,
    /// Some are, whole.
    Some,
    /// Some pages of some are.
    Torn,
}

impl Pending {
    pub const ALL: [Self; 4] = [Self::All, Self::None, Self::Some, Self::Torn];
}

/// What a power loss left, and what was known when it came.
#[derive(Clone, Debug)]
pub struct State {
    /// How many operations had happened.
    pub at: usize,
    pub pending: Pending,
    pub disks: Vec<Pages>,
    /// What is left of the events file.
    pub events: Vec<u8>,
    pub known: Known,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} operations, {:?} of the pending writes", self.at, self.pending)
    }
}

/// Goes through a recording from its begin to its end, and rebuilds states on the way.
pub struct Replay<'a> {
    recording: &'a Recording,
    at: usize,
    /// What has survived for certain, of each disk.
    durable: Vec<Pages>,
    /// The writes since each disk's last flush.
    pending: Vec<Vec<(u64, Arc<[u8]>)>>,
    events: Vec<u8>,
    events_synced: usize,
    known: Known,
    seen: HashSet<u64>,
    random: Random,
}

impl<'a> Replay<'a> {
    pub fn new(recording: &'a Recording, seed: u64) -> Self {
        Self {
            recording,
            at: 0,
            durable: recording.base.clone(),
            pending: vec![Vec::new(); recording.base.len()],
            events: recording.base_events.clone(),
            events_synced: recording.base_events.len(),
            known: recording.known.clone(),
            seen: HashSet::new(),
            random: Random::new(seed),
        }
    }

    /// Lets everything before operation `at` happen.
    pub fn go_to(&mut self, at: usize) {
        while self.at < at {
            let recording = self.recording;
            self.happen(&recording.ops[self.at]);
            self.at += 1;
        }
    }

    fn happen(&mut self, op: &Op<crate::known::Mark>) {
        match op {
            Op::Write { disk, offset, data } => {
                self.pending[*disk].push((*offset, Arc::clone(data)));
            }
            Op::Flush { disk } => {
                for (offset, data) in self.pending[*disk].drain(..) {
                    self.durable[*disk].write(offset, &data);
                }
            }
            Op::Event(bytes) => {
                self.events.extend(bytes);
                self.known.lines.extend(lines(bytes));
            }
            Op::EventCut(length) => {
                self.events.truncate(*length);
                self.events_synced = self.events_synced.min(*length);
            }
            Op::EventSync => self.events_synced = self.events.len(),
            Op::Mark(mark) => self.known.mark(mark),
        }
    }

    /// The state of this kind here; None where it is one that was given before.
    pub fn state(&mut self, pending: Pending) -> Option<State> {
        let disks = (0..self.durable.len()).map(|disk| self.disk(disk, pending)).collect();
        let (synced, written) = (self.events_synced, self.events.len());
        let survived = match pending {
            Pending::All => written,
            Pending::None => synced,
            Pending::Some | Pending::Torn => {
                synced
                    + usize::try_from(self.random.below((written - synced) as u64 + 1))
                        .expect("small")
            }
        };
        let state = State {
            at: self.at,
            pending,
            disks,
            events: self.events[..survived].to_vec(),
            known: self.known.clone(),
        };
        self.seen.insert(fingerprint(&state)).then_some(state)
    }

    fn disk(&mut self, disk: usize, which: Pending) -> Pages {
        let mut pages = self.durable[disk].clone();
        let share = 1 + self.random.below(9);
        let random = &mut self.random;
        for (offset, data) in &self.pending[disk] {
            match which {
                Pending::None => {}
                Pending::All => pages.write(*offset, data),
                Pending::Some => {
                    if random.below(10) < share {
                        pages.write(*offset, data);
                    }
                }
                Pending::Torn => {
                    let mut begin = *offset;
                    for (_, _, part) in parts(*offset, data.len()) {
                        let length = part.len() as u64;
                        if random.below(10) < share {
                            pages.write(begin, &data[part]);
                        }
                        begin += length;
                    }
                }
            }
        }
        pages
    }
}

/// Two states are one where the disks, the events and what is known are the same.
fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    for disk in &state.disks {
        for (number, page) in &disk.0 {
            // Unchanged pages are shared, so their address tells; another copy is only another state.
            number.hash(&mut hasher);
            page.hash(&mut hasher);
        }
    }
    state.events.hash(&mut hasher);
    let known = &state.known;
    (known.lines.len(), known.begun.len(), known.durable.len()).hash(&mut hasher);
    known.taken.hash(&mut hasher);
    known
        .begun
        .values()
        .chain(known.durable.values())
        .for_each(|version| version.hash(&mut hasher));
    hasher.finish()
}
