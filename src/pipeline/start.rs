//! Starts the stages' threads and waits for their end.

use std::{
    io,
    sync::{Arc, atomic::AtomicU32},
    thread::{self, JoinHandle},
};

use rustix::{process::setpriority_process, thread::gettid};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    context::Context,
    failure::CommitError,
    fatal::Fatal,
    intakes::{Common, Intakes, NoSuchPipeline},
    job::{Claimed, Disposable, Job, Loaded, Staged, Transformed},
    large::Lane,
    process::{
        claim::{Budget, Claim},
        read,
        transform::{self, Transformers, Whole},
        write::{self, Directories},
    },
    publish::{
        commit::{
            Sealed,
            acknowledge::{Acknowledger, Named},
            pool::Pool,
            publish::Publisher,
            seal::Sealer,
            whole,
        },
        dispose::Disposer,
    },
    stage::{self, Handing, Inlet, Outlet, Panics, Shared, channel, timed},
};
use crate::{config::Limits, limits, observe::Observer, stages::Stage};

/// The channels and their capacities, as in the diagram of [`super`].
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

/// What the pipelines are started with.
#[derive(Debug)]
pub struct Start {
    pub contexts: Vec<Arc<Context>>,
    pub limits: Limits,
    pub once: bool,
    pub observer: Arc<Observer>,
    pub runtime: Handle,
}

/// All pipelines at work: their threads. [`Self::drained`] is the way to end them; dropping this
/// leaves them to drain unwatched.
#[derive(Debug)]
pub struct Pipelines {
    intakes: Intakes,
    threads: Vec<JoinHandle<()>>,
    panics: Panics,
    fatal: Fatal,
}

/// Steers the pipelines from anywhere. Dropping it does nothing.
#[derive(Clone, Debug)]
pub struct Control {
    stop: CancellationToken,
    cut: CancellationToken,
    ended: CancellationToken,
    fatal: Fatal,
    intakes: Intakes,
}

/// How the drain ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Files that were taken and not finished.
    pub left: u64,
    /// `--once` gave up on files that were not finished, or on a sick place.
    pub gave_up: bool,
    /// Publishing ended because storage failed.
    pub storage_failed: bool,
    pub panics: u64,
}

/// The threads while they are being started.
struct Threads {
    /// Cancels `ended` when the last thread has let it go.
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

impl Pipelines {
    /// Starts every thread. An error ends those that were started.
    pub fn start(start: Start) -> io::Result<(Self, Control)> {
        let Start { contexts, limits, once, observer, runtime } = start;
        let (stop, cut, ended) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let fatal = Fatal::default();
        let alive = Arc::new(ended.clone().drop_guard());
        let mut threads = Threads { alive, handles: Vec::new() };
        let panics = Panics::default();

        let make = Make { observer: &observer };
        let (failed, disposables) = make.channel("dispose");
        let shared = Shared { cut: cut.clone(), failed: failed.clone(), panics: panics.clone() };
        let (to_commit, staged) = make.channel("commit");
        publish(&mut threads, &make, &shared, &fatal, (staged, failed))?;
        dispose(&mut threads, &shared.panics, &fatal, disposables)?;
        let to_claim = process(&mut threads, &make, &shared, limits, &runtime, &to_commit)?;
        drop((shared, to_commit));

        let common = Common { once, stop: stop.clone(), runtime };
        let intakes = Intakes::new(common, &to_claim, &threads.alive);
        intakes.begin(intakes.prepare(contexts)?);
        let Threads { handles: threads, .. } = threads;
        let pipelines = Self { intakes: intakes.clone(), threads, panics, fatal: fatal.clone() };
        Ok((pipelines, Control { stop, cut, ended, fatal, intakes }))
    }

    /// What the drain came to. Blocks until the threads have ended, which [`Control::ended`] tells.
    #[must_use]
    pub fn drained(self) -> Drained {
        let mut drained = Drained {
            panics: self.panics.count(),
            storage_failed: self.fatal.is_set(),
            ..Drained::default()
        };
        for ended in self.intakes.join() {
            match ended {
                Some(ended) => {
                    drained.left += ended.left;
                    drained.gave_up |= ended.gave_up;
                }
                None => drained.panics += 1,
            }
        }
        for thread in self.threads {
            drained.panics += u64::from(thread.join().is_err());
        }
        drained
    }
}

impl Control {
    /// Closes the intake: nothing new is taken, and what was taken drains.
    pub fn close(&self) {
        self.stop.cancel();
    }

    /// Cuts the drain short: what is staged is committed, the rest is left.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Scans every input again.
    pub fn rescan(&self) {
        self.intakes.rescan(None).ok();
    }

    /// Scans one input again.
    pub fn rescan_one(&self, pipeline: &str) -> Result<(), NoSuchPipeline> {
        self.intakes.rescan(Some(pipeline))
    }

    /// Holds or lets go the intake of one pipeline, or of all: a held one takes nothing new, and
    /// what is in work goes on.
    pub fn hold(&self, pipeline: Option<&str>, held: bool) -> Result<(), NoSuchPipeline> {
        self.intakes.hold(pipeline, held)
    }

    /// The intakes, to stop and start single ones.
    #[must_use]
    pub const fn intakes(&self) -> &Intakes {
        &self.intakes
    }

    /// Ends all publishing, because the ledger cannot say what is durable.
    pub fn storage_failed(&self, source: crate::ledger::Error) {
        let path = source.path.clone();
        self.fatal.set(&CommitError::Ledger { path, source }.into());
    }

    /// Resolves when storage failed and nothing more is published.
    pub async fn fatal(&self) {
        self.fatal.wait().await;
    }

    /// Why nothing more is published, if so.
    #[must_use]
    pub fn fatal_reason(&self) -> Option<String> {
        self.fatal.reason()
    }

    /// Resolves when every thread has ended: after [`Self::close`], or in `--once` by itself.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

/// Makes the channels of [`CHANNELS`].
struct Make<'a> {
    observer: &'a Observer,
}

impl Make<'_> {
    fn channel<T>(&self, name: &'static str) -> (Outlet<T>, Inlet<T>) {
        let capacity =
            CHANNELS.iter().find(|(known, _)| *known == name).map_or(1, |(_, size)| *size);
        channel(name, capacity, self.observer)
    }
}

/// claim, and both lanes from read to write. Gives the channel that feeds them.
fn process(
    threads: &mut Threads,
    make: &Make<'_>,
    shared: &Shared,
    limits: Limits,
    runtime: &Handle,
    to_commit: &Outlet<Staged>,
) -> io::Result<Outlet<Job>> {
    let (to_claim, settled) = make.channel("claim");
    let (to_read, claimed) = make.channel::<Claimed>("read");
    let (to_large, large) = make.channel::<Claimed>("large");
    let (to_transform, loaded) = make.channel::<Loaded>("transform");
    let (to_write, transformed) = make.channel::<Transformed>("write");

    let budget = Budget::new(limits, runtime.clone());
    let claim = Claim { shared: shared.clone(), budget: budget.clone() };
    let grown = to_large.clone();
    threads.stage("claim", {
        let shared = shared.clone();
        let work = timed(Stage::Claim, move |job| claim.work(job));
        let send = move |claimed: Option<Claimed>| {
            let Some(claimed) = claimed else { return };
            let small = claimed.job.seen.identity.size <= limits::WHOLE_BYTES as u64;
            if small { to_read.send(claimed) } else { to_large.send(claimed) }
        };
        // It may wait for permits that the files it has claimed before hold.
        let handing = Handing::TogetherUntil(Box::new(move |job| !budget.has_room(job)));
        move || stage::run(&shared, &settled, &handing, work, send)
    })?;
    threads.stage("read", {
        let shared = shared.clone();
        let work = timed(Stage::Read, read::whole);
        let send = move |loaded| to_transform.send(loaded);
        move || stage::run(&shared, &claimed, &Handing::Together, work, send)
    })?;
    for _ in 0..limits.workers.max(1) {
        let (shared, loaded) = (shared.clone(), loaded.clone());
        let (to_write, grown) = (to_write.clone(), grown.clone());
        let mut transformers = Transformers::default();
        let work =
            timed(Stage::Transform, move |loaded| transform::whole(&mut transformers, loaded));
        let send = move |whole| match whole {
            Whole::Transformed(transformed) => to_write.send(transformed),
            Whole::Grown(claimed) => grown.send(claimed),
        };
        threads.stage("transform", move || {
            stage::run(&shared, &loaded, &Handing::Together, work, send);
        })?;
    }
    threads.stage("write", {
        let (shared, to_commit) = (shared.clone(), to_commit.clone());
        let mut directories = Directories::default();
        let work =
            timed(Stage::Write, move |transformed| write::whole(&mut directories, transformed));
        let send = move |staged| to_commit.send(staged);
        move || stage::run(&shared, &transformed, &Handing::Together, work, send)
    })?;
    lanes(threads, shared, limits.workers.max(1), &large, to_commit)?;
    Ok(to_claim)
}

fn lanes(
    threads: &mut Threads,
    shared: &Shared,
    workers: u32,
    large: &Inlet<Claimed>,
    to_commit: &Outlet<Staged>,
) -> io::Result<()> {
    let busy = Arc::new(AtomicU32::new(0));
    for _ in 0..workers {
        let (shared, large, to_commit) = (shared.clone(), large.clone(), to_commit.clone());
        let mut lane = Lane {
            cut: shared.cut.clone(),
            workers,
            busy: Arc::clone(&busy),
            transformers: Transformers::default(),
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
            stage::run(&shared, &large, &Handing::Singly, |claimed| lane.work(claimed), send);
        })?;
    }
    Ok(())
}

/// commit: the sealing thread with its pool, the publishing and the acknowledging thread.
fn publish(
    threads: &mut Threads,
    make: &Make<'_>,
    shared: &Shared,
    fatal: &Fatal,
    (staged, committed): (Inlet<Staged>, Outlet<Disposable>),
) -> io::Result<()> {
    let (to_publish, sealed) = make.channel::<Sealed>("publish");
    let (pool, syncers) = Pool::new();
    let sealer = Sealer {
        shared: shared.clone(),
        fatal: fatal.clone(),
        pool: pool.clone(),
        whole: whole::Whole::default(),
    };
    for syncer in syncers {
        threads.stage("sync", move || syncer.run())?;
    }
    threads.stage("seal", move || sealer.run(&staged, &to_publish))?;
    let (to_acknowledge, named) = make.channel::<Vec<Named>>("acknowledge");
    let (panics, ended) = (shared.panics.clone(), committed.clone());
    let publisher = Publisher { panics, fatal: fatal.clone(), named: to_acknowledge, ended };
    threads.stage("publish", move || publisher.run(&sealed))?;
    let (panics, fatal) = (shared.panics.clone(), fatal.clone());
    let acknowledger = Acknowledger { panics, fatal, committed, pool };
    threads.stage("acknowledge", move || acknowledger.run(&named))
}

fn dispose(
    threads: &mut Threads,
    panics: &Panics,
    fatal: &Fatal,
    disposables: Inlet<Disposable>,
) -> io::Result<()> {
    let disposer = Disposer { panics: panics.clone(), fatal: fatal.clone() };
    threads.stage("dispose", move || disposer.run(&disposables))
}
