//! Intake: from names to files that are ready. No handle is held on a file here.
//!
//! One thread per pipeline runs [`Intake::run`]: it waits for hints, for jobs that come back, for
//! paths that are due; looks at what they name; and sends what is ready to claim. It is the only
//! part of the pipeline that sees the stop: it ends, and its closed channel drains the rest.

pub mod discover;

pub mod settle;

mod look;

mod ready;

mod scans;

mod send;

mod once;

mod root;

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Instant};

use futures_util::FutureExt;
use tokio::{sync::mpsc, task::unconstrained};
use tokio_stream::{
    StreamExt,
    wrappers::{ReceiverStream, UnboundedReceiverStream},
};
use tokio_util::sync::CancellationToken;

use self::{
    discover::{Discovery, EventQueue, WakeHandle},
    ready::Ready,
    root::Root,
    scans::Scans,
    settle::{Rules, SettleTable},
};
use crate::{
    limits,
    pipeline::{
        channel::Outlet,
        context::Context,
        job::{Arrival, DiscoveredBy, Feedback, Job, Outcome},
    },
};

/// How an intake ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Files that were taken and not finished: the next start takes them up.
    pub left: u64,
    /// `--once` gave up on a place that stayed sick, or on files that are still being written.
    pub gave_up: bool,
}

/// The intake of one pipeline.
#[derive(Debug)]
pub struct Intake {
    context: Arc<Context>,
    candidates: Discovery,
    once: bool,
    /// Closing: the first signal, or nothing left to do.
    stop: CancellationToken,
    outlet: Outlet<Job>,
    /// Cloned into every job's ticket.
    feedback: mpsc::UnboundedSender<Feedback>,
    hints: EventQueue,
    root: Root,
    table: SettleTable,
    scans: Scans,
    ready: Ready,
    /// The watch told of something that was not taken yet.
    more_hints: bool,
    /// Directories of the service's own that were met and logged.
    own_met: HashSet<PathBuf>,
    next_count: Instant,
    told_pending: usize,
    started: Instant,
    ended: Ended,
}

/// What wakes the intake.
enum Wake {
    Returned(Feedback),
    Hints,
}

/// What [`Intake::new`] needs beside the context.
#[derive(Debug)]
pub struct IntakeParts {
    pub once: bool,
    pub stop: CancellationToken,
    pub outlet: Outlet<Job>,
    /// A hint from outside, such as a requeue, rings it as an overflow does.
    pub hints: EventQueue,
}

/// What wakes an intake.
#[derive(Debug)]
pub struct Wakers {
    /// Ends when the last job has ended and the intake is closed.
    returned: UnboundedReceiverStream<Feedback>,
    bell: ReceiverStream<()>,
}

impl Intake {
    /// The intake, and what will wake it; `bell` is that of the hints.
    pub fn new(context: Arc<Context>, parts: IntakeParts, bell: WakeHandle) -> (Self, Wakers) {
        let IntakeParts { once, stop, outlet, hints } = parts;
        let (feedback, returned) = mpsc::unbounded_channel();
        let returned = UnboundedReceiverStream::new(returned);
        let wakers = Wakers { returned, bell: ReceiverStream::new(bell) };
        let root = Root::new(&context, once, hints.clone());
        let rules = Rules {
            settle: context.config.settle,
            min_age: context.config.min_age,
            network: root.is_network(),
        };
        let candidates = Discovery::of(&context.config);
        let now = Instant::now();
        let intake = Self {
            context,
            candidates,
            once,
            stop,
            outlet,
            feedback,
            hints,
            root,
            table: SettleTable::new(rules),
            scans: Scans::default(),
            ready: Ready::default(),
            more_hints: true,
            own_met: HashSet::new(),
            next_count: now,
            told_pending: 0,
            started: now,
            ended: Ended::default(),
        };
        (intake, wakers)
    }

    /// Runs until the stop, or in `--once` until everything there was is finished; then waits for
    /// every job that is still on its way.
    pub async fn run(mut self, wakers: Wakers) -> Ended {
        let Wakers { mut returned, mut bell } = wakers;
        let mut wakes =
            (&mut returned).map(Wake::Returned).merge((&mut bell).map(|()| Wake::Hints));
        self.scans.request(DiscoveredBy::Scan, self.started);
        while !self.stop.is_cancelled() && !self.is_finished() {
            let until = self.turn();
            self.send().await;
            if !self.has_work_now() && !self.is_finished() {
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    Some(wake) = wakes.next() => self.wake(wake),
                    () = tokio::time::sleep_until(until.into()) => {}
                }
            }
            // Without a budget: the runtime's would end this early, and what came back would pile up.
            while let Some(Some(wake)) = unconstrained(wakes.next()).now_or_never() {
                self.wake(wake);
            }
        }
        self.close(returned).await
    }

    fn wake(&mut self, wake: Wake) {
        match wake {
            Wake::Returned(feedback) => self.returned(feedback),
            Wake::Hints => self.more_hints = true,
        }
    }

    /// One round of looking: hints, scans, paths that are due. Returns when the next round is, at
    /// the latest.
    fn turn(&mut self) -> Instant {
        let now = Instant::now();
        match self.root.check(&self.context, now) {
            root::State::Same => {}
            root::State::New => {
                self.scans.forget();
                self.scans.request(DiscoveredBy::Scan, now);
            }
            root::State::Away(until) => {
                self.scans.forget();
                return until;
            }
        }
        self.candidates.set_own(self.root.own().to_vec());
        self.scans.ask_if_due(now);
        if self.table.look_again_at().is_some_and(|at| at <= now) {
            self.scans.request(DiscoveredBy::Scan, now);
        }
        if self.has_room() {
            let due = self.table.take_due(now, limits::LOOKS_PER_TURN_MAX);
            for path in due {
                self.look(path, (DiscoveredBy::Hint, Arrival::Unknown));
            }
        }
        if self.has_room() {
            self.take_hints();
        }
        if self.has_room() {
            self.scan(now);
        }
        self.next_round(now)
    }

    fn next_round(&mut self, now: Instant) -> Instant {
        let next_count = self.count_pending(now);
        // Without room nothing is looked at, however long it is due: what makes room wakes.
        let if_room = |at: Option<Instant>| at.filter(|_| self.has_room());
        let next_due = if_room(self.table.next_due());
        let next_scan = if_room(self.scans.next(now));
        let next_look = if_room(self.table.look_again_at().filter(|at| *at > now));
        let all = [next_due, next_scan, next_look, next_count, Some(self.root.next_check())];
        let soonest = all.into_iter().flatten().min().unwrap_or(now + limits::POLL_INTERVAL);
        let gives_up = self.started + limits::ONCE_BUSY_PATIENCE;
        let soonest = if self.once && now < gives_up { soonest.min(gives_up) } else { soonest };
        match self.context.place.open_for(now) {
            Some(_) => soonest.min(now + limits::BACKOFF),
            None => soonest,
        }
    }

    fn has_room(&self) -> bool {
        self.ready.has_room()
    }

    fn has_work_now(&self) -> bool {
        let now = Instant::now();
        let due = || self.table.next_due().is_some_and(|due| due <= now);
        self.has_room()
            && self.root.dir().is_some()
            && (self.more_hints || self.scans.has_work(now) || due())
    }

    /// Counting is not free where much waits: now and then is enough. Says when to count again:
    /// while anything waits, and once more when nothing does.
    fn count_pending(&mut self, now: Instant) -> Option<Instant> {
        let pending = self.table.waiting() + self.ready.len();
        if now >= self.next_count {
            self.next_count = now + limits::PENDING_COUNT_INTERVAL;
            self.told_pending = pending;
            self.context.meter.pending(pending, self.table.oldest(now));
        }
        (pending.max(self.told_pending) > 0).then_some(self.next_count)
    }

    /// Closes the channel to claim, which drains the pipeline, and takes back every job.
    async fn close(self, mut returned: UnboundedReceiverStream<Feedback>) -> Ended {
        let Self { mut ended, table, ready, outlet, feedback, context, once, stop, scans, .. } =
            self;
        // `--once` was asked for all that is there; what a watch did not begin, its next start finds.
        let interrupted = once && stop.is_cancelled();
        ended.left += table.owed() as u64;
        // How many it did not come to nobody counted: one at least.
        ended.left += u64::from(interrupted && !scans.is_through());
        if ended.gave_up || interrupted {
            ended.left += (table.waiting() - table.owed()) as u64;
            // How many found no room in the table nobody counted: one at least.
            ended.left += u64::from(table.look_again_at().is_some());
        }
        if once && ended.gave_up {
            once::name_left(&context, &table, &ready);
        }
        let is_sick = context.place.open_for(Instant::now()).is_some();
        let all_count = once && (ended.gave_up || interrupted || context.hold.is_held());
        // A sick place, the operator or a signal kept them from being taken.
        let ready = if is_sick || all_count { ready.len() } else { ready.owed() };
        ended.left += ready as u64;
        // What waits for the place holds what other jobs wait for: it ends as at every stop.
        stop.cancel();
        drop((outlet, feedback));
        while let Some(Feedback { outcome, .. }) = returned.next().await {
            let handed_back = all_count && outcome == Outcome::HandedBack;
            ended.left += u64::from(outcome.is_owed() || handed_back);
        }
        // How many there are nobody counted: one at least.
        ended.left += u64::from(context.has_unfinished());
        ended
    }
}
