//! The transformers, each lent for one file, and the memory that they take together.
//!
//! One that comes back is kept for the next file: making a zstd context anew costs as much as
//! compressing a small file. It is given up when its memory is wanted for another.
//!
//! M1: all that are lent or kept fit into the limit, but a pipeline always gets one for a small file
//! and one for a large one: it never waits for another pipeline, which may hang.

use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::clock::Clock;
use crate::{
    codec::{self, Transformer},
    config,
    transforms::memory::Need,
};

/// The memory of the transformers of all pipelines.
#[derive(Debug)]
pub struct CodecMemory {
    limit: u64,
    owners: AtomicU64,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of those that are lent and of those that are kept.
    taken: u64,
    lent: Vec<TransformerKind>,
    kept: Vec<IdleTransformer>,
}

/// Transformers of a kind are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TransformerKind {
    owner: u64,
    /// As of [`Transformer::new`].
    threads: u32,
}

impl TransformerKind {
    const fn is_large(self) -> bool {
        self.threads > 0
    }

    fn is_beside(self, other: Self) -> bool {
        self.owner == other.owner && self.is_large() == other.is_large()
    }
}

#[derive(Debug)]
struct IdleTransformer {
    kind: TransformerKind,
    bytes: u64,
    transformer: Transformer,
}

impl CodecMemory {
    /// `limit` is in bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        let (owners, state) = (AtomicU64::default(), Mutex::default());
        Arc::new(Self { limit, owners, state, returned: Condvar::new() })
    }

    /// The transformers of one more pipeline.
    #[must_use]
    pub fn pipeline(self: &Arc<Self>) -> Arc<Codecs> {
        let owner = self.owners.fetch_add(1, Ordering::Relaxed);
        Arc::new(Codecs { memory: Arc::clone(self), owner })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the memory for one more, with as many of the threads as there is memory for, or one that was
    /// kept. Waits for others to come back where neither is to be had.
    fn take(
        &self,
        asked: TransformerKind,
        bytes: impl Fn(u32) -> u64,
    ) -> (TransformerKind, u64, Option<Transformer>) {
        let mut state = self.state();
        let least = asked.threads.min(1);
        loop {
            let free = self.limit.saturating_sub(state.lent_bytes());
            let fits = |threads: &u32| bytes(*threads) <= free;
            let fitting = (least..=asked.threads).rev().find(fits);
            let is_first = !state.lent.iter().any(|lent| lent.is_beside(asked));
            if let Some(threads) = fitting.or(is_first.then_some(least)) {
                let (kind, bytes) = (TransformerKind { threads, ..asked }, bytes(threads));
                state.lent.push(kind);
                if let Some(at) = state.kept.iter().rposition(|kept| kept.kind == kind) {
                    return (kind, bytes, Some(state.kept.remove(at).transformer));
                }
                state.discard(self.limit.saturating_sub(bytes), kind);
                state.taken += bytes;
                return (kind, bytes, None);
            }
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give_back(&self, kind: TransformerKind, bytes: u64, transformer: Option<Transformer>) {
        let mut state = self.state();
        if let Some(at) = state.lent.iter().position(|lent| *lent == kind) {
            state.lent.swap_remove(at);
        }
        // One that was made although there was no room is not kept.
        let is_kept = state.taken <= self.limit;
        match transformer {
            Some(transformer) if is_kept => {
                state.kept.push(IdleTransformer { kind, bytes, transformer });
            }
            freed => {
                drop(freed);
                state.taken -= bytes;
            }
        }
        drop(state);
        self.returned.notify_all();
    }
}

impl State {
    fn lent_bytes(&self) -> u64 {
        self.taken - self.kept.iter().map(|kept| kept.bytes).sum::<u64>()
    }

    /// Frees what is kept until no more than this is taken: first those that are of no use beside one
    /// of this kind, then the oldest.
    fn discard(&mut self, most: u64, kind: TransformerKind) {
        while self.taken > most {
            let of_no_use = self.kept.iter().position(|kept| kept.kind.is_beside(kind));
            if self.kept.is_empty() {
                return;
            }
            self.taken -= self.kept.remove(of_no_use.unwrap_or(0)).bytes;
        }
    }
}

/// The transformers of one pipeline. Dropping the last handle frees those that are kept.
#[derive(Debug)]
pub struct Codecs {
    memory: Arc<CodecMemory>,
    owner: u64,
}

impl Codecs {
    /// Calls `work` with a transformer that is ready for a new file, or with the error that it could not
    /// be made. Waits while this pipeline's other files use the memory, never for another pipeline. Of
    /// the `threads` that are requested, as of [`Transformer::new`], it gets as many as the free memory
    /// allows, and at least one: the output is the same for every count.
    pub fn lend<T>(
        &self,
        config: &config::Pipeline,
        threads: u32,
        clock: &mut Clock,
        work: impl FnOnce(Result<&mut Transformer, codec::Error>, &mut Clock) -> T,
    ) -> T {
        let limit = self.memory.limit;
        let need = Need::within(&config.transforms, config.bounds, limit);
        let bytes = |threads| if threads == 0 { need.bytes(0) } else { need.of_large(threads) };
        let asked = TransformerKind { owner: self.owner, threads };
        let (kind, bytes, kept) = clock.wait(|| self.memory.take(asked, bytes));
        let mut loan = Loan { memory: &self.memory, kind, bytes, transformer: None };
        let made = match kept {
            Some(kept) => Ok(kept),
            None => Transformer::new(&config.transforms, need.bounds(), kind.threads),
        };
        match made {
            Err(error) => work(Err(error), clock),
            Ok(mut transformer) => {
                transformer.start();
                let done = work(Ok(&mut transformer), clock);
                loan.transformer = Some(transformer);
                done
            }
        }
    }
}

impl Drop for Codecs {
    fn drop(&mut self) {
        let mut state = self.memory.state();
        let own = |kept: &mut IdleTransformer| kept.kind.owner == self.owner;
        let freed: Vec<IdleTransformer> = state.kept.extract_if(.., own).collect();
        state.taken -= freed.iter().map(|kept| kept.bytes).sum::<u64>();
        drop(state);
        self.memory.returned.notify_all();
    }
}

/// The memory of one transformer, given back when this is dropped, also by a panic; with the
/// transformer where it may be kept.
struct Loan<'a> {
    memory: &'a CodecMemory,
    kind: TransformerKind,
    bytes: u64,
    transformer: Option<Transformer>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.memory.give_back(self.kind, self.bytes, self.transformer.take());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{atomic::AtomicBool, mpsc},
        thread,
    };

    use super::*;
    use crate::{observe::Observer, stage::Stage};

    const MIB: u64 = 1 << 20;

    fn config(transforms: &str) -> config::Pipeline {
        let dir = tempfile::tempdir().expect("a directory");
        let (input, output) = (dir.path().join("in"), dir.path().join("out"));
        let pipeline = config::PipelineOptions {
            input: Some(input),
            output: Some(output),
            transforms: Some(transforms.to_owned()),
            ..config::PipelineOptions::default()
        };
        let options = config::Options { pipeline, ..config::Options::default() };
        config::resolve(&options).expect(transforms).pipelines.remove(0)
    }

    fn clock() -> Clock {
        let observer = Observer::new(&[Arc::from("main")], &[]);
        Clock::start(&observer.pipeline(0).expect("the only one"), Stage::Transform)
    }

    fn taken(memory: &CodecMemory) -> u64 {
        memory.state().taken
    }

    #[test]
    fn one_that_comes_back_is_used_again_and_given_up_for_another() {
        let memory = CodecMemory::new(64 * MIB);
        let (one, other) = (memory.pipeline(), memory.pipeline());
        let config = config("bzip2");
        for _ in 0..3 {
            one.lend(&config, 0, &mut clock(), |made, _| {
                made.expect("made");
            });
        }
        let of_one = taken(&memory);
        assert!(of_one > 0 && memory.state().kept.len() == 1, "{of_one}");
        let mut kept = 1;
        for pipeline in [&one, &other, &one, &other] {
            pipeline.lend(&config, 1, &mut clock(), |made, _| {
                made.expect("made");
            });
            kept = kept.max(memory.state().kept.len());
            assert!(taken(&memory) <= 64 * MIB);
        }
        assert!(kept > 1, "nothing was kept beside another");
        drop(one);
        drop(other);
        assert_eq!(taken(&memory), 0, "memory of pipelines that have ended");
    }

    /// The second large file of a pipeline waits for the first one's memory; another pipeline's first
    /// one does not, whatever the limit.
    #[test]
    fn a_pipeline_waits_for_itself_and_for_no_other() {
        let memory = CodecMemory::new(16 * MIB);
        let (one, other) = (memory.pipeline(), memory.pipeline());
        let config = config("bzip2");
        let is_out = AtomicBool::new(false);
        let (begun, begins) = mpsc::channel();
        let second = || {
            begun.send(()).expect("somebody waits");
            one.lend(&config, 1, &mut clock(), |_, _| is_out.load(Ordering::Relaxed))
        };
        thread::scope(|scope| {
            let second = one.lend(&config, 1, &mut clock(), |made, _| {
                made.expect("made");
                let second = scope.spawn(second);
                begins.recv().expect("it begins");
                other.lend(&config, 1, &mut clock(), |made, _| {
                    made.expect("made");
                });
                is_out.store(true, Ordering::Relaxed);
                second
            });
            assert!(second.join().expect("the second one"), "two of one pipeline at a time");
        });
        assert!(taken(&memory) <= 16 * MIB);
    }

    /// It waited for the memory of all the threads that it had asked for.
    #[test]
    fn one_gets_the_threads_that_there_is_memory_for() {
        let config = config("zstd:19");
        let need = Need::within(&config.transforms, config.bounds, u64::MAX);
        let memory = CodecMemory::new(need.of_large(2) + need.of_large(1));
        let pipeline = memory.pipeline();
        let threads = || memory.state().lent.iter().map(|kind| kind.threads).collect::<Vec<_>>();
        pipeline.lend(&config, 2, &mut clock(), |made, _| {
            made.expect("made");
            pipeline.lend(&config, 8, &mut clock(), |made, _| {
                made.expect("made");
                assert_eq!(threads(), [2, 1]);
            });
        });
        assert!(taken(&memory) <= memory.limit);
    }

    #[test]
    fn a_panic_and_one_that_cannot_be_made_give_the_memory_back() {
        let memory = CodecMemory::new(64 * MIB);
        let codecs = memory.pipeline();
        let config = config("bzip2");
        let panics = || codecs.lend(&config, 0, &mut clock(), |_, _| panic!("in a codec"));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).expect_err("it panics");
        assert_eq!(taken(&memory), 0);
        assert!(memory.state().lent.is_empty());
    }
}
