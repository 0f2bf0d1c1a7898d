use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    fs::{FileMetadata, Kind},
    pipeline::job::{Arrival, DiscoveredBy, Observation},
};

/// A file is taken at its close.
const AT_ONCE: Rules =
    Rules { settle: Settle::Quiet(Duration::ZERO), min_age: Duration::ZERO, network: false };
const AUTO: Rules = Rules { settle: Settle::Auto, min_age: Duration::ZERO, network: false };

/// A table with a clock of its own.
struct Bench {
    table: SettleTable,
    start: Instant,
}

impl Bench {
    fn new(rules: Rules) -> Self {
        Self { table: SettleTable::new(rules), start: Instant::now() }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// Looks at `a` of this size and age at this second.
    fn sight(&mut self, size: u64, age: u64, second: u64) -> Option<SettledFile> {
        let identity = Fingerprint { inode: 1, size, ..Fingerprint::NONE };
        let seen =
            FileMetadata { kind: Kind::File, identity, mode: 0o644, owner: 0, group: 0, names: 1 };
        let age = Duration::from_secs(age);
        let sighting =
            Observation { seen, age, origin: DiscoveredBy::Hint, arrival: Arrival::Unknown };
        let now = self.at(second);
        self.table.observe("a".into(), &sighting, now)
    }

    /// Takes in that `a`, which has just changed, arrived so, at this millisecond.
    fn arrives(&mut self, arrival: Arrival, age: u64, millisecond: u64) -> Option<SettledFile> {
        let identity = Fingerprint { inode: 1, size: 1, ..Fingerprint::NONE };
        let seen =
            FileMetadata { kind: Kind::File, identity, mode: 0o644, owner: 0, group: 0, names: 1 };
        let age = Duration::from_millis(age);
        let sighting = Observation { seen, age, origin: DiscoveredBy::Hint, arrival };
        self.table.observe("a".into(), &sighting, self.start + Duration::from_millis(millisecond))
    }

    fn returned(&mut self, outcome: Outcome, second: u64) -> Option<PathBuf> {
        let now = self.at(second);
        let feedback = Feedback { path: "a".into(), outcome };
        self.table.returned(feedback, now).map(|(path, _)| path)
    }

    fn due(&mut self, second: u64) -> usize {
        let now = self.at(second);
        self.table.take_due(now, 10).len()
    }
}

fn deferred(seconds: u64, cause: DeferReason) -> Outcome {
    Outcome::Deferred { after: Duration::from_secs(seconds), attempt: 2, cause }
}

#[test]
fn a_file_is_ready_at_once_and_in_work_once() {
    let mut bench = Bench::new(AT_ONCE);
    assert!(bench.sight(1, 0, 0).is_some());
    assert!(bench.sight(1, 0, 0).is_none(), "T1");
    assert_eq!(bench.returned(Outcome::Published, 1), Some("a".into()), "seen again meanwhile");
    assert!(bench.sight(1, 0, 1).is_some());
    assert_eq!(bench.returned(Outcome::Published, 2), None);
    assert_eq!((bench.table.in_work(), bench.table.waiting()), (0, 0));
}

#[test]
fn quiet_time_begins_again_with_each_change() {
    let mut bench = Bench::new(Rules { settle: Settle::Quiet(Duration::from_secs(5)), ..AT_ONCE });
    assert!(bench.sight(1, 0, 0).is_none());
    assert_eq!(bench.table.next_due(), Some(bench.at(5)));
    assert!(bench.sight(2, 0, 4).is_none());
    assert!(bench.sight(2, 0, 8).is_none());
    assert_eq!(bench.due(8), 0);
    assert_eq!(bench.due(9), 1);
    let settled = bench.sight(2, 0, 9).expect("ready");
    assert!(settled.quiet);
}

#[test]
fn a_file_that_is_old_was_quiet_before_it_was_seen() {
    let mut bench = Bench::new(Rules { settle: Settle::Quiet(Duration::from_secs(5)), ..AT_ONCE });
    assert!(bench.sight(1, 60, 0).is_some());
    let mut bench = Bench::new(Rules { min_age: Duration::from_mins(1), ..AT_ONCE });
    assert!(bench.sight(1, 59, 0).is_none());
    assert!(bench.sight(1, 60, 1).is_some());
}

#[test]
fn on_a_network_every_file_must_be_quiet() {
    let mut bench = Bench::new(Rules { network: true, ..AT_ONCE });
    assert!(bench.sight(1, 0, 0).is_none());
    assert!(bench.sight(1, 0, 2).is_some_and(|settled| settled.quiet));
}

#[test]
fn a_busy_file_waits_longer_each_time_and_its_closing_cuts_the_wait() {
    let mut bench = Bench::new(AT_ONCE);
    for wait in [1, 2, 4] {
        assert!(bench.sight(1, 0, 100).is_some());
        bench.returned(deferred(1, DeferReason::Busy), 100);
        assert_eq!(bench.table.next_due(), Some(bench.at(100 + wait)));
        let now = bench.at(100);
        bench.table.on_close_write(Path::new("a"), now);
        assert_eq!(bench.due(100), 1);
    }
}

#[test]
fn a_file_nobody_can_tell_of_must_be_quiet() {
    let mut bench = Bench::new(AT_ONCE);
    assert!(bench.sight(1, 0, 0).is_some_and(|settled| !settled.quiet));
    bench.returned(deferred(0, DeferReason::Unsure), 0);
    assert!(bench.sight(1, 0, 1).is_none());
    assert!(bench.sight(1, 0, 2).is_none());
    assert!(bench.sight(1, 0, 3).is_some_and(|settled| settled.quiet));
}

#[test]
fn what_failed_is_owed_and_what_is_unfinished_is_not() {
    let mut bench = Bench::new(AT_ONCE);
    assert!(bench.sight(1, 0, 0).is_some());
    bench.returned(deferred(10, DeferReason::Failed), 0);
    assert_eq!(bench.table.owed(), 1);
    assert!(bench.sight(1, 0, 9).is_none(), "not before its time");
    assert_eq!(bench.sight(1, 0, 10).expect("ready").attempt, 2);
    bench.returned(deferred(10, DeferReason::Changed), 10);
    assert_eq!(bench.table.owed(), 0);
}

#[test]
fn a_file_that_is_gone_is_forgotten_unless_it_is_in_work() {
    let mut bench = Bench::new(Rules { settle: Settle::Quiet(Duration::from_secs(5)), ..AT_ONCE });
    assert!(bench.sight(1, 0, 0).is_none());
    bench.table.gone(Path::new("a"));
    assert_eq!((bench.table.waiting(), bench.table.next_due()), (0, None));
    assert!(bench.sight(1, 60, 0).is_some());
    bench.table.gone(Path::new("a"));
    assert_eq!(bench.table.in_work(), 1);
}

#[test]
fn a_file_that_was_written_in_place_is_left_quiet_after_its_close_however_old_it_is() {
    let mut bench = Bench::new(AUTO);
    assert!(bench.arrives(Arrival::Closed, 60_000, 0).is_none());
    assert_eq!(bench.table.next_due(), Some(bench.start + limits::CLOSED_QUIET_TIME));
    assert!(bench.arrives(Arrival::Unknown, 60_000, 99).is_none());
    assert!(bench.arrives(Arrival::Unknown, 60_000, 100).is_some());
}

#[test]
fn a_file_that_was_renamed_to_its_name_is_ready_at_once_and_one_that_is_found_old_too() {
    let mut bench = Bench::new(AUTO);
    assert!(bench.arrives(Arrival::Renamed, 0, 0).is_some());
    let mut bench = Bench::new(AUTO);
    assert!(bench.arrives(Arrival::Unknown, 100, 0).is_some());
    let mut bench = Bench::new(AUTO);
    assert!(bench.arrives(Arrival::Unknown, 99, 0).is_none());
}

#[test]
fn a_second_close_begins_the_quiet_time_again_also_while_the_file_is_in_work() {
    let mut bench = Bench::new(AUTO);
    assert!(bench.arrives(Arrival::Renamed, 0, 0).is_some());
    assert!(bench.arrives(Arrival::Closed, 0, 10).is_none());
    let feedback = Feedback { path: "a".into(), outcome: Outcome::Published };
    let again = bench.table.returned(feedback, bench.start);
    assert_eq!(again, Some(("a".into(), Arrival::Closed)));
}

#[test]
fn a_zero_settle_takes_every_closed_file_at_once() {
    let mut bench = Bench::new(AT_ONCE);
    assert!(bench.arrives(Arrival::Closed, 0, 0).is_some());
}

#[test]
fn a_producer_that_renames_its_closed_files_is_given_twice_the_time_it_takes() {
    let mut bench = Bench::new(AUTO);
    assert!(bench.arrives(Arrival::Closed, 0, 0).is_none());
    let at = |bench: &Bench, millis| bench.start + Duration::from_millis(millis);
    let now = at(&bench, 80);
    bench.table.renamed_away(Path::new("a"), now);
    bench.table.gone(Path::new("a"));
    assert!(bench.arrives(Arrival::Closed, 0, 1000).is_none());
    assert_eq!(bench.table.next_due(), Some(at(&bench, 1160)));
    // However long it takes, it is bounded.
    let now = at(&bench, 60_000);
    bench.table.renamed_away(Path::new("a"), now);
    bench.table.gone(Path::new("a"));
    assert!(bench.arrives(Arrival::Closed, 0, 70_000).is_none());
    assert_eq!(bench.table.next_due(), Some(at(&bench, 70_000) + limits::CLOSED_QUIET_TIME_MAX));
}

#[test]
fn a_file_of_the_future_reaches_its_least_age_by_being_watched() {
    let mut bench = Bench::new(Rules { min_age: Duration::from_secs(5), ..AT_ONCE });
    assert!(bench.sight(1, 0, 0).is_none());
    assert!(bench.sight(1, 0, 4).is_none());
    assert!(bench.sight(1, 0, 5).is_some());
}

#[test]
fn paths_that_find_no_room_are_looked_at_by_a_later_scan() {
    let mut bench = Bench::new(Rules { settle: Settle::Quiet(Duration::from_secs(5)), ..AUTO });
    let identity = Fingerprint { inode: 1, size: 1, ..Fingerprint::NONE };
    let seen =
        FileMetadata { kind: Kind::File, identity, mode: 0o644, owner: 0, group: 0, names: 1 };
    let (age, arrival) = (Duration::ZERO, Arrival::Unknown);
    let sighting = Observation { seen, age, origin: DiscoveredBy::Scan, arrival };
    for number in 0..limits::PENDING_FILES_MAX {
        let path = PathBuf::from(number.to_string());
        assert!(bench.table.observe(path, &sighting, bench.start).is_none());
    }
    assert_eq!(bench.table.look_again_at(), None);
    for (path, second) in [("x", 2), ("y", 1)] {
        let now = bench.at(second);
        assert!(bench.table.observe(path.into(), &sighting, now).is_none());
    }
    assert_eq!(bench.table.waiting(), limits::PENDING_FILES_MAX, "T3");
    assert_eq!(bench.table.look_again_at(), Some(bench.at(6)), "the first of them");
    // One that is ready needs no room to wait in.
    let old = Observation { age: Duration::from_mins(1), ..sighting };
    assert!(bench.table.observe("z".into(), &old, bench.start).is_some());
    bench.table.scan_begins();
    assert_eq!(bench.table.look_again_at(), None);
}

/// What may happen to one of three paths, each after so many tenths of a second.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Seen { size: u64 },
    Gone,
    Closed,
    Returned(Ending),
    Due,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Published,
    Left,
    Deferred(DeferReason, u64),
}

/// What is known of a path without a table: what was seen of it since it began to wait, and
/// since when it is in work.
#[derive(Clone, Debug)]
enum Naive {
    Absent,
    Waiting { seen: Vec<(Instant, u64)>, not_before: Instant },
    InWork,
}

impl Naive {
    /// Since when it has had the size it has.
    fn unchanged_since(seen: &[(Instant, u64)]) -> Option<Instant> {
        let (_, last) = seen.last()?;
        seen.iter().rev().take_while(|(_, size)| size == last).last().map(|(at, _)| *at)
    }
}

fn happens() -> impl Strategy<Value = (usize, u64, Happens)> {
    let cause = prop_oneof![
        Just(DeferReason::Busy),
        Just(DeferReason::Unsure),
        Just(DeferReason::Changed),
        Just(DeferReason::Failed),
        Just(DeferReason::Place)
    ];
    let ending = prop_oneof![
        2 => Just(Ending::Published),
        1 => Just(Ending::Left),
        4 => (cause, 0_u64..40).prop_map(|(cause, tenths)| Ending::Deferred(cause, tenths)),
    ];
    let happens = prop_oneof![
        5 => (1_u64..4).prop_map(|size| Happens::Seen { size }),
        1 => Just(Happens::Gone),
        1 => Just(Happens::Closed),
        3 => ending.prop_map(Happens::Returned),
        3 => Just(Happens::Due),
    ];
    (0_usize..3, 0_u64..30, happens)
}

const FILES: [&str; 3] = ["a", "b", "c"];

/// A table beside what is known without it.
struct Beside {
    table: SettleTable,
    known: [Naive; 3],
    now: Instant,
    quiet: Duration,
}

impl Beside {
    fn sight(&mut self, file: usize, size: u64) {
        let identity = Fingerprint { inode: 1, size, ..Fingerprint::NONE };
        let seen =
            FileMetadata { kind: Kind::File, identity, mode: 0o644, owner: 0, group: 0, names: 1 };
        let (age, arrival) = (Duration::ZERO, Arrival::Unknown);
        let sighting = Observation { seen, age, origin: DiscoveredBy::Hint, arrival };
        let settled = self.table.observe(FILES[file].into(), &sighting, self.now);
        let (mut seen, not_before) = match &self.known[file] {
            Naive::InWork => return assert!(settled.is_none(), "T1"),
            Naive::Absent => (Vec::new(), self.now),
            Naive::Waiting { seen, not_before } => (seen.clone(), *not_before),
        };
        seen.push((self.now, size));
        let since = Naive::unchanged_since(&seen).expect("it was seen");
        let is_quiet = self.now >= since + self.quiet;
        self.known[file] = match settled {
            Some(settled) => {
                assert!(is_quiet, "taken {:?} after it changed", self.now - since);
                assert!(self.now >= not_before, "taken before its time");
                assert_eq!(settled.path, Path::new(FILES[file]));
                Naive::InWork
            }
            None => Naive::Waiting { seen, not_before },
        };
    }

    fn returned(&mut self, file: usize, ending: Ending) {
        let tenths = |tenths| Duration::from_millis(100 * tenths);
        let outcome = match ending {
            Ending::Published => Outcome::Published,
            Ending::Left => Outcome::Left,
            Ending::Deferred(cause, after) => {
                Outcome::Deferred { after: tenths(after), attempt: 2, cause }
            }
        };
        let feedback = Feedback { path: FILES[file].into(), outcome };
        let again = self.table.returned(feedback, self.now);
        if !matches!(self.known[file], Naive::InWork) {
            return assert!(again.is_none());
        }
        self.known[file] = match ending {
            Ending::Deferred(_, after) => {
                let not_before = self.now + tenths(after);
                Naive::Waiting { seen: Vec::new(), not_before }
            }
            _ => Naive::Absent,
        };
    }

    /// Every path that is due is looked at, as the intake does; all of them are, in the end.
    fn look(&mut self, until: Instant) {
        for path in self.table.take_due(until, usize::MAX) {
            let file = FILES.iter().position(|file| path == Path::new(file)).expect("one of them");
            assert!(matches!(self.known[file], Naive::Waiting { .. }), "{path:?} is not waiting");
            self.sight(file, 1);
        }
    }

    fn happens(&mut self, (file, tenths, happens): (usize, u64, Happens)) {
        self.now += Duration::from_millis(100 * tenths);
        match happens {
            Happens::Seen { size } => self.sight(file, size),
            Happens::Gone => {
                self.table.gone(FILES[file].as_ref());
                if !matches!(self.known[file], Naive::InWork) {
                    self.known[file] = Naive::Absent;
                }
            }
            // It ends the wait for its writers, whatever it was.
            Happens::Closed => {
                self.table.on_close_write(FILES[file].as_ref(), self.now);
                if let Naive::Waiting { not_before, .. } = &mut self.known[file] {
                    *not_before = self.now.min(*not_before);
                }
            }
            Happens::Returned(ending) => self.returned(file, ending),
            Happens::Due => self.look(self.now),
        }
        let count = |is: fn(&Naive) -> bool| self.known.iter().filter(|known| is(known)).count();
        let waiting = count(|known| matches!(known, Naive::Waiting { .. }));
        assert_eq!(self.table.waiting(), waiting, "T2");
        assert_eq!(self.table.in_work(), count(|known| matches!(known, Naive::InWork)), "T1");
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
    fn whatever_happens_a_path_is_in_work_once_and_never_forgotten(
        quiet in 0_u64..30,
        all in vec(happens(), 1..60),
    ) {
        let quiet = Duration::from_millis(100 * quiet);
        let rules = Rules { settle: Settle::Quiet(quiet), ..AT_ONCE };
        let known = [Naive::Absent, Naive::Absent, Naive::Absent];
        let mut beside = Beside { table: SettleTable::new(rules), known, now: Instant::now(), quiet };
        for one in all {
            beside.happens(one);
        }
        // Left alone, everything that waits is taken.
        for _ in 0..10 {
            beside.now += limits::BACKOFF_MAX;
            beside.look(beside.now);
        }
        prop_assert_eq!(beside.table.waiting(), 0, "T2");
    }
}

#[test]
fn what_cannot_be_looked_at_is_looked_at_again() {
    let mut bench = Bench::new(AT_ONCE);
    let unseen = |bench: &mut Bench, second| {
        let now = bench.at(second);
        bench.table.mark_missing("a".into(), now);
    };
    // A new name, and one whose next try is due.
    for second in [0, 10] {
        unseen(&mut bench, second);
        assert_eq!((bench.table.waiting(), bench.due(second)), (1, 0));
        assert_eq!(bench.due(second + 1), 1);
        assert!(bench.sight(1, 0, second + 1).is_some());
        unseen(&mut bench, second + 1);
        assert_eq!(bench.table.in_work(), 1, "what is in work comes back by itself");
        bench.returned(deferred(5, DeferReason::Failed), second + 1);
        assert_eq!(bench.due(second + 6), 1);
    }
}
