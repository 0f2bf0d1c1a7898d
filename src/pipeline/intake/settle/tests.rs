use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    fs::{FileMetadata, Kind},
    pipeline::job::{Arrival, DiscoveredBy, Observation},
};

/// Without quiet time: a file is taken at its close.
const AT_ONCE: SettleRules =
    SettleRules { settle: Settle::Quiet(Duration::ZERO), min_age: Duration::ZERO, network: false };
const AUTO: SettleRules =
    SettleRules { settle: Settle::Auto, min_age: Duration::ZERO, network: false };

/// A table with a test clock.
struct Bench {
    table: SettleTable,
    start: Instant,
}

impl Bench {
    fn new(rules: SettleRules) -> Self {
        Self { table: SettleTable::new(rules), start: Instant::now() }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// Observes `a` with this size and age at this second.
    fn observe(&mut self, size: u64, age: u64, second: u64) -> Option<SettledFile> {
        let identity = Fingerprint { inode: 1, size, ..Fingerprint::NONE };
        self.observe_file(identity, age, second)
    }

    fn observe_file(
        &mut self,
        identity: Fingerprint,
        age: u64,
        second: u64,
    ) -> Option<SettledFile> {
        let metadata =
            FileMetadata { kind: Kind::File, identity, mode: 0o644, owner: 0, group: 0, names: 1 };
        let age = Duration::from_secs(age);
        let observation =
            Observation { metadata, age, origin: DiscoveredBy::Event, arrival: Arrival::Unknown };
        let now = self.at(second);
        self.table.observe("a".into(), &observation, now)
    }

    /// Observes `a` with this event and age at this millisecond.
    fn arrive(&mut self, arrival: Arrival, age: u64, millisecond: u64) -> Option<SettledFile> {
        let identity = Fingerprint { inode: 1, size: 1, ..Fingerprint::NONE };
        let metadata =
            FileMetadata { kind: Kind::File, identity, mode: 0o644, owner: 0, group: 0, names: 1 };
        let age = Duration::from_millis(age);
        let observation = Observation { metadata, age, origin: DiscoveredBy::Event, arrival };
        self.table.observe(
            "a".into(),
            &observation,
            self.start + Duration::from_millis(millisecond),
        )
    }

    /// Observes `a`, a large file without room, with this size at this second.
    fn postpone(&mut self, size: u64, second: u64) {
        let identity = Fingerprint { inode: 1, size, ..Fingerprint::NONE };
        let metadata =
            FileMetadata { kind: Kind::File, identity, mode: 0o644, owner: 0, group: 0, names: 1 };
        let observation = Observation {
            metadata,
            age: Duration::ZERO,
            origin: DiscoveredBy::Event,
            arrival: Arrival::Unknown,
        };
        let now = self.at(second);
        self.table.postpone("a".into(), &observation, now);
    }

    fn returned(&mut self, outcome: JobEnd, second: u64) -> Option<PathBuf> {
        let now = self.at(second);
        let feedback = Feedback { path: "a".into(), outcome };
        self.table.on_feedback(feedback, now).map(|(path, _)| path)
    }

    fn due(&mut self, second: u64) -> usize {
        let now = self.at(second);
        self.table.take_due(now, 10).len()
    }
}

#[test]
fn a_file_without_room_waits_for_a_later_look_and_settles_meanwhile() {
    let settle = Settle::Quiet(Duration::from_secs(20));
    let mut bench = Bench::new(SettleRules { settle, ..AT_ONCE });
    bench.postpone(7, 0);
    assert_eq!((bench.due(4), bench.due(5)), (0, 1));
    bench.postpone(7, 6);
    bench.postpone(7, 7);
    assert_eq!((bench.table.waiting(), bench.due(10)), (1, 0));
    assert_eq!(bench.due(12), 1);
    assert!(bench.observe(7, 0, 20).is_some(), "unchanged since the first look");
    bench.postpone(7, 21);
    assert_eq!(bench.table.waiting(), 0, "it is in flight");
}

fn deferred(seconds: u64, cause: DeferReason) -> JobEnd {
    JobEnd::Deferred { after: Duration::from_secs(seconds), attempt: 2, cause }
}

#[test]
fn a_file_is_ready_at_once_and_in_flight_once() {
    let mut bench = Bench::new(AT_ONCE);
    assert!(bench.observe(1, 0, 0).is_some());
    assert!(bench.observe(1, 0, 0).is_none(), "T1");
    assert_eq!(bench.returned(JobEnd::Published, 1), Some("a".into()), "observed meanwhile");
    assert!(bench.observe(1, 0, 1).is_some());
    assert_eq!(bench.returned(JobEnd::Published, 2), None);
    assert_eq!((bench.table.in_flight(), bench.table.waiting()), (0, 0));
}

#[test]
fn quiet_time_begins_again_with_each_change() {
    let mut bench =
        Bench::new(SettleRules { settle: Settle::Quiet(Duration::from_secs(5)), ..AT_ONCE });
    assert!(bench.observe(1, 0, 0).is_none());
    assert_eq!(bench.table.next_due(), Some(bench.at(5)));
    assert!(bench.observe(2, 0, 4).is_none());
    assert!(bench.observe(2, 0, 8).is_none());
    assert_eq!(bench.due(8), 0);
    assert_eq!(bench.due(9), 1);
    let settled = bench.observe(2, 0, 9).expect("ready");
    assert!(settled.quiet_for >= limits::QUIET_TIME);
}

#[test]
fn an_old_file_was_quiet_before_its_first_observation() {
    let mut bench =
        Bench::new(SettleRules { settle: Settle::Quiet(Duration::from_secs(5)), ..AT_ONCE });
    assert!(bench.observe(1, 60, 0).is_some());
    let mut bench = Bench::new(SettleRules { min_age: Duration::from_mins(1), ..AT_ONCE });
    assert!(bench.observe(1, 59, 0).is_none());
    assert!(bench.observe(1, 60, 1).is_some());
}

/// A clock that is set forward made an upload look quiet that had changed a moment before.
#[test]
fn a_clock_that_is_set_makes_no_file_quiet_that_was_seen() {
    let mut bench =
        Bench::new(SettleRules { settle: Settle::Quiet(Duration::from_secs(5)), ..AT_ONCE });
    assert!(bench.observe(1, 0, 0).is_none());
    assert!(bench.observe(1, 3600, 1).is_none(), "it is there for a second");
    assert!(bench.observe(2, 3600, 2).is_none(), "it changed");
    assert!(bench.observe(2, 7200, 6).is_none());
    assert!(bench.observe(2, 0, 7).is_some(), "the clock was set back");
}

/// Its change time is in the future: the disposal was put off until the clock had caught up.
#[test]
fn a_file_that_waits_for_its_disposal_becomes_quiet_whatever_its_times() {
    let mut bench = Bench::new(AT_ONCE);
    assert!(bench.observe(1, 0, 0).is_some_and(|settled| settled.quiet_for.is_zero()));
    bench.returned(deferred(2, DeferReason::Busy), 1);
    assert!(bench.observe(1, 0, 3).is_some_and(|settled| settled.quiet_for.as_secs() == 3));
    bench.returned(deferred(2, DeferReason::Busy), 4);
    assert!(bench.observe(2, 0, 9).is_some_and(|settled| settled.quiet_for.is_zero()), "changed");
}

#[test]
fn on_a_network_file_system_every_file_must_be_quiet() {
    let mut bench = Bench::new(SettleRules { network: true, ..AT_ONCE });
    assert!(bench.observe(1, 0, 0).is_none());
    assert!(bench.observe(1, 0, 2).is_some_and(|settled| settled.quiet_for >= limits::QUIET_TIME));
}

#[test]
fn a_file_whose_inode_number_does_not_last_becomes_quiet() {
    let mut bench = Bench::new(SettleRules { network: true, ..AT_ONCE });
    for second in 0..3 {
        let identity = Fingerprint { inode: second, size: 1, ..Fingerprint::NONE };
        assert_eq!(bench.observe_file(identity, 0, second).is_some(), second == 2);
    }
}

#[test]
fn a_busy_file_waits_longer_each_time_and_its_close_ends_the_wait() {
    let mut bench = Bench::new(AT_ONCE);
    for wait in [1, 2, 4] {
        assert!(bench.observe(1, 0, 100).is_some());
        bench.returned(deferred(1, DeferReason::Busy), 100);
        assert_eq!(bench.table.next_due(), Some(bench.at(100 + wait)));
        let now = bench.at(100);
        bench.table.on_close_write(Path::new("a"), now);
        assert_eq!(bench.due(100), 1);
    }
}

#[test]
fn a_file_with_unknown_writers_must_be_quiet() {
    let mut bench = Bench::new(AT_ONCE);
    assert!(bench.observe(1, 0, 0).is_some_and(|settled| settled.quiet_for < limits::QUIET_TIME));
    bench.returned(deferred(0, DeferReason::Unsure), 0);
    assert!(bench.observe(1, 0, 1).is_none());
    assert!(bench.observe(2, 0, 2).is_none(), "it changed");
    assert!(bench.observe(2, 0, 3).is_none());
    assert!(bench.observe(2, 0, 4).is_some_and(|settled| settled.quiet_for >= limits::QUIET_TIME));
}

#[test]
fn a_file_whose_writers_are_another_users_waits_for_its_close_or_for_long() {
    let quiet = |arrival| {
        let mut bench = Bench::new(AT_ONCE);
        assert!(bench.observe(1, 0, 0).is_some());
        bench.returned(deferred(0, DeferReason::Unseen), 0);
        match bench.arrive(arrival, 0, 1_000) {
            Some(_) => Some(1),
            None => (2..100).find(|second| bench.observe(1, 0, *second).is_some()),
        }
    };
    assert_eq!(quiet(Arrival::Renamed), Some(1));
    assert_eq!(quiet(Arrival::Closed), Some(2));
    assert_eq!(quiet(Arrival::Unknown), Some(60));
}

/// An upload that broke off, and was resumed before it was looked at again.
#[test]
fn a_close_is_no_evidence_for_a_file_that_grew_after_it() {
    let mut bench = Bench::new(AT_ONCE);
    assert!(bench.arrive(Arrival::Closed, 0, 0).is_some());
    bench.returned(deferred(0, DeferReason::Unseen), 0);
    let ready = (1..100).find(|second| bench.observe(2, 0, *second).is_some());
    assert_eq!(ready, Some(61), "the size at its close was 1");
}

#[test]
fn a_failed_file_counts_as_attempted_and_an_unfinished_one_does_not() {
    let mut bench = Bench::new(AT_ONCE);
    assert!(bench.observe(1, 0, 0).is_some());
    bench.returned(deferred(10, DeferReason::Failed), 0);
    assert_eq!(bench.table.attempted(), 1);
    assert!(bench.observe(1, 0, 9).is_none(), "not before its time");
    assert_eq!(bench.observe(1, 0, 10).expect("ready").attempt, 2);
    bench.returned(deferred(10, DeferReason::Changed), 10);
    assert_eq!(bench.table.attempted(), 0);
}

#[test]
fn a_file_that_is_gone_is_removed_unless_it_is_in_flight() {
    let mut bench =
        Bench::new(SettleRules { settle: Settle::Quiet(Duration::from_secs(5)), ..AT_ONCE });
    assert!(bench.observe(1, 0, 0).is_none());
    bench.table.remove(Path::new("a"));
    assert_eq!((bench.table.waiting(), bench.table.next_due()), (0, None));
    assert!(bench.observe(1, 60, 0).is_some());
    bench.table.remove(Path::new("a"));
    assert_eq!(bench.table.in_flight(), 1);
}

#[test]
fn a_file_written_in_place_must_be_quiet_after_its_close_however_old_it_is() {
    let mut bench = Bench::new(AUTO);
    assert!(bench.arrive(Arrival::Closed, 60_000, 0).is_none());
    assert_eq!(bench.table.next_due(), Some(bench.start + limits::CLOSED_QUIET_TIME));
    assert!(bench.arrive(Arrival::Unknown, 60_000, 99).is_none());
    assert!(bench.arrive(Arrival::Unknown, 60_000, 100).is_some());
}

#[test]
fn a_file_that_was_renamed_to_its_name_is_ready_at_once_and_so_is_an_old_one() {
    let mut bench = Bench::new(AUTO);
    assert!(bench.arrive(Arrival::Renamed, 0, 0).is_some());
    let mut bench = Bench::new(AUTO);
    assert!(bench.arrive(Arrival::Unknown, 100, 0).is_some());
    let mut bench = Bench::new(AUTO);
    assert!(bench.arrive(Arrival::Unknown, 99, 0).is_none());
}

#[test]
fn a_second_close_restarts_the_quiet_time_even_while_the_file_is_in_flight() {
    let mut bench = Bench::new(AUTO);
    assert!(bench.arrive(Arrival::Renamed, 0, 0).is_some());
    assert!(bench.arrive(Arrival::Closed, 0, 10).is_none());
    let feedback = Feedback { path: "a".into(), outcome: JobEnd::Published };
    let again = bench.table.on_feedback(feedback, bench.start);
    assert_eq!(again, Some(("a".into(), Arrival::Closed)));
}

#[test]
fn a_zero_settle_takes_every_closed_file_at_once() {
    let mut bench = Bench::new(AT_ONCE);
    assert!(bench.arrive(Arrival::Closed, 0, 0).is_some());
}

#[test]
fn a_producer_that_renames_its_closed_files_gets_twice_the_time_it_takes() {
    let mut bench = Bench::new(AUTO);
    assert!(bench.arrive(Arrival::Closed, 0, 0).is_none());
    let at = |bench: &Bench, millis| bench.start + Duration::from_millis(millis);
    let now = at(&bench, 80);
    bench.table.renamed_away(Path::new("a"), now);
    bench.table.remove(Path::new("a"));
    assert!(bench.arrive(Arrival::Closed, 0, 1000).is_none());
    assert_eq!(bench.table.next_due(), Some(at(&bench, 1160)));
    // The quiet time is bounded, however long the rename takes.
    let now = at(&bench, 60_000);
    bench.table.renamed_away(Path::new("a"), now);
    bench.table.remove(Path::new("a"));
    assert!(bench.arrive(Arrival::Closed, 0, 70_000).is_none());
    assert_eq!(bench.table.next_due(), Some(at(&bench, 70_000) + limits::CLOSED_QUIET_TIME_MAX));
}

#[test]
fn a_rename_after_the_publication_gives_later_files_more_time_too() {
    let mut bench = Bench::new(AUTO);
    let at = |bench: &Bench, millis| bench.start + Duration::from_millis(millis);
    assert!(bench.arrive(Arrival::Closed, 0, 0).is_none());
    assert!(bench.arrive(Arrival::Unknown, 0, 100).is_some());
    let feedback = Feedback { path: "a".into(), outcome: JobEnd::Published };
    let now = at(&bench, 150);
    assert_eq!(bench.table.on_feedback(feedback, now), None);
    let now = at(&bench, 300);
    bench.table.renamed_away(Path::new("a"), now);
    assert!(bench.arrive(Arrival::Closed, 0, 1000).is_none());
    assert_eq!(bench.table.next_due(), Some(at(&bench, 1600)));
    // A log that is rotated long after its close was finished.
    let mut bench = Bench::new(AUTO);
    assert!(bench.arrive(Arrival::Closed, 0, 0).is_none());
    bench.table.remove(Path::new("a"));
    let now = at(&bench, 60_000);
    bench.table.renamed_away(Path::new("a"), now);
    assert!(bench.arrive(Arrival::Closed, 0, 70_000).is_none());
    assert_eq!(bench.table.next_due(), Some(at(&bench, 70_000) + limits::CLOSED_QUIET_TIME));
}

#[test]
fn the_closes_of_finished_files_are_bounded() {
    let mut quiet = ClosedQuiet::new();
    let now = Instant::now();
    for number in 0..3 * limits::RECENT_CLOSES_MAX {
        quiet.remember(number.to_string().into(), now);
    }
    assert_eq!(quiet.recall(Path::new("0"), now), None);
    assert_eq!(quiet.recall(Path::new("2048"), now), Some(now));
    assert_eq!(quiet.recall(Path::new("2048"), now), None);
}

#[test]
fn a_file_with_a_time_in_the_future_reaches_its_minimum_age_by_observation() {
    let mut bench = Bench::new(SettleRules { min_age: Duration::from_secs(5), ..AT_ONCE });
    assert!(bench.observe(1, 0, 0).is_none());
    assert!(bench.observe(1, 0, 4).is_none());
    assert!(bench.observe(1, 0, 5).is_some());
}

#[test]
fn paths_without_room_are_looked_at_by_a_later_scan() {
    let mut bench =
        Bench::new(SettleRules { settle: Settle::Quiet(Duration::from_secs(5)), ..AUTO });
    let identity = Fingerprint { inode: 1, size: 1, ..Fingerprint::NONE };
    let metadata =
        FileMetadata { kind: Kind::File, identity, mode: 0o644, owner: 0, group: 0, names: 1 };
    let (age, arrival) = (Duration::ZERO, Arrival::Unknown);
    let observation = Observation { metadata, age, origin: DiscoveredBy::Scan, arrival };
    for number in 0..limits::PENDING_FILES_MAX {
        let path = PathBuf::from(number.to_string());
        assert!(bench.table.observe(path, &observation, bench.start).is_none());
    }
    assert_eq!(bench.table.look_again_at(), None);
    for (path, second) in [("x", 2), ("y", 1)] {
        let now = bench.at(second);
        assert!(bench.table.observe(path.into(), &observation, now).is_none());
    }
    assert_eq!(bench.table.waiting(), limits::PENDING_FILES_MAX, "T3");
    assert_eq!(bench.table.look_again_at(), Some(bench.at(6)), "the first of them");
    // A ready file needs no room.
    let old = Observation { age: Duration::from_mins(1), ..observation };
    assert!(bench.table.observe("z".into(), &old, bench.start).is_some());
    bench.table.on_scan_start();
    assert_eq!(bench.table.look_again_at(), None);
}

/// A step of the property test, on one of three paths.
#[derive(Clone, Copy, Debug)]
enum Step {
    Observed { size: u64 },
    Gone,
    Closed,
    Returned(ReturnedAs),
    Due,
}

#[derive(Clone, Copy, Debug)]
enum ReturnedAs {
    Published,
    Unfinished,
    Deferred(DeferReason, u64),
}

/// The expected state of a path, without a table: its observations (time and size) while it waited, and
/// its earliest send.
#[derive(Clone, Debug)]
enum Model {
    Absent,
    Waiting {
        observations: Vec<(Instant, u64)>,
        not_before: Instant,
    },
    /// A file that comes back unchanged is quiet since then.
    InFlight {
        observations: Vec<(Instant, u64)>,
    },
}

impl Model {
    /// Returns the time since which it has had its latest size.
    fn unchanged_since(observations: &[(Instant, u64)]) -> Option<Instant> {
        let (_, latest) = observations.last()?;
        let unchanged = observations.iter().rev().take_while(|(_, size)| size == latest);
        unchanged.last().map(|(at, _)| *at)
    }
}

fn step() -> impl Strategy<Value = (usize, u64, Step)> {
    let cause = prop_oneof![
        Just(DeferReason::Busy),
        Just(DeferReason::Unsure),
        Just(DeferReason::Changed),
        Just(DeferReason::Failed),
        Just(DeferReason::Storage)
    ];
    let end = prop_oneof![
        2 => Just(ReturnedAs::Published),
        1 => Just(ReturnedAs::Unfinished),
        4 => (cause, 0_u64..40).prop_map(|(cause, tenths)| ReturnedAs::Deferred(cause, tenths)),
    ];
    let step = prop_oneof![
        5 => (1_u64..4).prop_map(|size| Step::Observed { size }),
        1 => Just(Step::Gone),
        1 => Just(Step::Closed),
        3 => end.prop_map(Step::Returned),
        3 => Just(Step::Due),
    ];
    (0_usize..3, 0_u64..30, step)
}

const FILES: [&str; 3] = ["a", "b", "c"];

/// A table next to a model of each path.
struct Comparison {
    table: SettleTable,
    models: [Model; 3],
    now: Instant,
    quiet: Duration,
}

impl Comparison {
    fn observe(&mut self, file: usize, size: u64) {
        let identity = Fingerprint { inode: 1, size, ..Fingerprint::NONE };
        let metadata =
            FileMetadata { kind: Kind::File, identity, mode: 0o644, owner: 0, group: 0, names: 1 };
        let (age, arrival) = (Duration::ZERO, Arrival::Unknown);
        let observation = Observation { metadata, age, origin: DiscoveredBy::Event, arrival };
        let settled = self.table.observe(FILES[file].into(), &observation, self.now);
        let (mut observations, not_before) = match &self.models[file] {
            Model::InFlight { .. } => return assert!(settled.is_none(), "T1"),
            Model::Absent => (Vec::new(), self.now),
            Model::Waiting { observations, not_before } => (observations.clone(), *not_before),
        };
        observations.push((self.now, size));
        let since = Model::unchanged_since(&observations).expect("an observation");
        let is_quiet = self.now >= since + self.quiet;
        self.models[file] = match settled {
            Some(settled) => {
                assert!(is_quiet, "taken {:?} after it changed", self.now - since);
                assert!(self.now >= not_before, "taken before its time");
                assert_eq!(settled.path, Path::new(FILES[file]));
                Model::InFlight { observations }
            }
            None => Model::Waiting { observations, not_before },
        };
    }

    fn returned(&mut self, file: usize, end: ReturnedAs) {
        let tenths = |tenths| Duration::from_millis(100 * tenths);
        let outcome = match end {
            ReturnedAs::Published => JobEnd::Published,
            ReturnedAs::Unfinished => JobEnd::Unfinished,
            ReturnedAs::Deferred(cause, after) => {
                JobEnd::Deferred { after: tenths(after), attempt: 2, cause }
            }
        };
        let feedback = Feedback { path: FILES[file].into(), outcome };
        let again = self.table.on_feedback(feedback, self.now);
        let Model::InFlight { observations } = self.models[file].clone() else {
            return assert!(again.is_none());
        };
        self.models[file] = match end {
            ReturnedAs::Deferred(_, after) => {
                let not_before = self.now + tenths(after);
                Model::Waiting { observations, not_before }
            }
            _ => Model::Absent,
        };
    }

    /// Observes every path that is due, as the intake does.
    fn observe_due(&mut self, until: Instant) {
        for path in self.table.take_due(until, usize::MAX) {
            let file = FILES.iter().position(|file| path == Path::new(file)).expect("one of them");
            assert!(matches!(self.models[file], Model::Waiting { .. }), "{path:?} is not waiting");
            self.observe(file, 1);
        }
    }

    fn run(&mut self, (file, tenths, step): (usize, u64, Step)) {
        self.now += Duration::from_millis(100 * tenths);
        match step {
            Step::Observed { size } => self.observe(file, size),
            Step::Gone => {
                self.table.remove(FILES[file].as_ref());
                if !matches!(self.models[file], Model::InFlight { .. }) {
                    self.models[file] = Model::Absent;
                }
            }
            // It ends the wait for writers.
            Step::Closed => {
                self.table.on_close_write(FILES[file].as_ref(), self.now);
                if let Model::Waiting { not_before, .. } = &mut self.models[file] {
                    *not_before = self.now.min(*not_before);
                }
            }
            Step::Returned(end) => self.returned(file, end),
            Step::Due => self.observe_due(self.now),
        }
        let count = |is: fn(&Model) -> bool| self.models.iter().filter(|model| is(model)).count();
        let waiting = count(|model| matches!(model, Model::Waiting { .. }));
        assert_eq!(self.table.waiting(), waiting, "T2");
        assert_eq!(
            self.table.in_flight(),
            count(|model| matches!(model, Model::InFlight { .. })),
            "T1"
        );
        assert_eq!(self.table.due.len(), waiting, "T2: each has its time");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_path_is_in_flight_once_and_never_lost_whatever_happens(
        quiet in 0_u64..30,
        steps in vec(step(), 1..60),
    ) {
        let quiet = Duration::from_millis(100 * quiet);
        let rules = SettleRules { settle: Settle::Quiet(quiet), ..AT_ONCE };
        let models = [Model::Absent, Model::Absent, Model::Absent];
        let mut comparison = Comparison { table: SettleTable::new(rules), models, now: Instant::now(), quiet };
        for step in steps {
            comparison.run(step);
        }
        // Without further changes every waiting path is taken.
        for _ in 0..10 {
            comparison.now += limits::BACKOFF_MAX;
            comparison.observe_due(comparison.now);
        }
        prop_assert_eq!(comparison.table.waiting(), 0, "T2");
    }
}

#[test]
fn a_path_is_looked_at_again_after_a_failed_stat() {
    let mut bench = Bench::new(AT_ONCE);
    let fail_stat = |bench: &mut Bench, second| {
        let now = bench.at(second);
        bench.table.mark_missing("a".into(), now);
    };
    // A new name, and one whose next attempt is due.
    for second in [0, 10] {
        fail_stat(&mut bench, second);
        assert_eq!((bench.table.waiting(), bench.due(second)), (1, 0));
        assert_eq!(bench.due(second + 1), 1);
        assert!(bench.observe(1, 0, second + 1).is_some());
        fail_stat(&mut bench, second + 1);
        assert_eq!(bench.table.in_flight(), 1, "a file in flight returns automatically");
        bench.returned(deferred(5, DeferReason::Failed), second + 1);
        assert_eq!(bench.due(second + 6), 1);
    }
}
