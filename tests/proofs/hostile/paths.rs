//! Paths that lead up or out: in arguments, and in a ledger that someone tampered with.

use std::fs;

use rusqlite::Connection;

use crate::files::{TestDir, tree};

/// A place with a quarantined file, and a secret next to the input.
fn place() -> TestDir {
    let place = TestDir::new();
    fs::write(place.root().join("secret"), "secret").unwrap();
    place.put("sub/bad", "no archive");
    let ended = place.once(&["--transform", "gunzip", "--on-success", "delete"]);
    assert_eq!(ended.code, 65, "{ended:?}");
    place
}

#[test]
fn explain_and_requeue_take_no_path_that_leads_out_of_the_input() {
    let place = place();
    let absolute = place.root().join("secret").display().to_string();
    for path in ["in/../secret", "in/sub/../../secret", "/etc/passwd", "../secret", &absolute] {
        let explained = place.run(&["explain", path]);
        assert_eq!(explained.code, 0, "{explained:?}");
        assert!(explained.stdout.contains("is in no input and no output"), "{explained:?}");
        let refused = place.run(&["requeue", path]);
        assert_eq!(refused.code, 64, "{refused:?}");
        assert!(refused.stderr.contains("is not in quarantine"), "{refused:?}");
    }
    assert_eq!(fs::read(place.root().join("secret")).unwrap(), b"secret");
    assert!(place.quarantine().join("sub/bad").exists());
}

#[test]
fn a_ledger_whose_source_leads_out_gets_nothing_put_there() {
    let up = b"../planted".to_vec();
    let place = place();
    let absolute = place.root().join("planted").into_os_string().into_encoded_bytes();
    let deep = b"new/../../planted/bad".to_vec();
    for source in [up, absolute, deep] {
        let ledger = Connection::open(place.state().join("ledger.sqlite")).unwrap();
        let changed = ledger.execute("UPDATE records SET source = ?", [&source]).unwrap();
        assert_eq!(changed, 1);
        drop(ledger);
        let refused = place.run(&["requeue", "--all"]);
        assert_ne!(refused.code, 0, "{refused:?}");
        assert!(!place.root().join("planted").exists(), "{refused:?}");
        assert!(place.quarantine().join("sub/bad").exists(), "{refused:?}");
    }
}

#[test]
fn a_configuration_with_dots_means_the_directories_they_lead_to() {
    let place = TestDir::new();
    place.put("a", "content");
    let inside = place.run(&["run", "in", "in/../in/out", "--once"]);
    assert_eq!(inside.code, 78, "{inside:?}");
    assert!(inside.stderr.contains("is inside the watched input"), "{inside:?}");
    let ended = place.run(&["run", "out/../in", "in/../out", "--once", "--http", "off"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("a.zst"), b"content");
    let made = tree(&place.root());
    assert!(made.iter().all(|path| !path.display().to_string().contains("..")), "{made:?}");
}
