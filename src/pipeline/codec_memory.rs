//! The transformers, each lent for one file, and their total memory.
//!
//! A returned transformer is kept for the next file: creating a zstd context costs as much as
//! compressing a small file. It is freed when another transformer needs its memory.
//!
//! M1: all lent and idle transformers fit into the limit, but a pipeline always gets one for a small
//! file and one for a large file: it never waits for another pipeline, which may hang.

use std::{
    path::Path,
    sync::{
        Arc, Condvar, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use super::clock::Clock;
use crate::{
    config,
    sync::{self, Mutex},
    transforms::{self, Transformer},
};

/// The memory of the transformers of all pipelines.
#[derive(Debug)]
pub struct CodecMemory {
    /// Bytes for all transformers.
    limit: u64,
    /// The number of pipelines so far, which is the next owner's ID.
    owners: AtomicU64,
    state: Mutex<State>,
    /// Notified when memory was returned.
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of all lent and idle transformers.
    taken: u64,
    lent: Vec<TransformerKind>,
    idle: Vec<IdleTransformer>,
}

/// Transformers of one kind are interchangeable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TransformerKind {
    /// The pipeline's ID.
    owner: u64,
    /// The threads of [`Transformer::new`]; 0 is for small files.
    threads: u32,
}

impl TransformerKind {
    const fn is_large(self) -> bool {
        self.threads > 0
    }

    /// Checks whether both serve the same pipeline and the same size of files.
    fn has_same_use(self, other: Self) -> bool {
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

    /// Adds a pipeline and returns its transformers.
    #[must_use]
    pub fn pipeline(self: &Arc<Self>) -> Arc<Codecs> {
        let owner = self.owners.fetch_add(1, Ordering::Relaxed);
        Arc::new(Codecs { memory: Arc::clone(self), owner })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Takes an idle transformer, or the memory for a new one with as many of the requested threads as
    /// fit. Waits for memory if neither is available.
    fn take(
        &self,
        request: TransformerKind,
        bytes: impl Fn(u32) -> u64,
    ) -> (TransformerKind, u64, Option<Transformer>) {
        let mut state = self.state();
        let threads_min = request.threads.min(1);
        loop {
            let free = self.limit.saturating_sub(state.lent_bytes());
            let fits = |threads: &u32| bytes(*threads) <= free;
            let fitting = (threads_min..=request.threads).rev().find(fits);
            let is_first = !state.lent.iter().any(|lent| lent.has_same_use(request));
            if let Some(threads) = fitting.or(is_first.then_some(threads_min)) {
                let (kind, bytes) = (TransformerKind { threads, ..request }, bytes(threads));
                state.lent.push(kind);
                if let Some(position) = state.idle.iter().rposition(|idle| idle.kind == kind) {
                    return (kind, bytes, Some(state.idle.remove(position).transformer));
                }
                state.discard(self.limit.saturating_sub(bytes), kind);
                state.taken += bytes;
                return (kind, bytes, None);
            }
            state = sync::wait(&self.returned, state);
        }
    }

    fn put_back(&self, kind: TransformerKind, bytes: u64, transformer: Option<Transformer>) {
        let mut state = self.state();
        if let Some(position) = state.lent.iter().position(|lent| *lent == kind) {
            state.lent.swap_remove(position);
        }
        // A transformer over the limit is not kept.
        let is_kept = state.taken <= self.limit;
        match transformer {
            Some(transformer) if is_kept => {
                state.idle.push(IdleTransformer { kind, bytes, transformer });
            }
            transformer => {
                drop(transformer);
                state.taken -= bytes;
            }
        }
        drop(state);
        self.returned.notify_all();
    }
}

impl State {
    fn lent_bytes(&self) -> u64 {
        self.taken - self.idle.iter().map(|idle| idle.bytes).sum::<u64>()
    }

    /// Frees idle transformers until at most `limit` bytes are taken: first those with the same use as
    /// one of this kind, then the oldest.
    fn discard(&mut self, limit: u64, kind: TransformerKind) {
        while self.taken > limit {
            let same_use = self.idle.iter().position(|idle| idle.kind.has_same_use(kind));
            if self.idle.is_empty() {
                return;
            }
            self.taken -= self.idle.remove(same_use.unwrap_or(0)).bytes;
        }
    }
}

/// The transformers of one pipeline. Dropping the last handle frees the idle ones.
#[derive(Debug)]
pub struct Codecs {
    memory: Arc<CodecMemory>,
    owner: u64,
}

impl Codecs {
    /// Calls `work` with a transformer that is ready for `source`, or with the error of its creation.
    /// Waits while this pipeline's other files use the memory, never for another pipeline. Of the
    /// requested `threads`, as of [`Transformer::new`], it gets as many as the free memory allows, and at
    /// least one: the output is the same for every count.
    pub fn lend<T>(
        &self,
        (config, source): (&config::Pipeline, &Path),
        threads: u32,
        clock: &mut Clock,
        work: impl FnOnce(Result<&mut Transformer, transforms::Error>, &mut Clock) -> T,
    ) -> T {
        let limit = self.memory.limit;
        let need = config.memory_need(limit);
        let bytes = |threads| if threads == 0 { need.bytes(0) } else { need.of_large(threads) };
        let request = TransformerKind { owner: self.owner, threads };
        let (kind, bytes, idle) = clock.wait(|| self.memory.take(request, bytes));
        let mut loan = Loan { memory: &self.memory, kind, bytes, transformer: None };
        let transformer = match idle {
            Some(transformer) => Ok(transformer),
            None => Transformer::new(&config.transforms, need.bounds(), kind.threads)
                .and_then(|made| if config.keys.verify { made.with_verifier() } else { Ok(made) }),
        };
        match transformer {
            Err(error) => work(Err(error), clock),
            Ok(mut transformer) => {
                transformer.start(source);
                let result = work(Ok(&mut transformer), clock);
                loan.transformer = (!transformer.is_suspect()).then_some(transformer);
                result
            }
        }
    }
}

impl Drop for Codecs {
    fn drop(&mut self) {
        let mut state = self.memory.state();
        let is_own = |idle: &mut IdleTransformer| idle.kind.owner == self.owner;
        let freed: Vec<IdleTransformer> = state.idle.extract_if(.., is_own).collect();
        state.taken -= freed.iter().map(|idle| idle.bytes).sum::<u64>();
        drop(state);
        self.memory.returned.notify_all();
    }
}

/// The memory of one lent transformer. Dropping it, also by a panic, returns the memory.
struct Loan<'a> {
    memory: &'a CodecMemory,
    kind: TransformerKind,
    bytes: u64,
    /// The transformer to be kept; set after the work.
    transformer: Option<Transformer>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.memory.put_back(self.kind, self.bytes, self.transformer.take());
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
    const SOURCE: &str = "a";

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
    fn a_returned_transformer_is_used_again_and_freed_for_another() {
        let memory = CodecMemory::new(64 * MIB);
        let (first, second) = (memory.pipeline(), memory.pipeline());
        let config = config("bzip2");
        for _ in 0..3 {
            first.lend((&config, SOURCE.as_ref()), 0, &mut clock(), |transformer, _| {
                transformer.expect("a transformer");
            });
        }
        let bytes = taken(&memory);
        assert!(bytes > 0 && memory.state().idle.len() == 1, "{bytes}");
        let mut idle_max = 1;
        for pipeline in [&first, &second, &first, &second] {
            pipeline.lend((&config, SOURCE.as_ref()), 1, &mut clock(), |transformer, _| {
                transformer.expect("a transformer");
            });
            idle_max = idle_max.max(memory.state().idle.len());
            assert!(taken(&memory) <= 64 * MIB);
        }
        assert!(idle_max > 1, "no two transformers were idle together");
        drop(first);
        drop(second);
        assert_eq!(taken(&memory), 0, "memory of pipelines that have ended");
    }

    /// The second large file of a pipeline waits for the memory of the first one; the first large file
    /// of another pipeline does not, whatever the limit.
    #[test]
    fn a_pipeline_waits_for_its_own_files_only() {
        let memory = CodecMemory::new(16 * MIB);
        let (codecs, other_codecs) = (memory.pipeline(), memory.pipeline());
        let config = config("bzip2");
        let is_finished = AtomicBool::new(false);
        let (started, wait_for_start) = mpsc::channel();
        let second = || {
            started.send(()).expect("the receiver waits");
            codecs.lend((&config, SOURCE.as_ref()), 1, &mut clock(), |_, _| {
                is_finished.load(Ordering::Relaxed)
            })
        };
        thread::scope(|scope| {
            let second =
                codecs.lend((&config, SOURCE.as_ref()), 1, &mut clock(), |transformer, _| {
                    transformer.expect("a transformer");
                    let second = scope.spawn(second);
                    wait_for_start.recv().expect("the second thread starts");
                    other_codecs.lend(
                        (&config, SOURCE.as_ref()),
                        1,
                        &mut clock(),
                        |transformer, _| {
                            transformer.expect("a transformer");
                        },
                    );
                    is_finished.store(true, Ordering::Relaxed);
                    second
                });
            assert!(second.join().expect("the second file"), "two of one pipeline at a time");
        });
        assert!(taken(&memory) <= 16 * MIB);
    }

    #[test]
    fn a_transformer_gets_as_many_threads_as_the_memory_allows() {
        let config = config("zstd:19");
        let need = config.memory_need(u64::MAX);
        let memory = CodecMemory::new(need.of_large(2) + need.of_large(1));
        let pipeline = memory.pipeline();
        let threads = || memory.state().lent.iter().map(|kind| kind.threads).collect::<Vec<_>>();
        pipeline.lend((&config, SOURCE.as_ref()), 2, &mut clock(), |transformer, _| {
            transformer.expect("a transformer");
            pipeline.lend((&config, SOURCE.as_ref()), 8, &mut clock(), |transformer, _| {
                transformer.expect("a transformer");
                assert_eq!(threads(), [2, 1]);
            });
        });
        assert!(taken(&memory) <= memory.limit);
    }

    #[test]
    fn a_panic_returns_the_memory() {
        let memory = CodecMemory::new(64 * MIB);
        let codecs = memory.pipeline();
        let config = config("bzip2");
        let panics = || {
            codecs.lend((&config, SOURCE.as_ref()), 0, &mut clock(), |_, _| panic!("in a codec"))
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).expect_err("it panics");
        assert_eq!(taken(&memory), 0);
        assert!(memory.state().lent.is_empty());
    }
}
