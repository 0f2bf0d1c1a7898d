//! The stages of one pipeline: their channels and threads. Each pipeline has its own, so that a sick,
//! slow or hanging file system holds up nobody else's files. They share the processors, the ledger and
//! the events file.

use std::{
    io,
    sync::{Arc, atomic::AtomicU32},
    thread::{self, JoinHandle},
};

use rustix::{process::setpriority_process, thread::gettid};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    budget::{Budget, Share},
    channel::{self, Handoff, Inlet, Outlet, Panics, Shared, channel, timed},
    codec_memory::{CodecMemory, Codecs},
    halt::Halt,
    job::{Claimed, DisposeRequest, Job, Loaded, Staged, Streamed, Transformed},
    process::{
        claim::{Claim, Next},
        read,
        transform::{self, SmallResult},
        write::{self, Directories},
    },
    publish::{
        commit::{
            DurableBatch,
            acknowledge::{Acknowledger, NamedOutput},
            group_sync,
            publish::Publisher,
            seal::Sealer,
            sync_pool::SyncPool,
        },
        dispose::Disposer,
    },
    stream_lane::Lane,
};
use crate::{config::Limits, limits, observe::Observer, stage::Stage};

/// The channels of one pipeline and their capacities, as in the diagram of [`super`].
pub const CHANNELS: [(&str, usize); 9] = [
    ("claim", 64),
    ("read", 64),
    ("large", 512),
    ("transform", 64),
    ("write", 64),
    ("commit", 512),
    ("publish", 1),
    ("acknowledge", 1),
    ("dispose", 512),
];

/// How far the threads of large files stand back, as of `nice(1)`.
const LARGE_NICENESS: i32 = 5;

/// What the stages of every pipeline are made with.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// Of the whole process.
    pub limits: Limits,
    pub codecs: Arc<CodecMemory>,
    pub observer: Arc<Observer>,
    pub runtime: Handle,
    /// Cancelled when the stop is cut short.
    pub cut: CancellationToken,
    pub fatal: Halt,
    pub panics: Panics,
}

/// The stages of one pipeline at work. They end when the outlet and its clones are dropped and what
/// was sent has gone through.
#[derive(Debug)]
pub struct Stages {
    /// Feeds them.
    pub outlet: Outlet<Job>,
    pub threads: Vec<JoinHandle<()>>,
}

impl Wiring {
    /// Starts the stages of one of so many pipelines. Its limits are an equal share, so that a
    /// pipeline that stands still holds no other's. An error ends the threads that were started.
    pub fn start(&self, pipelines: usize, alive: &Arc<DropGuard>) -> io::Result<Stages> {
        let share = share(self.limits, pipelines);
        let mut threads = Threads { alive: Arc::clone(alive), handles: Vec::new() };
        let make = ChannelBuilder { observer: &self.observer };
        let (failed, disposables) = make.channel("dispose");
        let (to_commit, staged) = make.channel("commit");
        let shared =
            Shared { cut: self.cut.clone(), failed: failed.clone(), panics: self.panics.clone() };
        publish(&mut threads, &make, &shared, &self.fatal, (staged, failed))?;
        dispose(&mut threads, &self.panics, &self.fatal, disposables)?;
        let outlet = self.process(&mut threads, &make, &shared, share, &to_commit)?;
        Ok(Stages { outlet, threads: threads.handles })
    }

    /// claim, and both lanes from read to write. Gives the channel that feeds them.
    fn process(
        &self,
        threads: &mut Threads,
        make: &ChannelBuilder<'_>,
        shared: &Shared,
        share: Share,
        to_commit: &Outlet<Staged>,
    ) -> io::Result<Outlet<Job>> {
        let (to_claim, settled) = make.channel("claim");
        let (to_read, claimed) = make.channel::<Claimed>("read");
        let (to_large, large) = make.channel::<Streamed>("large");
        let (to_transform, loaded) = make.channel::<Loaded>("transform");
        let (to_write, transformed) = make.channel::<Transformed>("write");

        let budget = Budget::new(share, self.runtime.clone());
        let codecs = self.codecs.pipeline();
        let claim = Claim { shared: shared.clone(), budget: budget.clone() };
        let grown = to_large.clone();
        threads.stage("claim", {
            let (shared, claim) = (shared.clone(), claim.clone());
            let work = timed(Stage::Claim, move |job, clock| claim.claim(job, clock));
            let send = move |next: Option<Next>| match next {
                Some(Next::Read(claimed)) => to_read.send(claimed),
                Some(Next::Lane(streamed)) => to_large.send(streamed),
                None => {}
            };
            // It may wait for permits that the files it has claimed before hold.
            let budget = budget.clone();
            let handing = Handoff::TogetherUntil(Box::new(move |job| !budget.has_room(job)));
            move || channel::run(&shared, &settled, &handing, work, send)
        })?;
        threads.stage("read", {
            let shared = shared.clone();
            let work = timed(Stage::Read, |claimed, _| read::whole(claimed));
            let send = move |loaded| to_transform.send(loaded);
            move || channel::run(&shared, &claimed, &Handoff::Together, work, send)
        })?;
        for _ in 0..share.workers {
            let (shared, loaded) = (shared.clone(), loaded.clone());
            let (to_write, grown) = (to_write.clone(), grown.clone());
            let (codecs, budget) = (Arc::clone(&codecs), budget.clone());
            let work = timed(Stage::Transform, move |loaded, clock| {
                transform::whole((&codecs, &budget), loaded, clock)
            });
            let send = move |result| match result {
                SmallResult::Transformed(transformed) => to_write.send(transformed),
                SmallResult::Grown(claimed) => grown.send(Streamed::Grown(claimed)),
            };
            threads.stage("transform", move || {
                channel::run(&shared, &loaded, &Handoff::Together, work, send);
            })?;
        }
        threads.stage("write", {
            let (shared, to_commit) = (shared.clone(), to_commit.clone());
            let mut directories = Directories::default();
            let work = timed(Stage::Write, move |transformed, _| {
                write::whole(&mut directories, transformed)
            });
            let send = move |staged| to_commit.send(staged);
            move || channel::run(&shared, &transformed, &Handoff::Together, work, send)
        })?;
        lanes(threads, (&claim, &codecs), share.workers, &large, to_commit)?;
        Ok(to_claim)
    }
}

/// An equal share of what can be used up. The processors are everyone's.
fn share(limits: Limits, pipelines: usize) -> Share {
    let count = u32::try_from(pipelines.max(1)).unwrap_or(u32::MAX);
    let files = (limits.files / count).max(limits::SHARE_FILES_MIN.min(limits.files));
    let content = limits::content_bytes(limits.memory.bytes());
    let least = limits::SHARE_BYTES_MIN.min(content);
    let content_bytes = (content / u64::from(count)).max(least);
    Share { content_bytes, files, workers: limits.workers.max(1) }
}

/// The threads while they are being started.
struct Threads {
    /// Cancels `ended` when the last thread of all pipelines has let it go.
    alive: Arc<DropGuard>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    fn stage(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let alive = Arc::clone(&self.alive);
        let handle = thread::Builder::new().name(name.to_owned()).spawn(move || {
            run();
            drop(alive);
        })?;
        self.handles.push(handle);
        Ok(())
    }
}

/// Makes the channels of [`CHANNELS`].
struct ChannelBuilder<'a> {
    observer: &'a Observer,
}

impl ChannelBuilder<'_> {
    fn channel<T>(&self, name: &'static str) -> (Outlet<T>, Inlet<T>) {
        let capacity =
            CHANNELS.iter().find(|(known, _)| *known == name).map_or(1, |(_, size)| *size);
        channel(name, capacity, self.observer)
    }
}

fn lanes(
    threads: &mut Threads,
    (claim, codecs): (&Claim, &Arc<Codecs>),
    workers: u32,
    large: &Inlet<Streamed>,
    to_commit: &Outlet<Staged>,
) -> io::Result<()> {
    let busy = Arc::new(AtomicU32::new(0));
    for _ in 0..workers {
        let (large, to_commit) = (large.clone(), to_commit.clone());
        let shared = claim.shared.clone();
        let mut lane = Lane {
            claim: claim.clone(),
            workers,
            busy: Arc::clone(&busy),
            codecs: Arc::clone(codecs),
            directories: Directories::default(),
        };
        let send = move |staged: Option<Staged>| {
            if let Some(staged) = staged {
                to_commit.send(staged);
            }
        };
        threads.stage("large", move || {
            // Small files come first where both want a core; the lane's own threads inherit it.
            // Where it may not be, the two share.
            setpriority_process(Some(gettid()), LARGE_NICENESS).ok();
            channel::run(
                &shared,
                &large,
                &Handoff::Singly,
                |streamed| lane.process(streamed),
                send,
            );
        })?;
    }
    Ok(())
}

/// commit: the sealing thread with its pool, the publishing and the acknowledging thread.
fn publish(
    threads: &mut Threads,
    make: &ChannelBuilder<'_>,
    shared: &Shared,
    fatal: &Halt,
    (staged, committed): (Inlet<Staged>, Outlet<DisposeRequest>),
) -> io::Result<()> {
    let (to_publish, sealed) = make.channel::<DurableBatch>("publish");
    let (pool, syncers) = SyncPool::new();
    let sealer = Sealer {
        shared: shared.clone(),
        fatal: fatal.clone(),
        pool: pool.clone(),
        group_sync: group_sync::GroupSync::default(),
    };
    for syncer in syncers {
        threads.stage("sync", move || syncer.run())?;
    }
    threads.stage("seal", move || sealer.run(&staged, &to_publish))?;
    let (to_acknowledge, named) = make.channel::<Vec<NamedOutput>>("acknowledge");
    let (panics, to_dispose) = (shared.panics.clone(), committed.clone());
    let publisher = Publisher { panics, fatal: fatal.clone(), named: to_acknowledge, to_dispose };
    threads.stage("publish", move || publisher.run(&sealed))?;
    let (panics, fatal) = (shared.panics.clone(), fatal.clone());
    let acknowledger = Acknowledger { panics, fatal, committed, pool };
    threads.stage("acknowledge", move || acknowledger.run(&named))
}

fn dispose(
    threads: &mut Threads,
    panics: &Panics,
    fatal: &Halt,
    disposables: Inlet<DisposeRequest>,
) -> io::Result<()> {
    let disposer = Disposer { panics: panics.clone(), fatal: fatal.clone() };
    threads.stage("dispose", move || disposer.run(&disposables))
}
