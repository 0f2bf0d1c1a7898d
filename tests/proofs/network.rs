//! A real network file system: the service on an NFSv4.2 client, its producer and its consumer on
//! another one with a cache of its own, and a server that loses power. Three kernels of user-mode
//! Linux, which need no hardware and no privilege but root.

#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod guest;
mod rig;

use crate::prove;
use rig::Rig;

const ARCHIVE: &str = "archive:/mnt/nfs/archive";
/// Where a kill may come between two steps on a file system that renames by links, and what happens to
/// the sources then.
const KILLED_AT: [(&str, &str); 8] = [
    ("write::sealed", "delete"),
    ("commit::renamed", "delete"),
    ("commit::unlink", "delete"),
    ("commit::acknowledged", "delete"),
    ("dispose::taken", "delete"),
    ("dispose::unlink", "delete"),
    ("link::made", ARCHIVE),
    ("link::durable", ARCHIVE),
];
const KILLED: i32 = 128 + 9;

/// The rig, where this machine can be one.
fn rig(test: &str) -> Option<Rig> {
    if let Some(missing) = rig::missing() {
        prove::skipped(test, &missing);
        return None;
    }
    Some(Rig::new())
}

#[test]
fn each_file_is_published_once_and_another_client_sees_only_whole_ones() {
    let Some(mut rig) = rig("another client") else { return };
    rig.neighbour.succeed("consume &");
    rig.worker.succeed("start --on-success delete");
    rig.neighbour.succeed("produce 1 6");
    rig.until_published(2);
    rig.neighbour.succeed("produce 7 12");
    rig.until_published(12);
    rig.until_removed();
    rig.stop();
    rig.neighbour.succeed("touch /tmp/enough");
    rig.neighbour.until("[ -e /tmp/consumed ]");
    rig.assert_published();
    rig.assert_no_sources();
    // Whatever it saw under a final name, at any time, was the whole output.
    let seen = rig.neighbour.succeed("sort /tmp/made >/tmp/sorted; comm -23 /tmp/seen /tmp/sorted");
    assert_eq!(seen, "", "seen, and not made");
}

#[test]
fn sources_that_are_kept_are_published_once_however_often_it_starts() {
    let Some(mut rig) = rig("kept sources") else { return };
    let can =
        rig.worker.succeed("cd /tmp/work; /mnt/bin/tidemill check --probe --config tidemill.toml");
    assert!(can.contains("renames by hard link"), "{can}");
    rig.neighbour.succeed("produce 1 8");
    rig.worker.succeed("once --on-success keep");
    rig.assert_published();
    let again = rig.worker.succeed("once --on-success keep");
    assert!(again.contains("0 files published"), "{again}");
    rig.assert_published();
    assert_eq!(rig.neighbour.succeed("ls /mnt/nfs/in | wc -l"), "8");
}

#[test]
fn a_kill_between_two_steps_loses_and_doubles_nothing() {
    let Some(mut rig) = rig("kills") else { return };
    for (number, (name, on_success)) in KILLED_AT.into_iter().enumerate() {
        rig.neighbour.succeed(&format!("produce {} {}", number * 3 + 1, number * 3 + 3));
        let once = format!("once --on-success {on_success}");
        let killed = rig.worker.run(&format!("FAILPOINTS='{name}=return(kill)' {once}"));
        assert_eq!(killed.code, KILLED, "{name}: {}", killed.text);
        let after = rig.worker.succeed(&once);
        assert!(!after.contains("ERROR"), "{name}: {after}");
    }
    rig.assert_published();
    rig.assert_no_sources();
    // Each source is in the archive, once.
    let archived = rig.neighbour.succeed("ls /mnt/nfs/archive");
    let expected: Vec<_> = (19..=24).map(|number| format!("f{number}.log")).collect();
    assert_eq!(archived.split_whitespace().collect::<Vec<_>>(), expected);
}

#[test]
fn a_file_that_another_client_still_writes_is_not_published_half() {
    let Some(mut rig) = rig("a file that is written") else { return };
    rig.worker.succeed("start --on-success delete");
    // Each line is at the server at once; the worker's view of the file is seconds old.
    rig.neighbour.succeed(
        "for i in {1..80}; do echo $i; done >/tmp/whole; \
         while read -r line; do echo $line; sync /mnt/nfs/in/slow.log; sleep 0.1; done \
         </tmp/whole >>/mnt/nfs/in/slow.log; \
         echo slow.log.zst $(sha256sum </tmp/whole | cut -c1-64) >>/tmp/made",
    );
    rig.until_published(1);
    rig.until_removed();
    rig.stop();
    rig.assert_published();
}

#[test]
fn a_server_that_loses_power_is_waited_for_and_each_file_is_published_once() {
    let Some(mut rig) = rig("a server that loses power") else { return };
    rig.neighbour.succeed("produce 1 12");
    rig.worker.succeed("start --on-success delete");
    rig.until_published(1);
    rig.lose_server();
    rig.neighbour.succeed("produce 13 15");
    rig.until_published(15);
    rig.until_removed();
    rig.stop();
    rig.assert_published();
}

#[test]
fn an_output_that_the_server_replaced_is_waited_for_and_no_file_is_blamed() {
    let Some(mut rig) = rig("stale handles") else { return };
    rig.neighbour.succeed("produce 1 5");
    rig.worker.succeed("start --on-success delete");
    rig.until_published(5);
    // Every handle of the directory is stale from here on.
    rig.server().succeed("cd /mnt/disk/share && rm -r out");
    rig.neighbour.succeed("rm /tmp/made; produce 6 10");
    rig.worker.until("grep -q WARN /tmp/work/log && grep -iq 'pause' /tmp/work/log");
    assert_eq!(rig.neighbour.succeed("ls /mnt/nfs/in | wc -l"), "5");
    rig.server().succeed("mkdir /mnt/disk/share/out");
    rig.until_published(5);
    rig.until_removed();
    rig.stop();
    rig.assert_published();
    assert_eq!(rig.worker.succeed("find /tmp/work/state -path '*/quarantine/*' -type f"), "");
}
