//! Archives that are made to fill a disk or the memory.

use crate::{
    files::{TestDir, tree, until},
    hostile::{
        packed::{FORMATS, zeros},
        process::peak_memory,
    },
};

const MIB: u64 = 1 << 20;
/// What the service may have in use with a bomb in its hands: less than any of them unpacks to.
const MEMORY: u64 = 192 * MIB;

/// A bomb that is met by the running service: it is quarantined for this reason, quickly, within
/// the memory, and the file next to it is processed.
fn defused(place: &TestDir, transforms: &str, name: &str, bomb: &[u8], why: &str) {
    let running = place.watch(&["--transform", transforms, "--on-success", "delete"]);
    let kept = place.quarantine().join(name);
    place.put(name, bomb);
    until(name, || kept.exists());
    let harmless = zeros(name.rsplit_once('.').unwrap().1, 10);
    place.put(format!("harmless-{name}"), harmless);
    let again = place.quarantine().join(format!("harmless-{name}"));
    until("the file next to it", || again.exists() || tree(&place.output()).len() == 1);
    let peak = peak_memory(running.pid());
    assert!(peak < MEMORY, "{transforms}: {peak} bytes");
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{transforms}: {ended:?}");
    let reason = place.reason_of(name);
    assert!(reason.contains(why), "{transforms}: {reason}");
    assert_eq!(std::fs::read(kept).unwrap(), bomb);
    place.assert_clean();
}

#[test]
fn a_bomb_of_each_format_is_stopped_by_the_ratio() {
    for (undo, extension) in FORMATS {
        let bomb = zeros(extension, 256 * MIB);
        let place = TestDir::new();
        place.configure("max_ratio = 100");
        let name = format!("bomb.{extension}");
        defused(&place, undo, &name, &bomb, "100");
        assert_eq!(tree(&place.output()).len(), 1, "{undo}");
    }
}

#[test]
fn a_bomb_of_each_format_is_stopped_by_the_size() {
    for (undo, extension) in FORMATS {
        let bomb = zeros(extension, 256 * MIB);
        let place = TestDir::new();
        place.configure("max_output = \"8MiB\"\nmax_ratio = 1000000000");
        let name = format!("bomb.{extension}");
        defused(&place, undo, &name, &bomb, "8388608");
        assert_eq!(tree(&place.output()).len(), 1, "{undo}");
    }
}

#[test]
fn an_archive_in_an_archive_is_stopped_by_the_default_limits_of_the_whole_chain() {
    for (undo, extension) in FORMATS {
        let place = TestDir::new();
        let inner = zeros(extension, 256 * MIB);
        let bomb = crate::hostile::packed::pack(extension, &inner);
        let name = format!("bomb.{extension}.{extension}");
        defused(&place, &format!("{undo},{undo}"), &name, &bomb, "2000");
    }
}

#[test]
fn an_archive_in_an_archive_that_is_packed_again_is_stopped_as_well() {
    let place = TestDir::new();
    let inner = zeros("gz", 256 * MIB);
    let bomb = crate::hostile::packed::pack("gz", &inner);
    defused(&place, "decompress,decompress,zstd", "bomb.gz.gz", &bomb, "2000");
}
