//! The stages of one pipeline: their channels and threads. Each pipeline has its own, so that an
//! unavailable, slow or hanging file system does not delay another pipeline's files. Pipelines share the
//! processors, the ledger and the events file.

use std::{
    io,
    sync::{Arc, atomic::AtomicU32},
    thread::{self, JoinHandle},
};

use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    budget::{Budget, Share},
    channel::{self, Handoff, Inlet, Outlet, Panics, Shared, channel, timed},
    codec_memory::{CodecMemory, Codecs},
    context::Context,
    halt::Halt,
    job::{Claimed, DisposeRequest, Job, Loaded, Staged, Streamed, Transformed},
    priority::{Peers, add_niceness},
    process::{
        claim::{Claim, NextStage, look_up_batch},
        read,
        transform::{self, SmallResult},
        write,
    },
    publish::{
        commit::{
            DurableBatch,
            acknowledge::{Acknowledger, NamedOutput},
            publish::Publisher,
            seal::Sealer,
        },
        dispose::Disposer,
    },
    stream_lane::Lane,
};
use crate::{config::Limits, limits, observe::Observer, sink::Helpers, stage::Stage};

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

/// The `nice(1)` value of the threads of large files.
const LARGE_NICENESS: i32 = 5;

/// The state that the stages of every pipeline start with.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// The limits of the entire process.
    pub limits: Limits,
    pub codecs: Arc<CodecMemory>,
    pub observer: Arc<Observer>,
    pub runtime: Handle,
    /// Cancelled by a forced stop.
    pub cut: CancellationToken,
    pub halt: Halt,
    pub panics: Panics,
}

/// The running stages of one pipeline. They end when the outlet and its clones are dropped and every
/// sent job has its outcome.
#[derive(Debug)]
pub struct Stages {
    /// The channel to claim.
    pub outlet: Outlet<Job>,
    pub threads: Vec<JoinHandle<()>>,
}

impl Wiring {
    /// Starts the stages of this pipeline, one of these. Its limits are an equal share, so that
    /// a stalled pipeline holds no other pipeline's share. An error ends the threads that were started.
    pub fn start(
        &self,
        context: &Arc<Context>,
        peers: Peers,
        alive: &Arc<DropGuard>,
    ) -> io::Result<Stages> {
        let share = share(self.limits, peers.count);
        let niceness = peers.niceness(context.config.keys.priority);
        let mut threads = Threads { alive: Arc::clone(alive), handles: Vec::new() };
        let channels = ChannelBuilder { observer: &self.observer };
        let (to_dispose, dispose_requests) = channels.build("dispose");
        let (to_commit, staged) = channels.build("commit");
        let shared = Shared {
            cut: self.cut.clone(),
            failed: to_dispose.clone(),
            panics: self.panics.clone(),
        };
        let disposer = Disposer {
            context: Arc::clone(context),
            panics: self.panics.clone(),
            fatal: self.halt.clone(),
        };
        start_publish(
            &mut threads,
            &channels,
            &shared,
            (context, &self.halt),
            (staged, to_dispose),
        )?;
        threads.start("dispose", move || disposer.run(&dispose_requests))?;
        let runs_programs = context.config.transforms.runs_programs();
        let process = (share, niceness, runs_programs, &to_commit);
        let outlet = self.start_process(&mut threads, &channels, &shared, process)?;
        Ok(Stages { outlet, threads: threads.handles })
    }

    /// Starts claim and both lanes from read to write. Returns the channel to claim.
    fn start_process(
        &self,
        threads: &mut Threads,
        channels: &ChannelBuilder<'_>,
        shared: &Shared,
        (share, niceness, runs_programs, to_commit): (Share, i32, bool, &Outlet<Staged>),
    ) -> io::Result<Outlet<Job>> {
        let (to_claim, settled) = channels.build("claim");
        let (to_read, claimed) = channels.build::<Claimed>("read");
        let (to_large, large) = channels.build::<Streamed>("large");
        let (to_transform, loaded) = channels.build::<Loaded>("transform");
        let (to_write, transformed) = channels.build::<Transformed>("write");

        let budget = Budget::new(share, self.runtime.clone());
        let codecs = self.codecs.pipeline();
        let claim = Claim { shared: shared.clone(), budget: budget.clone() };
        let grown_to_large = to_large.clone();
        threads.start("claim", {
            let (shared, claim) = (shared.clone(), claim.clone());
            let work = timed(Stage::Claim, move |job, clock| claim.claim(job, clock));
            let send = move |next: Option<NextStage>| match next {
                Some(NextStage::Read(claimed)) => to_read.send(claimed),
                Some(NextStage::Lane(streamed)) => to_large.send(streamed),
                None => {}
            };
            // It may wait for permits that previously claimed files hold.
            let budget = budget.clone();
            let may_wait = Box::new(move |job: &Job| !budget.has_room(job));
            let handoff = Handoff::Prepared { prepare: look_up_batch, may_wait };
            move || channel::run(&shared, &settled, &handoff, work, send)
        })?;
        threads.start("read", {
            let shared = shared.clone();
            let work = timed(Stage::Read, |claimed, _| read::read_small(claimed));
            let send = move |loaded| to_transform.send(loaded);
            move || channel::run(&shared, &claimed, &Handoff::Together { threads: 1 }, work, send)
        })?;
        for _ in 0..share.workers {
            let (shared, loaded) = (shared.clone(), loaded.clone());
            let (to_write, to_large) = (to_write.clone(), grown_to_large.clone());
            let (codecs, budget) = (Arc::clone(&codecs), budget.clone());
            let work = timed(Stage::Transform, move |loaded, clock| {
                transform::transform_small((&codecs, &budget), loaded, clock)
            });
            let send = move |result| match result {
                SmallResult::Transformed(transformed) => to_write.send(transformed),
                SmallResult::Grown(claimed) => to_large.send(Streamed::Grown(claimed)),
            };
            // A program may run for long, and so may a thread of a low priority: the next file need not wait.
            let handoff = if runs_programs || niceness > 0 {
                Handoff::Singly
            } else {
                Handoff::Together { threads: share.workers as usize }
            };
            threads.start("transform", move || {
                add_niceness(niceness);
                channel::run(&shared, &loaded, &handoff, work, send);
            })?;
        }
        threads.start("write", {
            let (shared, to_commit) = (shared.clone(), to_commit.clone());
            let work = timed(Stage::Write, |transformed, _| write::write_small(transformed));
            let send = move |staged| to_commit.send(staged);
            move || {
                channel::run(&shared, &transformed, &Handoff::Together { threads: 1 }, work, send);
            }
        })?;
        start_lanes(threads, (&claim, &codecs), (share.workers, niceness), &large, to_commit)?;
        Ok(to_claim)
    }
}

/// Returns an equal share of the files and of the memory. Every pipeline may use all processors.
fn share(limits: Limits, pipelines: usize) -> Share {
    let count = u32::try_from(pipelines.max(1)).unwrap_or(u32::MAX);
    let files = (limits.files / count).max(limits::SHARE_FILES_MIN.min(limits.files));
    let content = limits::content_bytes(limits.memory.bytes());
    let minimum = limits::SHARE_BYTES_MIN.min(content);
    let content_bytes = (content / u64::from(count)).max(minimum);
    Share { content_bytes, files, workers: limits.workers.max(1) }
}

/// The threads of one pipeline during their start.
struct Threads {
    /// Every thread holds a clone; dropping the last one, of all pipelines, cancels `ended`.
    alive: Arc<DropGuard>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let alive = Arc::clone(&self.alive);
        let handle = thread::Builder::new().name(name.to_owned()).spawn(move || {
            run();
            drop(alive);
        })?;
        self.handles.push(handle);
        Ok(())
    }
}

/// Builds the channels of [`CHANNELS`].
struct ChannelBuilder<'a> {
    observer: &'a Observer,
}

impl ChannelBuilder<'_> {
    fn build<T>(&self, name: &'static str) -> (Outlet<T>, Inlet<T>) {
        let row = CHANNELS.iter().find(|(channel, _)| *channel == name);
        let capacity = row.map_or(1, |(_, capacity)| *capacity);
        channel(name, capacity, self.observer)
    }
}

fn start_lanes(
    threads: &mut Threads,
    (claim, codecs): (&Claim, &Arc<Codecs>),
    (workers, niceness): (u32, i32),
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
        };
        let send = move |staged: Option<Staged>| {
            if let Some(staged) = staged {
                to_commit.send(staged);
            }
        };
        threads.start("large", move || {
            // Small files come first if both need a core; the lane's scoped threads inherit the value.
            add_niceness(LARGE_NICENESS + niceness);
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

/// Starts commit: the sealing thread with the sink's helpers, the publishing and the acknowledging thread.
fn start_publish(
    threads: &mut Threads,
    channels: &ChannelBuilder<'_>,
    shared: &Shared,
    (context, halt): (&Arc<Context>, &Halt),
    (staged, to_dispose): (Inlet<Staged>, Outlet<DisposeRequest>),
) -> io::Result<()> {
    let (to_publish, sealed) = channels.build::<DurableBatch>("publish");
    let Helpers { threads: helpers, guard } = context.sink.helpers();
    for helper in helpers {
        threads.start("sync", helper)?;
    }
    let sealer =
        Sealer { context: Arc::clone(context), shared: shared.clone(), fatal: halt.clone() };
    threads.start("seal", move || sealer.run(&staged, &to_publish))?;
    let (to_acknowledge, named) = channels.build::<Vec<NamedOutput>>("acknowledge");
    let publisher = Publisher {
        context: Arc::clone(context),
        panics: shared.panics.clone(),
        fatal: halt.clone(),
        named: to_acknowledge,
        to_dispose: to_dispose.clone(),
    };
    threads.start("publish", move || publisher.run(&sealed))?;
    let acknowledger = Acknowledger {
        context: Arc::clone(context),
        panics: shared.panics.clone(),
        fatal: halt.clone(),
        committed: to_dispose,
        helpers: guard,
    };
    threads.start("acknowledge", move || acknowledger.run(&named))
}
