//! The lane of the large files: one file at a time crosses read, transform and write as a stream
//! of chunks, on a thread for each stage, so that its size costs no memory.
//!
//! The lane's own thread owns the job and the draft; the reader and the transformer run on scoped
//! threads, which end before the lane finishes the file. If a stage stops early, its neighbours see a
//! closed channel; at the end the first error in the order of the flow counts.

use std::{
    cell::RefCell,
    iter,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread::{self, ScopedJoinHandle},
};

use tokio_util::sync::CancellationToken;

use super::{
    buffer_pool::BufferPool,
    clock::Clock,
    codec_memory::Codecs,
    failure::{Failure, ReadError, TransformError, WriteError},
    job::{Claimed, FailedJob, Job, Staged, Streamed},
    kernel_copy::{self, CopyResult},
    process::{claim::Claim, read, transform, write::Draft},
};
use crate::{
    ledger::Hash,
    limits,
    source::SourceFile,
    stage::Stage,
    transforms::{self, Transformer},
};

/// The state of one lane's thread.
#[derive(Debug)]
pub struct Lane {
    pub claim: Claim,
    /// The number of codec threads for all lanes.
    pub workers: u32,
    /// The number of lanes that have a file; all lanes of the pipeline write it.
    pub busy: Arc<AtomicU32>,
    pub codecs: Arc<Codecs>,
}

/// Counts a lane as busy until it is dropped.
struct BusyLane<'a>(&'a AtomicU32);

impl Drop for BusyLane<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The results of the three stages.
struct LaneResults {
    read: Result<read::StreamEnd, ReadError>,
    transform: Result<Hash, transforms::Error>,
    write: Result<Draft, WriteError>,
}

impl Lane {
    /// Processes one file; `None` if it is not ready, or the stop was forced.
    pub fn process(&mut self, streamed: Streamed) -> Result<Option<Staged>, Box<FailedJob>> {
        let claimed = match streamed {
            Streamed::Settled(job) => {
                job.meter.stage_started(Stage::Claim);
                // The file was counted as finished by claim after its look-up.
                let mut clock = Clock::start(&job.context.meter, Stage::Claim);
                self.claim.take(job, &mut clock)?
            }
            Streamed::Grown(claimed) => Some(claimed),
        };
        let Some(Claimed { mut job, source }) = claimed else { return Ok(None) };
        let busy_lanes = self.busy.fetch_add(1, Ordering::Relaxed);
        let _busy = BusyLane(&self.busy);
        let threads = self.workers.saturating_sub(busy_lanes).max(1);
        // It counts no work: each stage has its own clock.
        let mut clock = Clock::stopped(&job.context.meter, Stage::Transform);
        let Self { claim, codecs, .. } = self;
        let context = Arc::clone(&job.context);
        let path = job.path.clone();
        codecs.lend((&context.config, &path), threads, &mut clock, |transformer, _| {
            // The wait for memory may have been long.
            if job.is_recalled() {
                return Ok(None);
            }
            job.begin();
            run_stages((job, source), &claim.shared.cut, transformer)
        })
    }
}

/// Runs the three stages on a file.
fn run_stages(
    (job, source): (Job, Box<dyn SourceFile>),
    cut: &CancellationToken,
    transformer: Result<&mut Transformer, transforms::Error>,
) -> Result<Option<Staged>, Box<FailedJob>> {
    let transformer = match transformer {
        Ok(transformer) => transformer,
        Err(source) => {
            let path = job.source_path();
            return Err(Box::new(job.fail(TransformError::Codec { path, source })));
        }
    };
    // What the kernel copies cannot be compared with the source.
    if job.context.config.transforms.only_copies()
        && !job.context.config.keys.verify
        && let Some(file) = source.as_file()
    {
        match timed(&job, Stage::Write, |_| kernel_copy::copy(&job, file, cut)) {
            Ok(CopyResult::Complete(draft)) => return stage_output(job, None, *draft).map(Some),
            Ok(CopyResult::Cut) => return Ok(None),
            Ok(CopyResult::Unsupported) => {}
            Err(kernel_copy::CopyError::Read(error)) => return Err(Box::new(job.fail(error))),
            Err(kernel_copy::CopyError::Write(error)) => return Err(Box::new(job.fail(error))),
        }
    }
    let results = stream(&job, &*source, cut, transformer);
    drop(source);
    finish(job, results)
}

fn stream(
    job: &Job,
    source: &dyn SourceFile,
    cut: &CancellationToken,
    transformer: &mut Transformer,
) -> LaneResults {
    // The three stages run at once: the meter shows the first unfinished one.
    job.meter.stage_started(Stage::Read);
    thread::scope(|scope| {
        let (to_transform, chunks) = mpsc::sync_channel(limits::CHUNKS_QUEUED);
        let (to_write, outputs) = mpsc::sync_channel(limits::CHUNKS_QUEUED);
        let (source_pool, output_pool) = (BufferPool::default(), BufferPool::default());
        let (reader_pool, transformer_pool) = (source_pool.clone(), output_pool.clone());
        let reader = scope.spawn(move || {
            let result = timed(job, Stage::Read, |clock| {
                read::stream(job, source, cut, &reader_pool, |chunk| {
                    clock.wait(|| to_transform.send(chunk).is_ok())
                })
            });
            job.meter.stage_started(Stage::Transform);
            result
        });
        let transformer = scope.spawn(move || {
            timed(job, Stage::Transform, |clock| {
                let clock = RefCell::new(clock);
                let chunks = iter::from_fn(|| clock.borrow_mut().wait(|| chunks.recv().ok()));
                let put = |chunk| clock.borrow_mut().wait(|| to_write.send(chunk).is_ok());
                transform::stream(transformer, (chunks, &source_pool), &transformer_pool, put)
            })
        });
        let write = timed(job, Stage::Write, |clock| {
            // Dropping `outputs` on an error stops the other two.
            let outputs: mpsc::Receiver<Vec<u8>> = outputs;
            let mut draft = Draft::begin(job)?;
            while let Ok(chunk) = clock.wait(|| outputs.recv()) {
                draft.add(job, &chunk)?;
                output_pool.put_back(chunk);
            }
            Ok(draft)
        });
        job.meter.stage_started(Stage::Write);
        LaneResults { read: join(reader), transform: join(transformer), write }
    })
}

fn timed<T>(job: &Job, stage: Stage, work: impl FnOnce(&mut Clock) -> T) -> T {
    job.trace.stage_started(stage);
    let mut clock = Clock::start(&job.context.meter, stage);
    let result = work(&mut clock);
    clock.stop(1);
    job.trace.stage_finished(stage);
    result
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Turns the results into one: the first error in the order of the flow counts; a stage that the next
/// one rejected has none.
fn finish(mut job: Job, results: LaneResults) -> Result<Option<Staged>, Box<FailedJob>> {
    let LaneResults { read, transform, write } = results;
    job.release_bytes();
    let failure: Failure = match (read, transform, write) {
        (Err(error), _, _) => error.into(),
        (Ok(read::StreamEnd::Cut), _, _) => return Ok(None),
        (Ok(_), Err(stopped), Err(error)) if stopped.is_stopped() => error.into(),
        (Ok(_), Err(source), _) => TransformError::Codec { path: job.source_path(), source }.into(),
        (Ok(_), Ok(_), Err(error)) => error.into(),
        (Ok(_), Ok(hash), Ok(draft)) => {
            return stage_output(job, Some(hash), draft).map(Some);
        }
    };
    Err(Box::new(job.fail(failure)))
}

fn stage_output(
    mut job: Job,
    source_hash: Option<Hash>,
    draft: Draft,
) -> Result<Staged, Box<FailedJob>> {
    job.release_bytes();
    draft.finish(job, source_hash)
}
