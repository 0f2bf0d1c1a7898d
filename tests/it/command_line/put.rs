//! `put`: a file appears in an input at once, complete and durable, whatever happens to the command.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Stdio},
};

use crate::files::{Running, TestDir, tree, until};

fn file(place: &TestDir, content: &str) -> String {
    std::fs::write(place.root().join("report"), content).unwrap();
    "report".into()
}

#[test]
fn a_file_is_delivered_once_under_its_name() {
    let place = TestDir::new();
    let file = file(&place, "one");
    let to = ["put", &file, "--to", "in"];
    for _ in 0..2 {
        let ended = place.run(&to);
        assert_eq!((ended.code, &*ended.stdout, &*ended.stderr), (0, "", ""), "{ended:?}");
        assert_eq!(tree(&place.input()), [place.input().join("report")]);
    }
    std::fs::write(place.root().join(&file), "other").unwrap();
    let ended = place.run(&to);
    assert_eq!(ended.code, 73, "{ended:?}");
    assert!(ended.stderr.contains("in/report exists and has other content"), "{ended:?}");
    let ended = place.run(&["put", &file, "--to", "in", "--name", "second"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(std::fs::read(place.input().join("report")).unwrap(), b"one");
    assert_eq!(std::fs::read(place.input().join("second")).unwrap(), b"other");
    assert!(place.root().join(&file).exists());
}

#[test]
fn a_moved_file_is_there_or_here() {
    let place = TestDir::new();
    let file = file(&place, "one");
    let to = ["put", &*file, "--move", "--to", "in"];
    assert_eq!(place.run(&to).code, 0);
    assert!(!place.root().join(&file).exists());
    assert_eq!(std::fs::read(place.input().join("report")).unwrap(), b"one");
    // It is in the input already: it stays.
    let ended = place.run(&["put", "in/report", "--move", "--to", "in"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(place.input().join("report").exists());
    // The command was killed after its copy had its name.
    std::fs::write(place.root().join(&file), "one").unwrap();
    assert_eq!(place.run(&to).code, 0);
    assert!(!place.root().join(&file).exists());
    // To another file system.
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let far = shm.path().join("far");
    std::fs::write(&far, "far").unwrap();
    let ended = place.run(&["put", far.to_str().unwrap(), "--move", "--to", "in"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!far.exists());
    assert_eq!(std::fs::read(place.input().join("far")).unwrap(), b"far");
    assert_eq!(tree(&place.input()).len(), 2, "no temporary file is left");
}

#[test]
fn what_cannot_be_delivered_has_a_reason() {
    let place = TestDir::new();
    let file = file(&place, "one");
    let fails = |args: &[&str], code: i32, reason: &str| {
        let ended = place.run(&[&["put"], args].concat());
        assert_eq!(ended.code, code, "{args:?} {ended:?}");
        assert!(ended.stderr.contains(reason), "{args:?} {ended:?}");
    };
    fails(&["missing", "--to", "in"], 74, "No such file or directory");
    fails(&[&file, "--to", "nowhere"], 78, "cannot open nowhere");
    fails(&["in", "--to", "in"], 64, "is no regular file");
    fails(&[&file, "--to", "in", "--name", "a/b"], 64, "--name");
    fails(&[&file, "--to", "in", "--name", ".tidemill-x"], 64, "--name");
    fails(&[&file, &file, "--to", "in", "--name", "a"], 64, "--name");
    fails(&[&file], 64, "--to <DIR>");
    fails(&[&file, "--to", "in", "--wait", "--timeout", "soon"], 64, "`soon` is no duration");
    fails(&[&file, "--to", "in", "--wait"], 69, "--wait reads the ledger");
    let writer = std::fs::File::options().append(true).open(place.root().join(&file)).unwrap();
    fails(&[&file, "--to", "in", "--move"], 75, "is open for writing");
    assert!(tree(&place.input()).is_empty());
    // PostgreSQL has a segment open that it archives.
    assert_eq!(place.run(&["put", &file, "--to", "in"]).code, 0);
    drop(writer);
}

/// The service of the inbox runs as another user, who is in its group.
#[test]
fn the_group_of_an_inbox_may_read_what_is_delivered_into_it() {
    let place = TestDir::new();
    let file = file(&place, "one");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&place.root().join(&file), 0o600);
    let delivered = || place.input().join("report").metadata().unwrap();
    assert_eq!(place.run(&["put", &file, "--to", "in"]).code, 0);
    assert_eq!(delivered().mode() & 0o777, 0o600);
    for how in [&["--to", "in"][..], &["--to", "in", "--move"]] {
        std::fs::remove_file(place.input().join("report")).unwrap();
        mode(&place.input(), 0o2770);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(place.input(), None, Some(12)).unwrap();
            mode(&place.input(), 0o2770);
        }
        assert_eq!(place.run(&[&["put", &*file][..], how].concat()).code, 0);
        assert_eq!(delivered().mode() & 0o777, 0o640);
        assert_eq!(delivered().gid(), place.input().metadata().unwrap().gid());
    }
}

#[test]
fn put_waits_for_the_outcome() {
    let place = TestDir::new();
    place.configure("transforms = \"decompress\"\non_success = \"delete\"");
    let running = Running::start(&mut place.tidemill(&["run", "--config", "tidemill.toml"]));
    running.until_logged("phase=READY");
    let put = |name: &str| place.run(&["put", name, "--pipeline", "main", "--wait"]);
    let pack = "printf one | gzip > a.gz; cp a.gz b.gz; echo no archive > bad.gz";
    let packed = Command::new("sh").args(["-c", pack]).current_dir(place.root()).status();
    assert!(packed.unwrap().success());
    // The second time its output is there, with the same content; then a consumer has taken it.
    for round in 0..3 {
        if round == 2 {
            std::fs::remove_file(place.output().join("a")).unwrap();
        }
        let ended = put("a.gz");
        assert!(place.output().join("a").exists(), "it is published when the command ends");
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.stdout.ends_with("out/a\n"), "{ended:?}");
        assert!(ended.stdout.contains("in/a.gz: published as "), "{ended:?}");
        until("it is removed", || !place.input().join("a.gz").exists());
    }
    let ended = put("bad.gz");
    assert_eq!(ended.code, 65, "{ended:?}");
    assert!(ended.stderr.contains("in/bad.gz: quarantined: "), "{ended:?}");
    // Paused, it is not finished in time.
    assert_eq!(place.run(&["pause"]).code, 0);
    let timed = ["put", "b.gz", "--pipeline", "main", "--wait", "--timeout", "0.2"];
    let ended = place.run(&timed);
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(ended.stderr.contains("in/b.gz: not finished yet; it "), "{ended:?}");
    let stopped = running.stop();
    assert_eq!(stopped.code, 0, "{stopped:?}");
    let ended = put("b.gz");
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(ended.stderr.contains("no service is running; the file is durable"), "{ended:?}");
}

/// At any instant, the command that is repeated delivers the file once, and nothing else is left for long.
#[test]
fn a_delivery_that_is_killed_is_finished_by_the_next_one() {
    let place = TestDir::new();
    for number in 0..40_u64 {
        let name = format!("file-{number}");
        let path = place.root().join(&name);
        std::fs::write(&path, vec![u8::try_from(number).unwrap(); 3 << 20]).unwrap();
        let mut command = place.tidemill(&["put", &name, "--to", "in"]);
        let mut killed = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Until then it has copied more and more of it.
        until("something is there", || !tree(&place.input()).is_empty());
        let spin = std::time::Instant::now();
        while spin.elapsed().as_micros() < u128::from(number * 200) {
            std::hint::spin_loop();
        }
        killed.kill().unwrap();
        killed.wait().unwrap();
        let delivered = place.input().join(&name);
        if delivered.exists() {
            assert_eq!(std::fs::read(&delivered).unwrap(), std::fs::read(&path).unwrap());
        }
        assert_eq!(place.run(&["put", &name, "--to", "in"]).code, 0);
        assert_eq!(std::fs::read(&delivered).unwrap(), std::fs::read(&path).unwrap());
        std::fs::remove_file(&delivered).unwrap();
    }
    let temps = tree(&place.input());
    let prefix = place.input().join(".tidemill-put-");
    let is_temp = |path: &Path| path.to_string_lossy().starts_with(&*prefix.to_string_lossy());
    assert!(temps.iter().all(|path| is_temp(path)), "{temps:?}");
    // No pipeline takes them.
    place.put("a", "a");
    assert_eq!(place.once(&["--temporary-names", "take"]).code, 0);
    assert_eq!(tree(&place.output()), [place.output().join("a.zst")]);
}
