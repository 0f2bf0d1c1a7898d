//! `min_free`: a pipeline leaves space on its output's file system, and resumes automatically.

use std::process::Command;

use crate::{
    files::{TestDir, tree, until},
    mounts::Mount,
};

const MIB: usize = 1 << 20;

#[test]
fn a_pipeline_pauses_before_its_disk_is_full() {
    let place = TestDir::new();
    let Some(_mount) = Mount::memory(&place.output(), "32m") else { return };
    let fill = |name: &str, mebibytes: usize| {
        std::fs::write(place.output().join(name), vec![7; mebibytes * MIB]).unwrap();
    };
    fill("ballast", 20);
    let running = place.watch(&["--min-free", "16MiB"]);
    place.put("a", "a");
    running.until_logged("storage unavailable, intake paused");
    let log = running.log();
    assert!(log.contains("free, and `min_free` is 16.8 MB"), "{log}");
    let explained = place.run(&["explain", "in/a"]).stdout;
    assert!(explained.contains("PAUSED") && explained.contains("`min_free`"), "{explained}");
    // A consumer takes something, and not enough: as many bytes are free as the key asks for.
    fill("ballast", 15);
    assert!(!place.output().join("a.zst").exists());
    std::fs::remove_file(place.output().join("ballast")).unwrap();
    until("a", || place.output().join("a.zst").exists());
    running.until_logged("storage available, intake resumed");
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("a.zst"), b"a");
    assert_eq!(place.history("a").len(), 1, "no attempt was counted");
}

/// Its size is not known beforehand.
#[test]
fn a_large_output_that_would_take_the_space_is_made_later() {
    let place = TestDir::new();
    let Some(_mount) = Mount::memory(&place.output(), "96m") else { return };
    let ballast = place.output().join("ballast");
    std::fs::write(&ballast, vec![7; 32 * MIB]).unwrap();
    let pack = "head -c 56M /dev/zero | gzip > zeros.gz && mv zeros.gz in/";
    let packed = Command::new("sh").args(["-c", pack]).current_dir(place.root()).status();
    assert!(packed.unwrap().success());
    let running = place.watch(&["--transform", "gunzip", "--min-free", "32MiB"]);
    running.until_logged("storage unavailable, intake paused");
    until("its temporary file to go", || tree(&place.output()).len() == 1);
    assert!(running.log().contains("`min_free`"), "{}", running.log());
    std::fs::remove_file(&ballast).unwrap();
    until("zeros", || place.output().join("zeros").exists());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(std::fs::metadata(place.output().join("zeros")).unwrap().len(), 56 * MIB as u64);
    place.assert_clean();
}
