//! What is left of root.

use crate::{
    files::Place,
    is_root,
    process::{field, threads},
    prove,
};

/// `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_LEASE`: what files of other users need.
const KEPT: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 28;
const NET_BIND_SERVICE: u64 = 1 << 10;

#[test]
fn root_keeps_in_every_thread_only_what_files_of_other_users_need_and_says_so_once() {
    let name = "root_keeps_in_every_thread_only_what_files_of_other_users_need_and_says_so_once";
    if !is_root() {
        return prove::skipped(name, "this is not root");
    }
    for (args, kept) in [
        (["--http", "off"], KEPT),
        (["--http", "127.0.0.1:0"], KEPT),
        // A port that only root may listen at; most likely nobody has it.
        (["--http", "127.0.0.1:1001"], KEPT | NET_BIND_SERVICE),
    ] {
        let place = Place::new();
        let running = place.watch(&args);
        let all = threads(running.pid());
        assert!(all.len() > 10, "{}", all.len());
        let held = |status: &str, set: &str| u64::from_str_radix(field(status, set), 16).unwrap();
        // In a container there may be less to begin with.
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        for status in &all {
            for set in ["CapEff", "CapPrm", "CapBnd"] {
                assert_eq!(held(status, set), kept & held(&own, set), "{set}\n{status}");
            }
            for set in ["CapInh", "CapAmb"] {
                assert_eq!(held(status, set), 0, "{set}\n{status}");
            }
            assert_eq!(field(status, "NoNewPrivs"), "1", "{status}");
        }
        let ended = running.stop();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.stderr.matches("runs as root").count(), 1, "{ended:?}");
    }
}
