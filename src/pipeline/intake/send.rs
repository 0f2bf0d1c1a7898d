//! How files leave the intake and come back to it, and how a sick place is tried.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Instant,
};

use super::Intake;
use crate::{
    failpoint,
    fs::Temp,
    limits,
    observe::display_path,
    pipeline::{
        circuit_breaker::{Admission, Probe},
        context::Context,
        job::{DiscoveredBy, Feedback, Job, Outcome},
    },
};

impl Intake {
    /// Sends what is ready, as far as the place admits it; waits while the pipeline is full.
    pub(super) async fn send(&mut self) {
        while self.ready.sendable() > 0 && !self.stop.is_cancelled() {
            if self.context.hold.is_held() {
                return;
            }
            let (count, probe) = match self.context.place.admit(Instant::now()) {
                Admission::Open => (self.ready.sendable().min(limits::HANDOFF_FILES_MAX), None),
                Admission::One(probe) => (1, Some(probe)),
                Admission::Closed(_) | Admission::Waiting => return,
            };
            self.send_some(count, probe).await;
            if self.root.dir().is_none() {
                return;
            }
        }
        // What is in work shows whether it is well, also where only the events file has no space.
        if self.table.in_work() == 0 && !self.stop.is_cancelled() {
            self.probe();
        }
    }

    async fn send_some(&mut self, count: usize, mut probe: Option<Probe>) {
        let outlet = self.outlet.clone();
        let room = tokio::select! {
            room = outlet.reserve(count) => room,
            () = self.stop.cancelled() => None,
        };
        let (Some(mut room), Some(input)) = (room, self.root.dir()) else { return };
        // The wait for room may have been long.
        if self.context.hold.is_held() {
            return;
        }
        for _ in 0..count {
            let Some(settled) = self.ready.take() else { return };
            failpoint::pass("settle");
            let (context, input) = (Arc::clone(&self.context), Arc::clone(input));
            let sent = (settled, probe.take());
            let (feedback, stop) = (self.feedback.clone(), self.stop.clone());
            room.send(Job::new(context, input, sent, feedback, stop));
        }
    }

    /// Where the place is sick and there is no file to try it with: writes one of its own.
    fn probe(&self) {
        let place = &self.context.place;
        if place.open_for(Instant::now()).is_none() {
            return;
        }
        let Admission::One(probe) = place.admit(Instant::now()) else { return };
        match write_and_remove(&self.context) {
            Ok(()) => place.reset(Instant::now()),
            Err(error) => {
                let output = display_path(&self.context.config.output).to_string();
                place.trip(&format!("cannot write to {output}: {error}"), Instant::now());
            }
        }
        drop(probe);
    }

    pub(super) fn returned(&mut self, feedback: Feedback) {
        self.ready.returned(&feedback.path);
        if feedback.outcome == Outcome::Left {
            self.ended.left += 1;
        }
        if let Some((path, arrival)) = self.table.returned(feedback, Instant::now()) {
            self.look(path, (DiscoveredBy::Hint, arrival));
        }
    }
}

/// Writes a temporary file of the output, makes it durable and removes it again.
fn write_and_remove(context: &Context) -> io::Result<()> {
    let dir = context.reopen_output()?;
    failpoint::hit("write")?;
    let temp = Temp::create(&dir, &context.instance)?;
    temp.file().write_all(&vec![0; limits::PROBE_BYTES])?;
    temp.file().sync_data()
}
