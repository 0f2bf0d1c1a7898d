//! The input directory itself: that it is there, is the one it was, and is watched.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::discover::{EventQueue, Watch};
use crate::{
    fingerprint::FileId,
    fs::{self, Dir},
    limits,
    observe::Pause,
    pipeline::context::Context,
};

/// Held by the intake. Dropping it ends the watch.
#[derive(Debug)]
pub struct Root {
    dir: Option<Arc<Dir>>,
    watch: Option<Watch>,
    hints: EventQueue,
    /// Nothing is watched in `--once`.
    once: bool,
    network: bool,
    /// It is looked at at this time, at the latest.
    next_check: Instant,
    away_since: Option<Instant>,
    /// What the service writes to, and the input itself: what no path below the input may lead to.
    own: Vec<FileId>,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Same,
    /// It is there again, or another directory has its name.
    New,
    /// It is not there; look again then.
    Away(Instant),
}

impl Root {
    pub fn new(context: &Context, once: bool, hints: EventQueue) -> Self {
        let mut root = Self {
            dir: None,
            watch: None,
            hints,
            once,
            network: false,
            next_check: Instant::now(),
            away_since: None,
            own: Vec::new(),
        };
        // What cannot be opened yet is found out about, and told, by the first check.
        drop(root.open(context));
        root
    }

    #[must_use]
    pub const fn dir(&self) -> Option<&Arc<Dir>> {
        self.dir.as_ref()
    }

    /// For how long it has been away; zero where it is there.
    #[must_use]
    pub fn away_for(&self, now: Instant) -> Duration {
        self.away_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    #[must_use]
    pub const fn is_network(&self) -> bool {
        self.network
    }

    /// The time between two full scans: short where nothing tells of changes.
    #[must_use]
    pub fn rescan(&self, context: &Context) -> Duration {
        let unwatched = self.watch.is_none() && !self.once;
        let rescan = context.config.rescan;
        if unwatched { rescan.min(limits::POLL_INTERVAL) } else { rescan }
    }

    /// When it is looked at next.
    #[must_use]
    pub const fn next_check(&self) -> Instant {
        self.next_check
    }

    #[must_use]
    pub fn own(&self) -> &[FileId] {
        &self.own
    }

    /// Something is wrong with it: the next check looks.
    pub fn suspect(&mut self) {
        self.next_check = Instant::now();
    }

    pub fn check(&mut self, context: &Context, now: Instant) -> State {
        if now < self.next_check {
            return if self.dir.is_some() { State::Same } else { State::Away(self.next_check) };
        }
        self.next_check = now + limits::POLL_INTERVAL;
        let found = Dir::open(&context.config.input);
        match (found, &self.dir) {
            (Ok(found), Some(dir)) if same(&found, dir) => {
                self.own = own(context, dir);
                State::Same
            }
            (Ok(_), _) => self.opened(context, now),
            (Err(error), _) => self.away(context, &error, now),
        }
    }

    fn opened(&mut self, context: &Context, now: Instant) -> State {
        match self.open(context) {
            Ok(()) => {
                if self.away_since.take().is_some() {
                    tracing::info!(event = "intake.resumed", pipeline = %context.name(), "input available, intake resumed");
                    context.meter.paused(Pause::Input, None);
                }
                State::New
            }
            Err(error) => self.away(context, &error, now),
        }
    }

    fn away(&mut self, context: &Context, error: &io::Error, now: Instant) -> State {
        if self.away_since.is_none() {
            let input = crate::observe::display_path(&context.config.input).to_string();
            let reason = format!("cannot open the input {input}: {error}");
            tracing::warn!(event = "intake.paused", pipeline = %context.name(), reason, "input unavailable, intake paused");
            context.meter.paused(Pause::Input, Some(&reason));
            self.away_since = Some(now);
        }
        self.watch = None;
        self.dir = None;
        self.next_check = now + limits::BACKOFF;
        State::Away(self.next_check)
    }

    /// Watches first and opens then, so that nothing comes in between unseen.
    fn open(&mut self, context: &Context) -> io::Result<()> {
        let dir = Dir::open(&context.config.input)?;
        self.network = fs::is_network(&dir)?;
        self.watch = self.watch(context, &context.config.input);
        let dir = Arc::new(Dir::open(&context.config.input)?);
        self.own = own(context, &dir);
        self.dir = Some(dir);
        Ok(())
    }

    fn watch(&self, context: &Context, input: &Path) -> Option<Watch> {
        if self.once {
            return None;
        }
        let every_seconds = limits::POLL_INTERVAL.as_secs();
        if self.network {
            tracing::info!(event = "intake.polling", pipeline = %context.name(), every_seconds, "input on a network file system, polling");
            return None;
        }
        match Watch::start(input, self.hints.clone()) {
            Ok(watch) => Some(watch),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(event = "intake.polling", pipeline = %context.name(), %error, cause, every_seconds, "cannot watch the input, polling");
                None
            }
        }
    }
}

/// What no path below the input may lead to.
fn own(context: &Context, input: &Dir) -> Vec<FileId> {
    let input = fs::identity_of(input).ok().map(|identity| identity.file_id());
    context.own.all(&context.config).into_iter().chain(input).collect()
}

fn same(one: &Dir, other: &Dir) -> bool {
    let place = |dir: &Dir| {
        let identity = fs::identity_of(dir).ok()?;
        Some((identity.device, identity.inode))
    };
    place(one).is_some() && place(one) == place(other)
}
