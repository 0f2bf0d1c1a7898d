use std::{
    fs,
    os::unix::ffi::OsStringExt,
    process::{Command, Stdio},
};

use sha2::Digest;

use super::*;
use crate::{
    fingerprint::Fingerprint,
    ledger::Replaced,
    sink::memory::{Memory, Store},
};

fn sha256(content: &[u8]) -> Sha256 {
    sha2::Sha256::digest(content).into()
}

fn output(content: &[u8], replaced: Option<&[u8]>) -> Output {
    Output {
        path: "below/a".into(),
        temp: "temp".into(),
        identity: Fingerprint::NONE,
        hash: [1; 32],
        source_hash: [2; 32],
        replaces: replaced.map(|replaced| Replaced {
            identity: Fingerprint::NONE,
            hash: Some([3; 32]),
            sha256: Some(sha256(replaced)),
        }),
        transforms: String::new(),
        sha256: Some(sha256(content)),
    }
}

fn side(store: &Store) -> Option<Vec<u8>> {
    store.read("below/a.sha256".as_ref())
}

fn bench(there: Option<&[u8]>) -> (Store, Memory) {
    let store = Store::default();
    if let Some(there) = there {
        store.put("below/a.sha256".as_ref(), there);
    }
    let sink = store.open("0");
    (store, sink)
}

fn line_of(content: &[u8]) -> Vec<u8> {
    line(&sha256(content), "a".as_ref())
}

fn undo(sink: &Memory, output: &Output, is_output: bool) {
    super::undo::<sink::Error>(sink, output, |_| Ok(is_output)).expect("undo");
}

#[test]
fn a_checksum_file_is_written_once_and_undone_completely() {
    let (store, sink) = bench(None);
    let ours = output(b"new", None);
    for _ in 0..2 {
        assert_eq!(place(&sink, &ours).expect("place"), Placement::Placed);
        assert_eq!(side(&store), Some(line_of(b"new")));
    }
    undo(&sink, &ours, true);
    assert_eq!(side(&store), Some(line_of(b"new")), "another source's output");
    for _ in 0..2 {
        undo(&sink, &ours, false);
        assert_eq!(side(&store), None);
    }
}

#[test]
fn only_the_checksum_file_of_the_replaced_output_is_replaced() {
    let (store, sink) = bench(Some(&line_of(b"old")));
    let other = output(b"new", Some(b"other"));
    assert_eq!(place(&sink, &other).expect("place"), Placement::Taken);
    let ours = output(b"new", Some(b"old"));
    assert_eq!(place(&sink, &ours).expect("place"), Placement::Placed);
    assert_eq!(side(&store), Some(line_of(b"new")));
    undo(&sink, &ours, false);
    assert_eq!(side(&store), Some(line_of(b"old")), "it has its content again");
}

#[test]
fn a_foreign_file_is_never_replaced_or_removed() {
    let (store, sink) = bench(Some(b"theirs"));
    let ours = output(b"new", Some(b"old"));
    assert_eq!(place(&sink, &ours).expect("place"), Placement::Taken);
    complete(&sink, &ours).expect("complete");
    undo(&sink, &ours, false);
    let without = Output { sha256: None, ..ours };
    assert_eq!(place(&sink, &without).expect("place"), Placement::Placed);
    complete(&sink, &without).expect("complete");
    assert_eq!(side(&store).as_deref(), Some(&b"theirs"[..]));
}

#[test]
fn an_output_without_a_checksum_file_removes_that_of_the_replaced_one() {
    let (store, sink) = bench(Some(&line_of(b"old")));
    let ours = Output { sha256: None, ..output(b"new", Some(b"old")) };
    assert_eq!(place(&sink, &ours).expect("place"), Placement::Placed);
    assert_eq!(side(&store), Some(line_of(b"old")), "until the output has its name");
    complete(&sink, &ours).expect("complete");
    assert_eq!(side(&store), None);
}

/// The names that break lines, and one that is as long as a name can be.
fn hard_names() -> Vec<Vec<u8>> {
    let names = [
        &b"plain"[..],
        b"two\nlines",
        b"back\\slash",
        b"\\",
        b"\\n",
        b"-rf",
        b" space ",
        b"*star",
        b"\xff\xfe",
        b"tab\tand\x1b",
        "\u{fc}\u{4e2d}".as_bytes(),
    ];
    names.iter().map(|name| name.to_vec()).chain([vec![b'\\'; 248], vec![b'x'; 248]]).collect()
}

#[test]
fn sha256sum_accepts_every_name_and_finds_every_difference() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = |name: &OsStr| dir.path().join(name);
    let check = |name: &OsStr| {
        let mut check = Command::new("sha256sum");
        check.args(["--check", "--strict", "--status", "--"]).arg(name).current_dir(dir.path());
        check.stderr(Stdio::null()).status().expect("sha256sum runs").success()
    };
    for name in hard_names() {
        let name = OsString::from_vec(name);
        let side = path(Path::new(&name)).into_os_string();
        assert!(side.len() <= limits::NAME_BYTES_MAX, "{name:?}");
        fs::write(at(&name), "content").expect("write");
        let content = content(&sha256(b"content"), Path::new(&name));
        assert!(content.len() as u64 <= CONTENT_BYTES_MAX, "{name:?}");
        fs::write(at(&side), content).expect("write");
        assert!(check(&side), "{name:?}");
        fs::write(at(&name), "Content").expect("write");
        assert!(!check(&side), "{name:?}");
    }
}

/// Byte for byte, where the installed `sha256sum` escapes the same letters.
#[test]
fn the_line_is_that_of_sha256sum() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for name in hard_names() {
        let name = OsString::from_vec(name);
        fs::write(dir.path().join(&name), "content").expect("write");
        let printed =
            Command::new("sha256sum").arg("--").arg(&name).current_dir(dir.path()).output();
        let printed = printed.expect("sha256sum runs").stdout;
        assert_eq!(line(&sha256(b"content"), &name), printed, "{name:?}");
    }
}
