//! The files in flight of a pipeline: path, size, stage, progress and start.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{limits, stage::Stage, sync::Mutex};

/// Files in flight by job number. Numbers grow, so the first entry is the oldest.
#[derive(Debug, Default)]
pub struct InFlight(Mutex<BTreeMap<i64, InFlightFile>>);

#[derive(Debug)]
struct InFlightFile {
    path: PathBuf,
    bytes: u64,
    since: Instant,
    meter: Arc<JobMeter>,
}

/// Progress of one job. The job writes it; `InFlight` reads it.
#[derive(Debug)]
pub struct JobMeter {
    stage: AtomicU8,
    read_bytes: AtomicU64,
}

impl Default for JobMeter {
    fn default() -> Self {
        Self { stage: AtomicU8::new(Stage::Settle as u8), read_bytes: AtomicU64::new(0) }
    }
}

impl JobMeter {
    /// Records the stage of the job, until the next stage starts.
    pub fn stage_started(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
    }

    /// Records the number of source bytes read so far.
    pub fn read(&self, bytes: u64) {
        self.read_bytes.store(bytes, Relaxed);
    }

    fn stage(&self) -> Stage {
        let stage = usize::from(self.stage.load(Relaxed));
        super::STAGES.get(stage).copied().unwrap_or(Stage::Settle)
    }
}

/// A snapshot of a file in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlightView {
    pub id: i64,
    /// Relative to the input.
    pub path: PathBuf,
    pub bytes: u64,
    pub done_bytes: u64,
    pub stage: Stage,
    pub since: Instant,
}

/// Totals of the files in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlightTotals {
    pub files: u64,
    /// Bytes of their sources.
    pub bytes: u64,
    /// Bytes of their sources read so far.
    pub done_bytes: u64,
    pub oldest: Duration,
    /// Files on which no stage has begun.
    pub queued: u64,
    /// Large files that a lane processes.
    pub in_lanes: u64,
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, InFlightFile>> {
        self.0.lock()
    }

    /// Adds a job. Returns the number of jobs, and the meter that the job writes.
    pub fn begin(&self, id: i64, path: &Path, bytes: u64) -> (usize, Arc<JobMeter>) {
        let meter = Arc::new(JobMeter::default());
        let job_meter = Arc::clone(&meter);
        let job = InFlightFile { path: path.to_path_buf(), bytes, since: Instant::now(), meter };
        let mut jobs = self.lock();
        jobs.insert(id, job);
        (jobs.len(), job_meter)
    }

    /// Removes a job. Returns the number of jobs.
    pub fn end(&self, id: i64) -> usize {
        let mut jobs = self.lock();
        jobs.remove(&id);
        jobs.len()
    }

    pub fn totals(&self) -> InFlightTotals {
        let jobs = self.lock();
        InFlightTotals {
            files: jobs.len() as u64,
            bytes: jobs.values().map(|job| job.bytes).sum(),
            done_bytes: jobs.values().map(InFlightFile::done_bytes).sum(),
            oldest: jobs.values().next().map_or(Duration::ZERO, |job| job.since.elapsed()),
            queued: jobs.values().filter(|job| !job.is_running()).count() as u64,
            in_lanes: jobs.values().filter(|job| job.is_in_lane()).count() as u64,
        }
    }

    /// Returns at most `max` files: the running ones first, and the oldest first.
    pub fn oldest(&self, max: usize) -> Vec<InFlightView> {
        let jobs = self.lock();
        let running = jobs.iter().filter(|(_, job)| job.is_running());
        let queued = jobs.iter().filter(|(_, job)| !job.is_running());
        running.chain(queued).take(max).map(|(id, job)| job.view(*id)).collect()
    }
}

impl InFlightFile {
    fn is_running(&self) -> bool {
        self.meter.stage() != Stage::Settle
    }

    fn is_in_lane(&self) -> bool {
        self.bytes > limits::SMALL_FILE_MAX_BYTES as u64
            && matches!(self.meter.stage(), Stage::Read | Stage::Transform | Stage::Write)
    }

    fn done_bytes(&self) -> u64 {
        self.meter.read_bytes.load(Relaxed).min(self.bytes)
    }

    fn view(&self, id: i64) -> InFlightView {
        InFlightView {
            id,
            path: self.path.clone(),
            bytes: self.bytes,
            done_bytes: self.done_bytes(),
            stage: self.meter.stage(),
            since: self.since,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_comes_first_and_finished_files_do_not_count() {
        let in_flight = InFlight::default();
        assert_eq!(in_flight.totals(), InFlightTotals::default());
        for (id, name, bytes) in [(2, "b", 20), (1, "a", 10), (3, "c", 30)] {
            in_flight.begin(id, Path::new(name), bytes);
        }
        assert_eq!(in_flight.end(1), 2);
        assert_eq!((in_flight.totals().files, in_flight.totals().bytes), (2, 50));
        let [oldest] = in_flight.oldest(1).try_into().expect("one");
        assert_eq!((oldest.id, oldest.path.as_path()), (2, Path::new("b")));
    }

    #[test]
    fn running_files_come_before_older_ones_that_are_queued() {
        let in_flight = InFlight::default();
        let large = limits::SMALL_FILE_MAX_BYTES as u64 + 1;
        in_flight.begin(1, Path::new("queued"), large);
        let (_, streamed) = in_flight.begin(2, Path::new("streamed"), large);
        let (_, small) = in_flight.begin(3, Path::new("small"), 10);
        streamed.stage_started(Stage::Read);
        small.stage_started(Stage::Commit);
        let order: Vec<i64> = in_flight.oldest(3).iter().map(|job| job.id).collect();
        assert_eq!(order, [2, 3, 1]);
        assert_eq!((in_flight.totals().queued, in_flight.totals().in_lanes), (1, 1));
        streamed.stage_started(Stage::Commit);
        assert_eq!(in_flight.totals().in_lanes, 0);
    }

    #[test]
    fn a_job_shows_its_progress_and_never_more_than_its_size() {
        let in_flight = InFlight::default();
        let (_, meter) = in_flight.begin(1, Path::new("a"), 10);
        assert_eq!(in_flight.oldest(1)[0].stage, Stage::Settle);
        for stage in super::super::STAGES {
            meter.stage_started(stage);
            assert_eq!(in_flight.oldest(1)[0].stage, stage);
        }
        meter.read(4);
        assert_eq!((in_flight.oldest(1)[0].done_bytes, in_flight.totals().done_bytes), (4, 4));
        meter.read(11);
        assert_eq!(in_flight.oldest(1)[0].done_bytes, 10);
    }
}
