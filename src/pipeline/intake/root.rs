//! The input directory itself: whether it exists, is still the same, and is watched.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::chain,
    fingerprint::FileId,
    limits,
    observe::Pause,
    pipeline::context::Context,
    source::{self, Source, Subscription, event_queue::EventQueue},
};

/// The input directory of one intake. Dropping it ends the watch.
#[derive(Debug)]
pub struct Root {
    /// The open input; `None` while it is unavailable.
    input: Option<Arc<dyn Source>>,
    /// The running watch; `None` in `--once` and while the input is polled.
    watch: Option<Subscription>,
    /// The queue that the watch fills.
    events: EventQueue,
    once: bool,
    /// Whether it is on a network file system.
    is_network: bool,
    /// The time of the next check, at the latest.
    next_check: Instant,
    unavailable_since: Option<Instant>,
    /// The service's own files and directories, and the input itself: no path below the input may lead
    /// to them.
    own_ids: Vec<FileId>,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootState {
    Same,
    /// It is available again, or another directory has its name.
    New,
    /// It is unavailable until a check at this time.
    Unavailable(Instant),
}

impl Root {
    pub fn new(context: &Context, once: bool, events: EventQueue) -> Self {
        let mut root = Self {
            input: None,
            watch: None,
            events,
            once,
            is_network: false,
            next_check: Instant::now(),
            unavailable_since: None,
            own_ids: Vec::new(),
        };
        // The first check detects and logs an error.
        drop(root.open(context));
        root
    }

    #[must_use]
    pub const fn input(&self) -> Option<&Arc<dyn Source>> {
        self.input.as_ref()
    }

    /// Returns the time for which it has been unavailable; zero if it is available.
    #[must_use]
    pub fn unavailable_for(&self, now: Instant) -> Duration {
        self.unavailable_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    #[must_use]
    pub const fn is_network(&self) -> bool {
        self.is_network
    }

    /// Returns the time between two full scans, which is shorter without a watch.
    #[must_use]
    pub fn rescan_interval(&self, context: &Context) -> Duration {
        let is_polled = self.watch.is_none() && !self.once;
        let rescan = context.config.keys.rescan;
        if is_polled { rescan.min(limits::POLL_INTERVAL) } else { rescan }
    }

    #[must_use]
    pub const fn next_check(&self) -> Instant {
        self.next_check
    }

    #[must_use]
    pub fn own_ids(&self) -> &[FileId] {
        &self.own_ids
    }

    /// Makes the check due now, after an event or an error of the input itself.
    pub fn request_check(&mut self) {
        self.next_check = Instant::now();
    }

    /// Checks the input directory if the check is due, and opens a new one.
    pub fn check(&mut self, context: &Context, now: Instant) -> RootState {
        if now < self.next_check {
            return if self.input.is_some() {
                RootState::Same
            } else {
                RootState::Unavailable(self.next_check)
            };
        }
        self.next_check = now + limits::POLL_INTERVAL;
        let found = open(context);
        match (found, &self.input) {
            (Ok(found), Some(input)) if is_same(&*found, &**input) => {
                self.own_ids = own_ids(context, &**input);
                RootState::Same
            }
            (Ok(_), _) => self.set_available(context, now),
            (Err(error), _) => self.set_unavailable(context, &error.source, now),
        }
    }

    fn set_available(&mut self, context: &Context, now: Instant) -> RootState {
        match self.open(context) {
            Ok(()) => {
                if self.unavailable_since.take().is_some() {
                    tracing::info!(event = "intake.resumed", pipeline = %context.name(), "input available, intake resumed");
                    context.meter.paused(Pause::Input, None);
                }
                RootState::New
            }
            Err(error) => self.set_unavailable(context, &error.source, now),
        }
    }

    fn set_unavailable(&mut self, context: &Context, error: &io::Error, now: Instant) -> RootState {
        if self.unavailable_since.is_none() {
            let input = crate::observe::display_path(&context.config.input).to_string();
            let reason = format!("cannot open the input {input}: {error}");
            tracing::warn!(event = "intake.paused", pipeline = %context.name(), reason, "input unavailable, intake paused");
            context.meter.paused(Pause::Input, Some(&reason));
            self.unavailable_since = Some(now);
        }
        self.watch = None;
        self.input = None;
        self.next_check = now + limits::BACKOFF;
        RootState::Unavailable(self.next_check)
    }

    /// Starts the watch and then opens the input again, so that no change in between is missed.
    fn open(&mut self, context: &Context) -> source::Result<()> {
        let input = open(context)?;
        self.is_network = input.is_remote();
        self.watch = self.start_watch(context, &*input);
        let input = open(context)?;
        self.own_ids = own_ids(context, &*input);
        self.input = Some(input);
        Ok(())
    }

    fn start_watch(&self, context: &Context, input: &dyn Source) -> Option<Subscription> {
        if self.once {
            return None;
        }
        let every_seconds = limits::POLL_INTERVAL.as_secs();
        match input.subscribe(self.events.clone()) {
            Ok(Some(watch)) => Some(watch),
            Ok(None) => {
                tracing::info!(event = "intake.polling", pipeline = %context.name(), every_seconds, "input on a network file system, polling");
                None
            }
            Err(error) => {
                tracing::warn!(event = "intake.polling", pipeline = %context.name(), error = chain(&*error), every_seconds, "cannot watch the input, polling");
                None
            }
        }
    }
}

fn open(context: &Context) -> source::Result<Arc<dyn Source>> {
    source::open(&context.config.input, &context.instance, Arc::clone(&context.targets))
}

/// Returns the file IDs to which no path below the input may lead.
fn own_ids(context: &Context, input: &dyn Source) -> Vec<FileId> {
    context.own_paths.all(&context.config).into_iter().chain(file_id(input)).collect()
}

fn file_id(input: &dyn Source) -> Option<FileId> {
    input.metadata().ok().map(|root| root.identity.file_id())
}

fn is_same(input: &dyn Source, other: &dyn Source) -> bool {
    let id = file_id(input);
    id.is_some() && id == file_id(other)
}
