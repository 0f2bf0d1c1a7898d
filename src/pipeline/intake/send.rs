//! The send of settled files to claim, their feedback, and the probe of unavailable storage.

use std::{sync::Arc, time::Instant};

use super::Intake;
use crate::{
    failpoint, limits,
    observe::display_path,
    pipeline::{
        circuit_breaker::{Admission, Probe},
        job::{DiscoveredBy, Feedback, Job, JobEnd},
    },
};

impl Intake {
    /// Sends the ready files that the circuit breaker admits; waits while the pipeline is full. With an order,
    /// a scan ends first, and what comes meanwhile is looked at before each batch.
    pub(super) async fn send(&mut self) {
        while self.sendable() > 0 && !self.stop.is_cancelled() {
            if self.ready.are_ordered() {
                let now = Instant::now();
                self.take_observations(now);
                self.count_pending(now);
                if self.scans.has_work(now) {
                    return;
                }
            }
            if self.is_held() {
                return;
            }
            let (count, probe) = match self.context.breaker.admit(Instant::now()) {
                Admission::All => (self.sendable().min(limits::HANDOFF_FILES_MAX), None),
                Admission::One(probe) => (1, Some(probe)),
                Admission::NoneUntil(_) | Admission::NoneWhileProbing => return,
            };
            self.send_batch(count, probe).await;
            if self.root.input().is_none() {
                return;
            }
        }
        // A file in flight tests the storage, also if only the events file has no space.
        if self.table.in_flight() == 0 && !self.stop.is_cancelled() {
            self.probe();
        }
    }

    async fn send_batch(&mut self, count: usize, mut probe: Option<Probe>) {
        let outlet = self.outlet.clone();
        let slots = tokio::select! {
            slots = outlet.reserve(count) => slots,
            () = self.stop.cancelled() => None,
        };
        // The wait for slots may have been long.
        if self.is_held() {
            return;
        }
        let (Some(mut slots), Some(input)) = (slots, self.root.input()) else { return };
        for _ in 0..count {
            let Some(settled) = self.ready.take() else { return };
            failpoint::pass("settle");
            let (context, input) = (Arc::clone(&self.context), Arc::clone(input));
            let file = (settled, probe.take());
            let (feedback, stop) = (self.feedback.clone(), self.stop.clone());
            slots.send(Job::new(context, input, file, feedback, stop));
        }
    }

    /// Checks whether the operator or the window keeps the intake from sending.
    pub(super) fn is_held(&mut self) -> bool {
        self.window.is_closed(&self.context) || self.context.operator_pause.is_paused()
    }

    /// Tests unavailable storage with a file of its own, if no file is in flight.
    fn probe(&self) {
        let breaker = &self.context.breaker;
        if breaker.open_for(Instant::now()).is_none() {
            return;
        }
        let Admission::One(probe) = breaker.admit(Instant::now()) else { return };
        match self.context.sink.probe() {
            Ok(()) => breaker.reset(Instant::now()),
            Err(error) => {
                let output = display_path(&self.context.config.output).to_string();
                let error = error.source;
                breaker.trip(&format!("cannot write to {output}: {error}"), Instant::now());
            }
        }
        drop(probe);
    }

    /// Takes the outcome of a job.
    pub(super) fn on_feedback(&mut self, feedback: Feedback) {
        self.ready.on_outcome(&feedback.path);
        if feedback.outcome == JobEnd::Unfinished {
            self.summary.unfinished += 1;
        }
        if feedback.outcome.has_lost_name() {
            self.context.note_lost_name();
        }
        self.sequence.on_outcome(&self.context, &feedback.path, &feedback.outcome);
        let path = feedback.path.clone();
        let seen_again = self.table.on_feedback(feedback, Instant::now());
        self.mark_succeeded(&path);
        if let Some((path, arrival)) = seen_again {
            self.look(path, (DiscoveredBy::Event, arrival));
        }
    }
}
