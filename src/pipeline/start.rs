//! All pipelines: their start, their control, and their end.

use std::{io, sync::Arc};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    channel::Panics,
    codec_memory::CodecMemory,
    context::Context,
    failure::CommitError,
    halt::Halt,
    intake_set::{Intakes, NoSuchPipeline, SharedParts},
    wiring::Wiring,
};
use crate::{config::Limits, observe::Observer};

/// What the pipelines are started with.
#[derive(Debug)]
pub struct PipelineInputs {
    pub contexts: Vec<Arc<Context>>,
    /// Those that begin later, by [`Intakes`].
    pub late: Vec<Arc<str>>,
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
    panics: Panics,
    fatal: Halt,
}

/// Steers the pipelines from anywhere. Dropping it does nothing.
#[derive(Clone, Debug)]
pub struct Control {
    stop: CancellationToken,
    cut: CancellationToken,
    ended: CancellationToken,
    fatal: Halt,
    intakes: Intakes,
}

/// How the drain ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainSummary {
    /// Files that were taken and not finished.
    pub left: u64,
    /// `--once` gave up on files that were not finished, or on a sick or silent place.
    pub gave_up: bool,
    /// Publishing ended because storage failed.
    pub storage_failed: bool,
    pub panics: u64,
}

impl Pipelines {
    /// Starts every thread. An error ends those that were started.
    pub fn start(start: PipelineInputs) -> io::Result<(Self, Control)> {
        let PipelineInputs { contexts, late, limits, once, observer, runtime } = start;
        let (stop, cut, ended) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let fatal = Halt::default();
        let alive = Arc::new(ended.clone().drop_guard());
        if !once {
            // A service that watches ends by its stop, also while it has no pipeline that began.
            let (stop, alive) = (stop.clone(), Arc::clone(&alive));
            runtime.spawn(async move {
                stop.cancelled().await;
                drop(alive);
            });
        }
        let panics = Panics::default();
        let wiring = Wiring {
            limits,
            codecs: CodecMemory::new(crate::limits::codec_bytes(limits.memory.bytes())),
            observer,
            runtime,
            cut: cut.clone(),
            fatal: fatal.clone(),
            panics: panics.clone(),
        };
        let intakes = Intakes::new(SharedParts { once, stop: stop.clone(), wiring }, &alive);
        let count = contexts.len() + late.len();
        intakes.expect(late);
        intakes.begin(intakes.prepare(contexts, count)?);
        let pipelines = Self { intakes: intakes.clone(), panics, fatal: fatal.clone() };
        Ok((pipelines, Control { stop, cut, ended, fatal, intakes }))
    }

    /// What the drain came to. Blocks until the threads have ended, which [`Control::ended`] tells.
    #[must_use]
    pub fn drained(self) -> DrainSummary {
        let mut drained = DrainSummary {
            panics: self.panics.count(),
            storage_failed: self.fatal.is_set(),
            ..DrainSummary::default()
        };
        drained.gave_up = self.intakes.gave_up();
        let (ended, panics) = self.intakes.join();
        drained.panics += panics;
        for ended in ended {
            drained.left += ended.left;
            drained.gave_up |= ended.gave_up;
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
    pub fn set_paused(&self, pipeline: Option<&str>, held: bool) -> Result<(), NoSuchPipeline> {
        self.intakes.set_paused(pipeline, held)
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
