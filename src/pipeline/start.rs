//! The start, control and end of all pipelines.

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
    operator_pause::OperatorPause,
    priority::Peers,
    wiring::Wiring,
};
use crate::{config::Limits, observe::Observer};

/// The inputs of [`Pipelines::start`].
#[derive(Debug)]
pub struct PipelineInputs {
    pub contexts: Vec<Arc<Context>>,
    /// The pauses of the pipelines that begin later, through [`Intakes`].
    pub late: Vec<OperatorPause>,
    pub peers: Peers,
    pub limits: Limits,
    pub once: bool,
    pub observer: Arc<Observer>,
    pub runtime: Handle,
}

/// The threads of all running pipelines. [`Self::drained`] joins them; after a drop they drain
/// without a summary.
#[derive(Debug)]
pub struct Pipelines {
    intakes: Intakes,
    panics: Panics,
    halt: Halt,
}

/// Controls the running pipelines from any thread. Dropping it does nothing.
#[derive(Clone, Debug)]
pub struct Control {
    /// Cancelled by [`Self::close`]: closes every intake.
    stop: CancellationToken,
    /// Cancelled by [`Self::cut`]: forces the stop.
    cut: CancellationToken,
    /// Cancelled when the last thread of the pipelines has ended.
    ended: CancellationToken,
    halt: Halt,
    intakes: Intakes,
}

/// The result of the drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainSummary {
    /// Files that were taken and not finished.
    pub unfinished: u64,
    /// `--once` gave up on unfinished files, or on storage that is unavailable or does not respond.
    pub gave_up: bool,
    /// Publishing ended because storage failed.
    pub storage_failed: bool,
    /// Caught panics of stages, and panicked threads.
    pub panics: u64,
}

impl Pipelines {
    /// Starts every thread. An error ends the threads that were started.
    pub fn start(inputs: PipelineInputs) -> io::Result<(Self, Control)> {
        let PipelineInputs { contexts, late, peers, limits, once, observer, runtime } = inputs;
        let (stop, cut, ended) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let halt = Halt::default();
        let alive = Arc::new(ended.clone().drop_guard());
        if !once {
            // A watching service runs until its stop, even without a started pipeline.
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
            halt: halt.clone(),
            panics: panics.clone(),
        };
        let intakes = Intakes::new(SharedParts { once, stop: stop.clone(), wiring }, &alive);
        intakes.expect(late);
        intakes.begin(intakes.prepare(contexts, peers)?);
        let pipelines = Self { intakes: intakes.clone(), panics, halt: halt.clone() };
        Ok((pipelines, Control { stop, cut, ended, halt, intakes }))
    }

    /// Returns the result of the drain. Blocks until the threads have ended: wait for
    /// [`Control::ended`] first.
    #[must_use]
    pub fn drained(self) -> DrainSummary {
        let mut drain = DrainSummary {
            panics: self.panics.count(),
            storage_failed: self.halt.is_set(),
            ..DrainSummary::default()
        };
        drain.gave_up = self.intakes.gave_up();
        let (summaries, panics) = self.intakes.join();
        drain.panics += panics;
        for summary in summaries {
            drain.unfinished += summary.unfinished;
            drain.gave_up |= summary.gave_up;
        }
        drain
    }
}

impl Control {
    /// Closes every intake: no file is taken from now on, and files in flight drain.
    pub fn close(&self) {
        self.stop.cancel();
    }

    /// Forces the stop: staged outputs are committed, all other files stay unfinished.
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

    /// Pauses or resumes the intake of one pipeline, or of all: a paused intake takes no new file, and
    /// files in flight are finished.
    pub fn set_paused(&self, pipeline: Option<&str>, paused: bool) -> Result<(), NoSuchPipeline> {
        self.intakes.set_paused(pipeline, paused)
    }

    /// Returns the intakes, to stop and start single pipelines.
    #[must_use]
    pub const fn intakes(&self) -> &Intakes {
        &self.intakes
    }

    /// Ends all publishing after an error of the ledger that leaves durability unknown.
    pub fn storage_failed(&self, source: crate::ledger::Error) {
        let path = source.path.clone();
        self.halt.set(&CommitError::Ledger { path, source }.into());
    }

    /// Resolves when storage failed and publishing ended.
    pub async fn halted(&self) {
        self.halt.wait().await;
    }

    /// Returns the reason why publishing ended, if it did.
    #[must_use]
    pub fn halt_reason(&self) -> Option<String> {
        self.halt.reason()
    }

    /// Resolves when every thread has ended: after [`Self::close`], or in `--once` automatically.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}
