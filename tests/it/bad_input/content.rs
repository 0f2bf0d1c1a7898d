//! Files with nothing in them, with too little, or with what may not be read.

use std::{
    fs::{File, Permissions},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
};

use crate::{
    bad_input::is_root,
    files::{Running, TestDir, tree},
    prove,
};

const FORMATS: [(&str, &str, &str); 6] = [
    ("zstd", "unzstd", "zst"),
    ("gzip", "gunzip", "gz"),
    ("brotli", "unbrotli", "br"),
    ("xz", "unxz", "xz"),
    ("bzip2", "bunzip2", "bz2"),
    ("lz4", "unlz4", "lz4"),
];

#[test]
fn an_empty_file_becomes_an_output_that_decompresses_to_nothing() {
    let place = TestDir::new();
    place.put("empty", "");
    let ended = place.once(&["--on-success", "delete"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("empty.zst"), b"");
    assert!(tree(&place.input()).is_empty());
    place.assert_clean();
}

#[test]
fn an_empty_file_is_no_archive_of_any_format() {
    for (_, undo, extension) in FORMATS {
        let place = TestDir::new();
        let name = format!("empty.{extension}");
        place.put(&name, "");
        let ended = place.once(&["--transform", undo]);
        assert_eq!(ended.code, 65, "{undo}: {ended:?}");
        assert_eq!(place.state_of(&name), "quarantined", "{undo}");
        assert!(tree(&place.output()).is_empty(), "{undo}");
    }
}

#[test]
fn a_sparse_file_of_100_mib_is_read_whole() {
    let place = TestDir::new();
    let path = place.put("sparse", "");
    File::options().write(true).open(&path).unwrap().set_len(100 << 20).unwrap();
    let ended = place.once(&[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let content = place.published("sparse.zst");
    assert_eq!(content.len(), 100 << 20);
    assert!(content.iter().all(|byte| *byte == 0));
    place.assert_clean();
}

#[test]
fn a_truncated_archive_of_each_format_is_quarantined_with_its_reason() {
    let text = "the same words, again and again; ".repeat(5000);
    for (make, undo, extension) in FORMATS {
        let place = TestDir::new();
        let name = format!("a.{extension}");
        place.put("a", &text);
        assert_eq!(place.once(&["--transform", make, "--on-success", "delete"]).code, 0);
        let made = place.output().join(&name);
        let whole = std::fs::read(&made).unwrap();
        std::fs::remove_file(&made).unwrap();
        let half = &whole[..whole.len() / 2];
        place.put(format!("sub/{name}"), half);
        for transforms in [undo, "decompress"].iter().take(if make == "brotli" { 1 } else { 2 }) {
            let ended = place.once(&["--transform", transforms, "--on-success", "delete"]);
            assert_eq!(ended.code, 65, "{transforms}: {ended:?}");
            assert!(tree(&place.output()).is_empty(), "{transforms}");
            let kept = place.quarantine().join("sub").join(&name);
            assert_eq!(std::fs::read(&kept).unwrap(), half, "{transforms}");
            assert_reason(&place, &format!("sub/{name}"), transforms);
            place.assert_clean();
            assert_eq!(place.run(&["requeue", "--all"]).code, 0, "{transforms}");
        }
    }
}

/// The JSON next to a quarantined file has all that a person needs.
fn assert_reason(place: &TestDir, source: &str, transforms: &str) {
    let path = place.quarantine().join(format!("{source}.json"));
    let reason: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(reason["stage"], "transform", "{reason}");
    assert_eq!(reason["reason_code"], "truncated", "{reason}");
    assert_eq!(reason["attempts"], 1, "damage is final: {reason}");
    assert_eq!(reason["transforms"], transforms, "{reason}");
    assert_eq!(reason["pipeline"], "main", "{reason}");
    let whole = place.input().join(source).display().to_string();
    assert_eq!(reason["source"], whole.as_str(), "{reason}");
    assert!(reason["error"].as_str().unwrap().contains(&whole), "{reason}");
    assert!(reason["at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{reason}");
    assert_eq!(reason["config_hash"].as_str().unwrap().len(), 64, "{reason}");
    assert!(reason["identity"]["inode"].as_u64().unwrap() > 0, "{reason}");
}

/// The service, processing what is there as a user who may not read everything.
fn once_as_nobody(place: &TestDir, args: &[&str]) -> Option<crate::files::Ended> {
    const NOBODY: u32 = 65534;
    let args = [&["run", "--config", "tidemill.toml", "--once"], args].concat();
    let mut command = place.tidemill(&args);
    if is_root() {
        for dir in [place.root(), place.input(), place.output()] {
            std::fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
            std::os::unix::fs::chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        command.uid(NOBODY).gid(NOBODY);
    }
    if is_root() && !is_reachable(env!("CARGO_BIN_EXE_tidemill")) {
        return None;
    }
    Some(Running::start(&mut command).end())
}

/// Whether every user may run it.
fn is_reachable(binary: &str) -> bool {
    Path::new(binary)
        .ancestors()
        .all(|path| std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 1 == 1))
}

#[test]
fn an_unreadable_file_is_quarantined_in_place_with_its_reason() {
    let place = TestDir::new();
    place.put("good", "good");
    let secret = place.put("secret", "secret");
    std::fs::set_permissions(&secret, Permissions::from_mode(0o000)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(place.input().join("good"), Some(65534), Some(65534)).unwrap();
    }
    let Some(ended) = once_as_nobody(&place, &[]) else {
        return prove::skipped("bad input", "the binary cannot be run by another user here");
    };
    assert_eq!(ended.code, 65, "{ended:?}");
    assert_eq!(tree(&place.output()), [place.output().join("good.zst")]);
    assert_eq!(place.state_of("secret"), "quarantined");
    let reason = place.reason_of("secret");
    let wanted = format!("cannot open {}: Permission denied", secret.display());
    assert!(reason.starts_with(&wanted), "{reason}");
    assert!(ended.stderr.contains("stage=claim"), "{ended:?}");
    assert!(secret.exists(), "it stays");
    place.assert_clean();
}

#[test]
fn an_unreadable_directory_is_reported_and_the_rest_is_processed() {
    let place = TestDir::new();
    place.put("good", "good");
    place.put("closed/file", "inside");
    let closed = place.input().join("closed");
    std::fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(place.input().join("good"), Some(65534), Some(65534)).unwrap();
    }
    let Some(ended) = once_as_nobody(&place, &[]) else {
        return prove::skipped("bad input", "the binary cannot be run by another user here");
    };
    assert_eq!(place.published("good.zst"), b"good");
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(ended.stderr.contains("cannot list an input directory"), "{ended:?}");
    assert!(ended.stderr.contains("path=closed"), "{ended:?}");
    std::fs::set_permissions(&closed, Permissions::from_mode(0o755)).unwrap();
    place.assert_clean();
}
