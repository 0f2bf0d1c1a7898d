//! `verify`: an output that does not give its source is not published, and its source stays.

use std::os::unix::fs::FileExt;

use crate::files::{Running, TestDir, tree, until};

const ARGS: [&str; 3] = ["--verify", "--on-success", "delete"];

/// More than a small file, and little that compresses.
fn large() -> Vec<u8> {
    let line = |number: u32| number.wrapping_mul(2_654_435_761).to_le_bytes();
    (0..2_000_000_u32).flat_map(line).collect()
}

#[test]
fn verified_outputs_of_every_format_are_published() {
    for transforms in ["zstd:3", "gzip:6", "brotli:3", "xz:0", "bzip2:1", "lz4", "copy"] {
        let place = TestDir::new();
        place.put("small", "content");
        place.put("empty", "");
        place.put("large", large());
        let ended = place.once(&[&ARGS[..], &["--transform", transforms]].concat());
        assert_eq!(ended.code, 0, "{transforms}: {ended:?}");
        assert!(ended.stderr.contains("3 files published"), "{transforms}: {ended:?}");
        assert!(tree(&place.input()).is_empty(), "{transforms}");
        place.assert_clean();
    }
}

/// The file is not at fault: it is tried again, and does not go to quarantine.
#[test]
fn an_output_that_is_not_its_source_pauses_the_pipeline_and_keeps_the_source() {
    for content in [b"content".to_vec(), large()] {
        let place = TestDir::new();
        let running = place.watch_with(&ARGS, "verify=2*return(eio)->off");
        place.put("file", &content);
        running.until_logged("the output does not decode to its source");
        assert!(place.input().join("file").exists() && !place.output().join("file.zst").exists());
        until("the source to be done", || tree(&place.input()).is_empty());
        let ended = running.stop();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.stderr.contains(" quarantined=0 "), "{ended:?}");
        assert_eq!(place.published("file.zst"), content);
        place.assert_clean();
    }
}

/// One byte of a large output is changed after it was written and before it is synced.
#[test]
fn a_large_output_is_read_back() {
    let place = TestDir::new();
    let running = place.watch_with(&ARGS, &place.gate("write::sealed"));
    place.put("file", large());
    let temp = || {
        tree(&place.output())
            .into_iter()
            .find(|path| path.extension().is_some_and(|it| it == "tmp"))
    };
    let is_whole = || temp().and_then(|temp| place.output().join(temp).metadata().ok());
    until("the whole output under its temporary name", || {
        is_whole().is_some_and(|found| found.len() > 8_000_000)
    });
    let temp = std::fs::File::options().write(true).open(place.output().join(temp().unwrap()));
    temp.unwrap().write_all_at(b"wrong", 4_000_000).unwrap();
    place.open_gate();
    running.until_logged("the file system lost written content");
    assert!(place.input().join("file").exists());
    until("the source to be done", || tree(&place.input()).is_empty());
    assert_eq!(running.stop().code, 0);
    assert_eq!(place.published("file.zst"), large());
}

/// The failpoint is met by outputs that are verified, and by no others.
#[test]
fn outputs_are_verified_where_it_is_configured_only() {
    for (args, code) in [(&ARGS[1..], 0), (&ARGS[..], 75)] {
        let place = TestDir::new();
        place.put("small", "content");
        place.put("large", large());
        let args = [&["run", "--config", "tidemill.toml", "--once"], args].concat();
        let mut command = place.tidemill(&args);
        let ended = Running::start(command.env("FAILPOINTS", "verify=return(eio)")).end();
        assert_eq!(ended.code, code, "{ended:?}");
    }
}

#[test]
fn what_cannot_be_reversed_is_refused_at_the_start() {
    let place = TestDir::new();
    let ended = place.once(&["--verify", "--transform", "gunzip,zstd"]);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.stderr.contains("`verify` cannot decode the output of `gunzip`"), "{ended:?}");
}
