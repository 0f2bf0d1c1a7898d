//! `--transform copy`, and gzip of a large file, as a user sees them.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Command,
};

use crate::files::TestDir;

/// Larger than what crosses the transforms as one buffer, and no multiple of anything.
fn large() -> Vec<u8> {
    (0..5_000_003_u32).map(|number| (number ^ (number >> 9)).to_le_bytes()[0]).collect()
}

#[test]
fn a_copy_has_the_content_mode_and_time_of_its_source() {
    let place = TestDir::new();
    place.configure("transforms = \"copy\"");
    let contents = [("empty", Vec::new()), ("small", b"small".to_vec()), ("large", large())];
    for (name, content) in &contents {
        let path = place.put(name, content);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o640)).unwrap();
    }
    let ended = place.once(&[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for (name, content) in contents {
        let (from, to) = (place.input().join(name), place.output().join(name));
        assert!(std::fs::read(&to).unwrap() == content, "{name}");
        let (from, to) = (from.metadata().unwrap(), to.metadata().unwrap());
        assert_eq!((to.mode(), to.mtime_nsec()), (from.mode(), from.mtime_nsec()), "{name}");
        assert_eq!(place.state_of(name), "done", "{name}");
    }
    place.assert_clean();
}

#[test]
fn compressed_files_that_are_compressed_again_are_reported_once() {
    let again = |transforms: &str| {
        let place = TestDir::new();
        place.configure(&format!("transforms = \"{transforms}\""));
        let gzip = Command::new("gzip").arg("-c").arg("Cargo.toml").output().unwrap().stdout;
        for name in ["a.gz", "b.gz", "sub/c.tgz"] {
            place.put(name, &gzip);
        }
        place.put("plain", "content");
        let ended = place.once(&[]);
        assert_eq!(ended.code, 0, "{transforms}: {ended:?}");
        let warned = ended.stderr.matches("event=pipeline.recompresses").count();
        let counted = ended.stderr.lines().find(|line| line.contains(" compressed again: "));
        (warned, counted.map(|line| line.split(':').next().unwrap().to_owned()), ended)
    };
    let (warned, counted, ended) = again("zstd");
    assert_eq!((warned, counted.as_deref()), (1, Some("3 files compressed again")), "{ended:?}");
    assert!(ended.stderr.contains("--exclude '*."), "{ended:?}");
    for transforms in ["copy", "decompress:or-copy,zstd"] {
        let (warned, counted, ended) = again(transforms);
        assert_eq!((warned, counted), (0, None), "{transforms}: {ended:?}");
    }
}

#[test]
fn a_large_gzip_has_the_same_bytes_for_every_count_of_workers() {
    let mut outputs = Vec::new();
    for workers in [1, 2, 4] {
        let place = TestDir::new();
        place.configure(&format!("transforms = \"gzip\"\n[limits]\nworkers = {workers}"));
        place.put("large", large());
        let ended = place.once(&[]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let output = place.output().join("large.gz");
        let read = Command::new("gzip").arg("-dc").arg(&output).output().unwrap();
        assert!(read.status.success() && read.stdout == large());
        outputs.push(std::fs::read(output).unwrap());
    }
    assert!(outputs.iter().all(|output| *output == outputs[0]));
}
