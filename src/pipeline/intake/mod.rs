//! Intake: discovers names and sends files that are ready. It holds no handle of a file.
//!
//! One thread per pipeline runs [`Intake::run`]: it waits for events, for outcomes of jobs and for
//! paths that are due; looks at these paths; and sends the ready files to claim. It is the only part
//! of the pipeline that reacts to the stop: it ends, and its closed channel drains the other stages.

pub mod discover;

mod expectation;

pub mod settle;

mod absent;

mod look;

mod order;

mod ready;

mod scans;

mod send;

mod once;

mod root;

mod sequence;

mod window;

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Instant};

use futures_util::FutureExt;
use tokio::{sync::mpsc, task::unconstrained};
use tokio_stream::{
    StreamExt,
    wrappers::{ReceiverStream, UnboundedReceiverStream},
};
use tokio_util::sync::CancellationToken;

use self::{
    absent::AbsentNames,
    discover::Discovery,
    expectation::Expectation,
    once::LostNames,
    ready::ReadyFiles,
    root::{Root, RootState},
    scans::Scans,
    sequence::Sequence,
    settle::{SettleRules, SettleTable},
    window::WindowGate,
};
use crate::{
    limits,
    pipeline::{
        channel::Outlet,
        context::Context,
        job::{Arrival, DiscoveredBy, Feedback, Job},
    },
    source::event_queue::{EventQueue, WakeHandle},
};

/// The result of an intake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntakeSummary {
    /// Files that were taken and not finished: the next start resumes them.
    pub unfinished: u64,
    /// Whether it began to look at its input.
    pub has_begun: bool,
    /// `--once` gave up on storage that stayed unavailable, or on files that are still being written.
    pub gave_up: bool,
}

/// The intake of one pipeline.
#[derive(Debug)]
pub struct Intake {
    context: Arc<Context>,
    discovery: Discovery,
    once: bool,
    /// Cancelled to close the intake: by the first signal, a reload, or the end of `--once`.
    stop: CancellationToken,
    /// The channel to claim. Dropping it starts the drain.
    outlet: Outlet<Job>,
    /// Cloned into every job's ticket.
    feedback: mpsc::UnboundedSender<Feedback>,
    events: EventQueue,
    root: Root,
    table: SettleTable,
    absent: AbsentNames,
    lost_names: LostNames,
    scans: Scans,
    ready: ReadyFiles,
    window: WindowGate,
    expectation: Expectation,
    sequence: Sequence,
    /// Whether the event queue may hold more events.
    has_more_events: bool,
    /// The service's own directories, and the state directories of others, that were logged as below
    /// the input; the empty path is the input itself, whose inode numbers do not last.
    logged_directories: HashSet<PathBuf>,
    /// The time of the next count of pending files.
    next_count: Instant,
    /// The latest count.
    counted_pending: usize,
    started: Instant,
    summary: IntakeSummary,
}

/// An event that wakes the intake.
enum Wake {
    Feedback(Feedback),
    Events,
}

/// The parts of an intake in addition to the context.
#[derive(Debug)]
pub struct IntakeParts {
    pub once: bool,
    pub stop: CancellationToken,
    pub outlet: Outlet<Job>,
    /// The queue of the watch and of external requests, such as a requeue.
    pub events: EventQueue,
}

/// The streams that wake an intake.
#[derive(Debug)]
pub struct Wakers {
    /// Ends when the last job has ended and the intake is closed.
    feedback: UnboundedReceiverStream<Feedback>,
    events: ReceiverStream<()>,
}

impl Intake {
    /// Creates the intake and the streams that wake it; `wake` belongs to the event queue.
    pub fn new(context: Arc<Context>, parts: IntakeParts, wake: WakeHandle) -> (Self, Wakers) {
        let IntakeParts { once, stop, outlet, events } = parts;
        let events = events.noting(context.successions.clone());
        let (feedback, receiver) = mpsc::unbounded_channel();
        let wakers = Wakers {
            feedback: UnboundedReceiverStream::new(receiver),
            events: ReceiverStream::new(wake),
        };
        let root = Root::new(&context, once, events.clone());
        let rules = SettleRules {
            settle: context.config.keys.settle,
            min_age: context.config.keys.min_age,
            network: root.is_network(),
        };
        let discovery = Discovery::of(&context.config);
        let ready = ReadyFiles::new(context.config.keys.order, context.config.keys.in_order);
        let window = WindowGate::new(&context, once);
        let now = Instant::now();
        let expectation = Expectation::new(&context, once, now);
        let intake = Self {
            context,
            discovery,
            once,
            stop,
            outlet,
            feedback,
            events,
            root,
            table: SettleTable::new(rules),
            absent: AbsentNames::default(),
            lost_names: LostNames::default(),
            scans: Scans::default(),
            ready,
            window,
            expectation,
            sequence: Sequence::default(),
            has_more_events: true,
            logged_directories: HashSet::new(),
            next_count: now,
            counted_pending: 0,
            started: now,
            summary: IntakeSummary { has_begun: true, ..IntakeSummary::default() },
        };
        (intake, wakers)
    }

    /// Runs until the stop, or in `--once` until every file of the input is finished; then waits for
    /// every job in flight.
    pub async fn run(mut self, wakers: Wakers) -> IntakeSummary {
        let Wakers { mut feedback, mut events } = wakers;
        let mut wakes =
            (&mut feedback).map(Wake::Feedback).merge((&mut events).map(|()| Wake::Events));
        self.scans.request(DiscoveredBy::Scan, self.started);
        while !self.stop.is_cancelled() && !self.is_finished() {
            let until = self.run_round();
            self.send().await;
            if !self.is_finished() && !self.has_work_now() {
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    Some(wake) = wakes.next() => self.on_wake(wake),
                    () = tokio::time::sleep_until(until.into()) => {}
                }
            }
            // `unconstrained`: the task budget of the runtime would end this early, and feedback would
            // pile up.
            while let Some(Some(wake)) = unconstrained(wakes.next()).now_or_never() {
                self.on_wake(wake);
            }
        }
        self.close(feedback).await
    }

    fn on_wake(&mut self, wake: Wake) {
        match wake {
            Wake::Feedback(feedback) => self.on_feedback(feedback),
            Wake::Events => self.has_more_events = true,
        }
    }

    /// Runs one round of looks: due paths, events, scans. Returns the time of the next round, at the
    /// latest.
    fn run_round(&mut self) -> Instant {
        let now = Instant::now();
        self.window.look(&self.context);
        match self.root.check(&self.context, now) {
            RootState::Same => {}
            RootState::New => {
                self.scans.clear();
                self.absent.clear();
                self.context.successions.as_ref().inspect(|all| all.overflow());
                self.scans.request(DiscoveredBy::Scan, now);
            }
            RootState::Unavailable(until) => {
                self.scans.clear();
                self.absent.clear();
                return self.check_expected(now).map_or(until, |at| at.min(until));
            }
        }
        self.discovery.set_own_ids(self.root.own_ids().to_vec());
        self.scans.request_if_due(now);
        if self.ready.has_rest() && self.ready.is_empty() {
            self.scans.request(DiscoveredBy::Rest, now);
        } else if !self.ready.has_rest() && self.table.look_again_at().is_some_and(|at| at <= now) {
            self.scans.request(DiscoveredBy::Scan, now);
        }
        self.take_observations(now);
        if self.has_room() {
            self.scan(now);
        }
        self.mark_absent(now);
        self.next_round(now)
    }

    /// Looks at the paths that are due, and at those of events.
    fn take_observations(&mut self, now: Instant) {
        if self.has_room() {
            let due = self.table.take_due(now, limits::LOOKS_PER_TURN_MAX);
            for path in due {
                self.look(path, (DiscoveredBy::Event, Arrival::Unknown));
            }
        }
        if self.has_room() {
            self.take_events();
        }
    }

    fn next_round(&mut self, now: Instant) -> Instant {
        let next_count = self.count_pending(now);
        // Without room no path is looked at, even if it is due: the feedback that makes room wakes.
        let if_room = |at: Option<Instant>| at.filter(|_| self.has_room());
        let next_due = if_room(self.table.next_due());
        let next_scan = if_room(self.scans.next(now));
        let look_again = self.table.look_again_at().filter(|at| *at > now);
        let next_look = if_room(look_again.filter(|_| !self.ready.has_rest()));
        let next_absent = self.absent.next_due();
        let next_check = Some(self.root.next_check());
        let next_window = self.window.wait().map(|wait| now + wait);
        let next_expected = self.check_expected(now);
        let times =
            [next_due, next_scan, next_look, next_count, next_absent, next_check, next_window];
        let times = times.into_iter().chain([next_expected]).flatten();
        let next = times.min().unwrap_or(now + limits::POLL_INTERVAL);
        let give_up_at = self.started + self.once_timeout();
        let next = if self.once && now < give_up_at { next.min(give_up_at) } else { next };
        match self.context.breaker.open_for(now) {
            Some(_) => next.min(now + limits::BACKOFF),
            None => next,
        }
    }

    fn has_room(&self) -> bool {
        self.ready.has_room()
    }

    fn has_work_now(&self) -> bool {
        let now = Instant::now();
        let is_due = || self.table.next_due().is_some_and(|due| due <= now);
        self.has_room()
            && self.root.input().is_some()
            && (self.has_more_events || self.scans.has_work(now) || is_due())
    }

    /// Checks whether the pipeline is overdue; returns the time of the next check.
    fn check_expected(&mut self, now: Instant) -> Option<Instant> {
        let has_file = !self.ready.is_empty() || self.table.in_flight() > 0;
        self.expectation.check(&self.context, has_file, now)
    }

    /// Counts the pending files, at intervals because a count of many files takes time. Returns the
    /// time of the next count while files are pending, and for one more count after that.
    pub(super) fn count_pending(&mut self, now: Instant) -> Option<Instant> {
        let pending = self.table.waiting() + self.ready.len();
        if now >= self.next_count {
            self.next_count = now + limits::PENDING_COUNT_INTERVAL;
            self.counted_pending = pending;
            let (bytes, oldest) = self.table.bytes_and_oldest(now);
            self.context.meter.pending(pending, bytes + self.ready.bytes(), oldest);
        }
        (pending.max(self.counted_pending) > 0).then_some(self.next_count)
    }

    /// Closes the channel to claim, which drains the pipeline, and waits for every outcome.
    async fn close(self, mut outcomes: UnboundedReceiverStream<Feedback>) -> IntakeSummary {
        let Self {
            mut summary,
            table,
            ready,
            outlet,
            feedback,
            context,
            once,
            stop,
            scans,
            lost_names,
            root,
            ..
        } = self;
        // `--once` must finish all files of the input; a watching service finds the files that have not
        // begun at its next start.
        let is_interrupted = once && stop.is_cancelled();
        let is_cut = is_interrupted || (once && summary.gave_up);
        summary.unfinished += table.attempted() as u64;
        let has_rest = table.look_again_at().is_some() || ready.has_rest();
        if is_cut {
            summary.unfinished += (table.waiting() - table.attempted()) as u64;
            // The number of paths without room in the table is unknown: count one.
            summary.unfinished += u64::from(has_rest);
            once::log_unsent(&context, &table, &ready);
        }
        let is_unavailable = context.breaker.open_for(Instant::now()).is_some();
        let counts_all = is_cut || (once && context.operator_pause.is_paused());
        // Unavailable storage, the operator or a signal kept them from being sent.
        let ready = if is_unavailable || counts_all { ready.len() } else { ready.attempted() };
        summary.unfinished += ready as u64;
        // A job that waits for storage holds permits that other jobs wait for: it ends as at every stop.
        stop.cancel();
        drop((outlet, feedback));
        let mut deferred = Vec::new();
        let mut is_scanned = scans.is_complete();
        while let Some(feedback) = outcomes.next().await {
            let Feedback { outcome, .. } = &feedback;
            is_scanned &= !outcome.has_lost_name();
            let is_left = outcome.is_unfinished() || (counts_all && !once::is_final(outcome));
            summary.unfinished += u64::from(is_left);
            if once && is_left {
                deferred.push(feedback);
            }
        }
        if let Some(input) = root.input() {
            absent::mark_all(&context, &**input);
        }
        once::log_unfinished(&context, &deferred);
        is_scanned &= !lost_names.has_some(&context, &table);
        // The number of files that an incomplete scan missed is unknown: count one.
        summary.unfinished += u64::from(is_interrupted && !is_scanned);
        if is_cut && (!is_scanned || has_rest) {
            once::log_not_scanned(&context);
        }
        summary
    }
}
