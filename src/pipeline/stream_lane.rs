//! The lane of the large files: one file at a time crosses read, transform and write as a stream
//! of chunks, on a thread for each stage, so that its size costs no memory.
//!
//! The lane's own thread owns the job and the draft; the reader and the transformer are borrowed
//! threads that end before the file does. A stage that stops early is noticed by its neighbours as
//! a closed channel; whose error counts is decided at the end, in the order of the flow.

use std::{
    cell::RefCell,
    fs::File,
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
    buffer_pool::Spare,
    clock::Clock,
    codec_memory::Codecs,
    failure::{Failure, ReadError, TransformError, WriteError},
    job::{Claimed, ContentState, FailedJob, Job, Staged, Streamed},
    kernel_copy::{self, Copied},
    process::{
        claim::Claim,
        read, transform,
        write::{Directories, Draft},
    },
};
use crate::{
    codec::{self, Transformer},
    ledger::Hash,
    limits,
    policy::Durability,
    stage::Stage,
};

/// One lane: what its thread holds from file to file.
#[derive(Debug)]
pub struct Lane {
    pub claim: Claim,
    /// Codec threads the machine has for large files.
    pub workers: u32,
    /// Lanes that have a file.
    pub busy: Arc<AtomicU32>,
    pub codecs: Arc<Codecs>,
    pub directories: Directories,
}

/// Counts a lane as busy while it is held.
struct Busy<'a>(&'a AtomicU32);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the three stages came to.
struct LaneResults {
    read: Result<read::End, ReadError>,
    transform: Result<Hash, codec::Error>,
    write: Result<Draft, WriteError>,
}

impl Lane {
    /// Takes one file through; `None` where it is not to be taken yet, or the stop was cut short.
    pub fn process(&mut self, streamed: Streamed) -> Result<Option<Staged>, Box<FailedJob>> {
        let claimed = match streamed {
            Streamed::Settled(job) => {
                job.meter.stage_started(Stage::Claim);
                // That it is through with the file was counted when it had looked it up.
                let mut clock = Clock::start(&job.context.meter, Stage::Claim);
                let claimed = self.claim.take(job, &mut clock)?;
                clock.book();
                claimed
            }
            Streamed::Grown(claimed) => Some(claimed),
        };
        let Some(Claimed { mut job, source }) = claimed else { return Ok(None) };
        let others = self.busy.fetch_add(1, Ordering::Relaxed);
        let _busy = Busy(&self.busy);
        let threads = self.workers.saturating_sub(others).max(1);
        // Only stands: the stages have clocks of their own.
        let mut clock = Clock::start(&job.context.meter, Stage::Transform);
        let Self { claim, codecs, directories, .. } = self;
        let context = Arc::clone(&job.context);
        codecs.lend(&context.config, threads, &mut clock, |transformer, _| {
            // It may have waited for memory.
            if job.is_recalled() {
                return Ok(None);
            }
            job.begin();
            cross((job, source), &claim.shared.cut, transformer, directories)
        })
    }
}

/// Takes a file through the three stages.
fn cross(
    (job, source): (Job, File),
    cut: &CancellationToken,
    transformer: Result<&mut Transformer, codec::Error>,
    directories: &mut Directories,
) -> Result<Option<Staged>, Box<FailedJob>> {
    let transformer = match transformer {
        Ok(transformer) => transformer,
        Err(source) => {
            let path = job.source_path();
            return Err(Box::new(job.fail(TransformError::Codec { path, source })));
        }
    };
    if job.context.config.transforms.only_copies() {
        let copy = |clock: &mut Clock| kernel_copy::copy(&job, &source, cut, (directories, clock));
        match timed(&job, Stage::Write, copy) {
            Ok(Copied::Whole(draft)) => return staged(job, None, *draft).map(Some),
            Ok(Copied::Cut) => return Ok(None),
            Ok(Copied::Unable) => {}
            Err(kernel_copy::CopyFailed::Read(error)) => return Err(Box::new(job.fail(error))),
            Err(kernel_copy::CopyFailed::Write(error)) => return Err(Box::new(job.fail(error))),
        }
    }
    let ends = stream(&job, &source, cut, transformer, directories);
    drop(source);
    finish(job, ends)
}

fn stream(
    job: &Job,
    source: &File,
    cut: &CancellationToken,
    transformer: &mut Transformer,
    directories: &mut Directories,
) -> LaneResults {
    // The three stages run at once: what is told is the first that is not through.
    job.meter.stage_started(Stage::Read);
    thread::scope(|scope| {
        let (to_transform, chunks) = mpsc::sync_channel(limits::CHUNKS_QUEUED);
        let (to_write, outputs) = mpsc::sync_channel(limits::CHUNKS_QUEUED);
        let (read, written) = (Spare::default(), Spare::default());
        let (into_read, into_written) = (read.clone(), written.clone());
        let reader = scope.spawn(move || {
            let read = timed(job, Stage::Read, |clock| {
                read::stream(job, source, cut, &into_read, |chunk| {
                    clock.wait(|| to_transform.send(chunk).is_ok())
                })
            });
            job.meter.stage_started(Stage::Transform);
            read
        });
        let transformer = scope.spawn(move || {
            timed(job, Stage::Transform, |clock| {
                let clock = RefCell::new(clock);
                let chunks = iter::from_fn(|| clock.borrow_mut().wait(|| chunks.recv().ok()));
                let put = |chunk| clock.borrow_mut().wait(|| to_write.send(chunk).is_ok());
                transform::stream(transformer, (chunks, &read), &into_written, put)
            })
        });
        let write = timed(job, Stage::Write, |clock| {
            // Dropping `outputs` on an error is what stops the other two.
            let outputs: mpsc::Receiver<Vec<u8>> = outputs;
            let mut draft = Draft::begin(directories, job)?;
            while let Ok(chunk) = clock.wait(|| outputs.recv()) {
                draft.add(job, &chunk)?;
                written.give(chunk);
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
    let made = work(&mut clock);
    clock.stop(1);
    job.trace.stage_finished(stage);
    made
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// The first error in the order of the flow is the one that counts; but a stage that was refused
/// by the next one has none.
fn finish(mut job: Job, ends: LaneResults) -> Result<Option<Staged>, Box<FailedJob>> {
    let LaneResults { read, transform, write } = ends;
    job.release_bytes();
    let failure: Failure = match (read, transform, write) {
        (Err(error), _, _) => error.into(),
        (Ok(read::End::Cut), _, _) => return Ok(None),
        (Ok(_), Err(codec::Error::Stopped), Err(error)) => error.into(),
        (Ok(_), Err(source), _) => TransformError::Codec { path: job.source_path(), source }.into(),
        (Ok(_), Ok(_), Err(error)) => error.into(),
        (Ok(_), Ok(hash), Ok(draft)) => {
            return staged(job, Some(hash), draft).map(Some);
        }
    };
    Err(Box::new(job.fail(failure)))
}

fn staged(mut job: Job, source: Option<Hash>, draft: Draft) -> Result<Staged, Box<FailedJob>> {
    job.release_bytes();
    let durable = job.context.config.durability == Durability::Fsync;
    let content = if durable { ContentState::Durable } else { ContentState::Cached };
    draft.finish(job, source, content)
}
