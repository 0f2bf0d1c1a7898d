use super::*;
use crate::{
    fs::{Kind, Seen},
    pipeline::job::{Origin, Sighting},
};

const AUTO: Rules = Rules { settle: Settle::Auto, min_age: Duration::ZERO, network: false };

/// A table with a clock of its own.
struct Bench {
    table: Table,
    start: Instant,
}

impl Bench {
    fn new(rules: Rules) -> Self {
        Self { table: Table::new(rules), start: Instant::now() }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// Looks at `a` of this size and age at this second.
    fn sight(&mut self, size: u64, age: u64, second: u64) -> Option<Settled> {
        let identity = Identity { inode: 1, size, ..Identity::NONE };
        let seen = Seen { kind: Kind::File, identity, mode: 0o644, owner: 0, group: 0, names: 1 };
        let sighting = Sighting { seen, age: Duration::from_secs(age), origin: Origin::Hint };
        let now = self.at(second);
        self.table.sight("a".into(), &sighting, now)
    }

    fn returned(&mut self, outcome: Outcome, second: u64) -> Option<PathBuf> {
        let now = self.at(second);
        self.table.returned(Feedback { path: "a".into(), outcome }, now)
    }

    fn due(&mut self, second: u64) -> usize {
        let now = self.at(second);
        self.table.take_due(now, 10).len()
    }
}

fn deferred(seconds: u64, cause: Cause) -> Outcome {
    Outcome::Deferred { after: Duration::from_secs(seconds), attempt: 2, cause }
}

#[test]
fn a_file_is_ready_at_once_and_in_work_once() {
    let mut bench = Bench::new(AUTO);
    assert!(bench.sight(1, 0, 0).is_some());
    assert!(bench.sight(1, 0, 0).is_none(), "T1");
    assert_eq!(bench.returned(Outcome::Published, 1), Some("a".into()), "seen again meanwhile");
    assert!(bench.sight(1, 0, 1).is_some());
    assert_eq!(bench.returned(Outcome::Published, 2), None);
    assert_eq!((bench.table.in_work(), bench.table.waiting()), (0, 0));
}

#[test]
fn quiet_time_begins_again_with_each_change() {
    let mut bench = Bench::new(Rules { settle: Settle::Quiet(Duration::from_secs(5)), ..AUTO });
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
    let mut bench = Bench::new(Rules { settle: Settle::Quiet(Duration::from_secs(5)), ..AUTO });
    assert!(bench.sight(1, 60, 0).is_some());
    let mut bench = Bench::new(Rules { min_age: Duration::from_mins(1), ..AUTO });
    assert!(bench.sight(1, 59, 0).is_none());
    assert!(bench.sight(1, 60, 1).is_some());
}

#[test]
fn on_a_network_every_file_must_be_quiet() {
    let mut bench = Bench::new(Rules { network: true, ..AUTO });
    assert!(bench.sight(1, 0, 0).is_none());
    assert!(bench.sight(1, 0, 2).is_some_and(|settled| settled.quiet));
}

#[test]
fn a_busy_file_waits_longer_each_time_and_its_closing_cuts_the_wait() {
    let mut bench = Bench::new(AUTO);
    for wait in [1, 2, 4] {
        assert!(bench.sight(1, 0, 100).is_some());
        bench.returned(deferred(1, Cause::Busy), 100);
        assert_eq!(bench.table.next_due(), Some(bench.at(100 + wait)));
        let now = bench.at(100);
        bench.table.closed(Path::new("a"), now);
        assert_eq!(bench.due(100), 1);
    }
}

#[test]
fn a_file_nobody_can_tell_of_must_be_quiet() {
    let mut bench = Bench::new(AUTO);
    assert!(bench.sight(1, 0, 0).is_some_and(|settled| !settled.quiet));
    bench.returned(deferred(0, Cause::Unsure), 0);
    assert!(bench.sight(1, 0, 1).is_none());
    assert!(bench.sight(1, 0, 2).is_none());
    assert!(bench.sight(1, 0, 3).is_some_and(|settled| settled.quiet));
}

#[test]
fn what_failed_is_owed_and_what_is_unfinished_is_not() {
    let mut bench = Bench::new(AUTO);
    assert!(bench.sight(1, 0, 0).is_some());
    bench.returned(deferred(10, Cause::Failed), 0);
    assert_eq!(bench.table.owed(), 1);
    assert!(bench.sight(1, 0, 9).is_none(), "not before its time");
    assert_eq!(bench.sight(1, 0, 10).expect("ready").attempt, 2);
    bench.returned(deferred(10, Cause::Changed), 10);
    assert_eq!(bench.table.owed(), 0);
}

#[test]
fn a_file_that_is_gone_is_forgotten_unless_it_is_in_work() {
    let mut bench = Bench::new(Rules { settle: Settle::Quiet(Duration::from_secs(5)), ..AUTO });
    assert!(bench.sight(1, 0, 0).is_none());
    bench.table.gone(Path::new("a"));
    assert_eq!((bench.table.waiting(), bench.table.next_due()), (0, None));
    assert!(bench.sight(1, 60, 0).is_some());
    bench.table.gone(Path::new("a"));
    assert_eq!(bench.table.in_work(), 1);
}
