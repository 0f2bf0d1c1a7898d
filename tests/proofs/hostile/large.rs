//! A file as large as a disk.

use std::{fs::File, time::Instant};

use crate::{
    files::{TestDir, until},
    hostile::process::{open_files, peak_memory},
    prove,
};

const TIB: u64 = 1 << 40;
const MEMORY: u64 = 256 << 20;
const DEADLINE_SECONDS: u64 = 6;

#[test]
fn a_sparse_tebibyte_costs_no_memory_holds_up_nobody_and_is_left_by_the_stop() {
    let name = "a_sparse_tebibyte_costs_no_memory_holds_up_nobody_and_is_left_by_the_stop";
    let place = TestDir::new();
    let deadline = format!("{DEADLINE_SECONDS}s");
    let running = place.watch(&["--on-success", "delete", "--shutdown-deadline", &deadline]);
    let path = place.root().join("tebibyte");
    if let Err(error) = File::create_new(&path).and_then(|file| file.set_len(TIB)) {
        return prove::skipped(name, &format!("no file of 1 TiB can be made here: {error}"));
    }
    let source = place.input().join("tebibyte");
    std::fs::rename(path, &source).unwrap();
    until("it is in flight", || open_files(running.pid()).contains(&source));
    let began = Instant::now();
    for number in 0..200 {
        place.put(format!("small{number}"), "small");
    }
    until("the small files", || {
        (0..200).all(|number| place.output().join(format!("small{number}.zst")).exists())
    });
    let elapsed = began.elapsed();
    assert!(open_files(running.pid()).contains(&source), "it is still in flight");
    let peak = peak_memory(running.pid());
    assert!(peak < MEMORY, "{peak} bytes");
    let stopped = Instant::now();
    let ended = running.stop();
    let stop = stopped.elapsed();
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(stop.as_secs() < DEADLINE_SECONDS + 3, "{stop:?}");
    assert!(ended.stderr.contains("unfinished=1"), "{ended:?}");
    assert_eq!(source.metadata().unwrap().len(), TIB);
    assert!(!place.output().join("tebibyte.zst").exists());
    place.assert_clean();
    let figures: [(&str, &dyn std::fmt::Display); 3] = [
        ("peak_mib", &(peak >> 20)),
        ("small_files_ms", &elapsed.as_millis()),
        ("stop_ms", &stop.as_millis()),
    ];
    prove::report(name, &figures);
}
