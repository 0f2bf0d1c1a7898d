//! Intake: from names to files that are ready. No handle is held on a file here.
//!
//! One thread per pipeline runs [`Intake::run`]: it waits for hints, for jobs that come back, for
//! paths that are due; looks at what they name; and sends what is ready to claim. It is the only
//! part of the pipeline that sees the stop: it ends, and its closed channel drains the rest.

pub mod discover;

pub mod settle;

mod once;

mod root;

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Instant};

use futures_util::FutureExt;
use tokio::{sync::mpsc, task::unconstrained};
use tokio_stream::{
    StreamExt,
    wrappers::{ReceiverStream, UnboundedReceiverStream},
};
use tokio_util::sync::CancellationToken;

use self::{
    discover::{Bell, Candidates, Hints, Look, Scan, Taken},
    root::Root,
    settle::{Rules, Table},
};
use crate::{
    failpoint, limits,
    pipeline::{
        context::Context,
        job::{Feedback, Job, Origin, Outcome, Settled},
        place::Admission,
        stage::Outlet,
    },
    stages::Stage,
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
    candidates: Candidates,
    once: bool,
    /// Closing: the first signal, or nothing left to do.
    stop: CancellationToken,
    outlet: Outlet<Job>,
    /// Cloned into every job's ticket.
    feedback: mpsc::UnboundedSender<Feedback>,
    hints: Hints,
    root: Root,
    table: Table,
    scans: VecDeque<Scan>,
    ready: VecDeque<Settled>,
    next_rescan: Instant,
    /// Directories that events told of, to be scanned once more at their time.
    new_directories: VecDeque<(Instant, PathBuf)>,
    next_count: Instant,
    told_pending: usize,
    started: Instant,
    probing: Option<PathBuf>,
    ended: Ended,
}

/// What wakes the intake.
enum Wake {
    Returned(Feedback),
    Hints,
}

/// What [`Intake::new`] needs beside the context.
#[derive(Debug)]
pub struct Parts {
    pub once: bool,
    pub stop: CancellationToken,
    pub outlet: Outlet<Job>,
    /// A hint from outside, such as a requeue, rings it as an overflow does.
    pub hints: Hints,
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
    pub fn new(context: Arc<Context>, parts: Parts, bell: Bell) -> (Self, Wakers) {
        let Parts { once, stop, outlet, hints } = parts;
        let (feedback, returned) = mpsc::unbounded_channel();
        let returned = UnboundedReceiverStream::new(returned);
        let wakers = Wakers { returned, bell: ReceiverStream::new(bell) };
        let root = Root::new(&context, once, hints.clone());
        let rules = Rules {
            settle: context.config.settle,
            min_age: context.config.min_age,
            network: root.is_network(),
        };
        let candidates = Candidates::of(&context.config);
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
            table: Table::new(rules),
            scans: VecDeque::new(),
            ready: VecDeque::new(),
            next_rescan: now,
            new_directories: VecDeque::new(),
            next_count: now,
            told_pending: 0,
            started: now,
            probing: None,
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
        self.full_scan(Origin::Scan);
        while !self.stop.is_cancelled() && !self.is_finished() {
            let until = self.work();
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
            Wake::Hints => self.take_hints(),
        }
    }

    /// One round of looking: scans, paths that are due. Says when the next round is, at the latest.
    fn work(&mut self) -> Instant {
        let now = Instant::now();
        match self.root.check(&self.context, now) {
            root::State::Same => {}
            root::State::New => self.full_scan(Origin::Scan),
            root::State::Away(until) => return until,
        }
        if now >= self.next_rescan {
            self.full_scan(Origin::Rescan);
        }
        while let Some((_, path)) = self.new_directories.pop_front_if(|(at, _)| *at <= now) {
            self.scan_below(path);
        }
        let due = self.table.take_due(now, limits::LOOKS);
        for path in due {
            self.look(path, Origin::Hint, false);
        }
        if self.has_room() {
            self.scan();
        }
        let next_count = self.tell_pending(now);
        let next_look = self.new_directories.front().map(|(at, _)| *at);
        let soonest = [self.table.next_due(), next_look, next_count].into_iter().flatten().min();
        let soonest = soonest.unwrap_or(self.next_rescan).min(self.next_rescan);
        let gives_up = self.started + limits::ONCE_BUSY;
        let soonest = if self.once && now < gives_up { soonest.min(gives_up) } else { soonest };
        match self.context.place.sick_for(now) {
            Some(_) => soonest.min(now + limits::BACKOFF),
            None => soonest,
        }
    }

    fn has_room(&self) -> bool {
        self.ready.len() < limits::READY && self.table.waiting() < limits::HINTS
    }

    fn has_work_now(&self) -> bool {
        let scanning = !self.scans.is_empty() && self.has_room() && self.root.dir().is_some();
        let due = self.table.next_due().is_some_and(|due| due <= Instant::now());
        (scanning || due) && self.ready.len() < limits::READY
    }

    /// A full scan takes the place of every other that waits.
    fn full_scan(&mut self, origin: Origin) {
        let Some(input) = self.root.dir() else { return };
        self.scans.clear();
        self.scans.push_back(Scan::new(input, PathBuf::new(), origin));
        self.next_rescan = Instant::now() + self.root.rescan(&self.context);
    }

    fn scan_below(&mut self, path: PathBuf) {
        if let Some(input) = self.root.dir() {
            self.scans.push_back(Scan::new(input, path, Origin::Scan));
        }
    }

    /// Counting is not free where much waits: now and then is enough. Says when to count again:
    /// while anything waits, and once more when nothing does.
    fn tell_pending(&mut self, now: Instant) -> Option<Instant> {
        let pending = self.table.waiting() + self.ready.len();
        if now >= self.next_count {
            self.next_count = now + limits::COUNT;
            self.told_pending = pending;
            self.context.meter.pending(pending, self.table.oldest(now));
        }
        (pending.max(self.told_pending) > 0).then_some(self.next_count)
    }

    fn scan(&mut self) {
        let Some(scan) = self.scans.front_mut() else { return };
        let origin = scan.origin;
        let found = scan.next(limits::LOOKS);
        // A watch scans again; `--once` must not say that it saw everything.
        self.ended.left += if self.once { scan.take_unlisted() } else { 0 };
        match found {
            None => {
                self.scans.pop_front();
            }
            Some(found) => {
                let start = Instant::now();
                for path in found {
                    self.look(path, origin, false);
                }
                self.context.meter.stage(Stage::Discover, start.elapsed());
            }
        }
    }

    fn take_hints(&mut self) {
        let Taken { paths, overflow, scan, root } = self.hints.take();
        if root {
            self.root.suspect();
        }
        if overflow {
            self.context.meter.overflow();
            tracing::warn!(pipeline = %self.context.name(), "events were lost: a full scan finds what they told of");
            self.full_scan(Origin::Scan);
        }
        if scan {
            self.full_scan(Origin::Scan);
        }
        for (path, finished) in paths {
            self.context.meter.hint();
            let path = self.candidates.marked(path);
            self.look(path, Origin::Hint, finished);
        }
    }

    fn look(&mut self, path: PathBuf, origin: Origin, finished: bool) {
        let Some(input) = self.root.dir() else { return };
        let began = self.context.tracer.now();
        let looked =
            failpoint::hit("discover").and_then(|()| self.candidates.look(input, &path, origin));
        match looked {
            Ok(Look::File(sighting)) => {
                let now = Instant::now();
                if finished {
                    self.table.closed(&path, now);
                }
                if let Some(mut settled) = self.table.sight(path, &sighting, now) {
                    let (file, waited) = ((self.context.name(), &*settled.path), settled.waited);
                    settled.trace = self.context.tracer.begin(began, file, waited, now);
                    self.context.meter.stage(Stage::Settle, waited);
                    self.ready.push_back(settled);
                }
            }
            Ok(Look::Directory) => {
                self.table.gone(&path);
                // Files made in it before it was watched raised no event; and the watch on it
                // begins only after the event that told of it.
                if !self.once && origin == Origin::Hint {
                    let at = Instant::now() + limits::WATCHED_BY;
                    self.new_directories.push_back((at, path.clone()));
                }
                self.scan_below(path);
            }
            Ok(Look::None) => self.table.gone(&path),
            Err(error) => {
                tracing::warn!(path = %crate::observe::shown(&path), %error, "cannot look at a file of the input: tried again");
                self.root.suspect();
                self.table.unseen(path, Instant::now());
            }
        }
    }

    /// Sends what is ready, as far as the place admits it; waits while the pipeline is full.
    async fn send(&mut self) {
        while !self.ready.is_empty() && !self.stop.is_cancelled() {
            if self.context.hold.is_held() {
                return;
            }
            let now = Instant::now();
            let admission = self.context.place.admit(now);
            if let Admission::Closed(_) | Admission::Waiting = admission {
                return;
            }
            let count = match admission {
                Admission::One => 1,
                _ => self.ready.len().min(limits::HANDED_ON),
            };
            let outlet = self.outlet.clone();
            let room = tokio::select! {
                room = outlet.reserve(count) => room,
                () = self.stop.cancelled() => None,
            };
            let (Some(mut room), Some(input)) = (room, self.root.dir()) else { return };
            // The wait for room may have been long.
            if self.context.hold.is_held() {
                if admission == Admission::One {
                    self.context.place.probe_returned(now);
                }
                return;
            }
            for settled in self.ready.drain(..count) {
                failpoint::pass("settle");
                if admission == Admission::One {
                    self.probing = Some(settled.path.clone());
                }
                let (context, input) = (Arc::clone(&self.context), Arc::clone(input));
                room.send(Job::new(context, input, settled, self.feedback.clone()));
            }
        }
    }

    fn returned(&mut self, feedback: Feedback) {
        let now = Instant::now();
        if self.probing.as_ref() == Some(&feedback.path) {
            self.probing = None;
            self.context.place.probe_returned(now);
        }
        if feedback.outcome == Outcome::Left {
            self.ended.left += 1;
        }
        if let Some(path) = self.table.returned(feedback, now) {
            self.look(path, Origin::Hint, false);
        }
    }

    /// Closes the channel to claim, which drains the pipeline, and takes back every job.
    async fn close(self, mut returned: UnboundedReceiverStream<Feedback>) -> Ended {
        let Self { mut ended, table, ready, outlet, feedback, context, once, .. } = self;
        ended.left += table.owed() as u64;
        if ended.gave_up {
            ended.left += (table.waiting() - table.owed()) as u64;
        }
        if once && ended.gave_up {
            once::name_left(&context, &table, &ready);
        }
        let is_sick = context.place.sick_for(Instant::now()).is_some();
        if is_sick || (once && context.hold.is_held()) {
            // Only the sick place, or the operator, kept them from being taken.
            ended.left += ready.len() as u64;
        }
        drop((outlet, feedback));
        while let Some(Feedback { outcome, .. }) = returned.next().await {
            ended.left += u64::from(outcome.is_owed());
        }
        ended
    }
}
