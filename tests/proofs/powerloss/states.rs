//! The states in which a power loss can leave the disks.

use std::{collections::HashSet, fmt, sync::Arc};

use crate::{
    powerloss::{
        disk::{Op, Pages, parts},
        known::{Known, lines},
        record::Recording,
    },
    prove::Random,
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
    seen: HashSet<[u8; 32]>,
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

    fn happen(&mut self, op: &Op<crate::powerloss::known::Mark>) {
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
        self.seen.insert(fingerprint(&self.recording.base, &state)).then_some(state)
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
fn fingerprint(base: &[Pages], state: &State) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (base, disk) in base.iter().zip(&state.disks) {
        hasher.update(b"disk");
        for (number, page) in &disk.0 {
            // What was never written is shared with the begin.
            if !base.0.get(number).is_some_and(|base| Arc::ptr_eq(base, page)) {
                hasher.update(&number.to_le_bytes()).update(&page[..]);
            }
        }
    }
    let known = &state.known;
    let marks =
        format!("{:?}{:?}{:?}{}", known.begun, known.durable, known.taken, known.lines.len());
    hasher.update(b"events").update(&state.events).update(b"known").update(marks.as_bytes());
    *hasher.finalize().as_bytes()
}
