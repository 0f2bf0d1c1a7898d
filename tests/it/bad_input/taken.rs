//! Names that are taken: by a file, a directory, or a file where a directory should be.

use std::path::{Path, PathBuf};

use crate::files::{Ended, TestDir, tree};

/// A place whose output's name a file of another program has, after one run with this policy.
fn after(policy: &str) -> (TestDir, Ended) {
    let place = TestDir::new();
    place.put("a", "mine");
    std::fs::write(place.output().join("a.zst"), "theirs").unwrap();
    let ended = place.once(&["--on-exists", policy, "--on-success", "delete"]);
    place.assert_clean();
    (place, ended)
}

fn assert_quarantined(place: &TestDir, ended: &Ended, source: &str, why: &str) {
    assert_eq!(ended.code, 65, "{ended:?}");
    let kept = std::fs::read_to_string(place.quarantine().join(source)).unwrap();
    assert_eq!(kept, "mine");
    assert!(place.reason_of(source).contains(why), "{}", place.reason_of(source));
    assert!(ended.stderr.contains(why), "{ended:?}");
    let reason = place.quarantine().join(format!("{source}.json"));
    let reason: serde_json::Value =
        serde_json::from_slice(&std::fs::read(reason).unwrap()).unwrap();
    assert!(["write", "commit"].contains(&reason["stage"].as_str().unwrap()), "{reason}");
}

#[test]
fn a_taken_name_is_left_and_the_source_quarantined_under_update_and_fail() {
    for (policy, why) in [
        ("update", "exists, and the policy is `update` and this service did not publish it"),
        ("fail", "exists, and the policy is `fail`"),
    ] {
        let (place, ended) = after(policy);
        assert_quarantined(&place, &ended, "a", why);
        assert_eq!(std::fs::read(place.output().join("a.zst")).unwrap(), b"theirs");
    }
}

#[test]
fn replace_replaces_and_suffix_publishes_next_to_it() {
    let (place, ended) = after("replace");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("a.zst"), b"mine");
    assert!(tree(&place.input()).is_empty());

    let (place, ended) = after("suffix");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("a.1.zst"), b"mine");
    assert_eq!(std::fs::read(place.output().join("a.zst")).unwrap(), b"theirs");
    assert!(tree(&place.input()).is_empty());
}

#[test]
fn skip_leaves_both_and_says_so_once() {
    let (place, ended) = after("skip");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(std::fs::read(place.output().join("a.zst")).unwrap(), b"theirs");
    assert_eq!(std::fs::read(place.input().join("a")).unwrap(), b"mine");
    assert_eq!(place.state_of("a"), "skipped");
    assert!(ended.stderr.contains("exists, and the policy is `skip`"), "{ended:?}");
    let again = place.once(&["--on-exists", "skip", "--on-success", "delete"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(place.history("a").len(), 1);
}

#[test]
fn update_replaces_what_it_published_itself_and_nothing_that_was_changed_since() {
    let place = TestDir::new();
    place.put("a", "first");
    assert_eq!(place.once(&[]).code, 0);
    place.put("a", "second");
    assert_eq!(place.once(&[]).code, 0);
    assert_eq!(place.published("a.zst"), b"second");
    std::fs::write(place.output().join("a.zst"), "edited").unwrap();
    place.put("a", "the third");
    let ended = place.once(&[]);
    assert_eq!(ended.code, 65, "{ended:?}");
    assert!(place.reason_of("a").contains("the existing output was changed since"));
    assert_eq!(std::fs::read(place.output().join("a.zst")).unwrap(), b"edited");
    assert_eq!(std::fs::read(place.input().join("a")).unwrap(), b"the third");
    place.assert_clean();
}

#[test]
fn a_directory_with_the_outputs_name_is_never_replaced() {
    for policy in ["update", "fail", "replace"] {
        let place = TestDir::new();
        place.put("a", "mine");
        std::fs::create_dir(place.output().join("a.zst")).unwrap();
        let ended = place.once(&["--on-exists", policy, "--on-success", "delete"]);
        assert_quarantined(&place, &ended, "a", "exists, and it is not a regular file");
        assert!(place.output().join("a.zst").is_dir());
        place.assert_clean();
    }
}

#[test]
fn a_file_where_the_outputs_directory_should_be_blames_one_file_and_not_the_place() {
    let place = TestDir::new();
    place.put("sub/a", "mine");
    place.put("good", "good");
    std::fs::write(place.output().join("sub"), "theirs").unwrap();
    let ended = place.once(&["--on-success", "delete"]);
    assert_quarantined(
        &place,
        &ended,
        "sub/a",
        "its name belongs to a file that is not a directory",
    );
    assert_eq!(place.published("good.zst"), b"good");
    place.assert_clean();
}

#[test]
fn a_link_in_the_output_leads_nothing_out_of_it() {
    let place = TestDir::new();
    place.put("sub/a", "mine");
    let outside = place.root().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, place.output().join("sub")).unwrap();
    let ended = place.once(&["--on-success", "delete"]);
    assert_quarantined(
        &place,
        &ended,
        "sub/a",
        "its name belongs to a file that is not a directory",
    );
    assert_eq!(tree(&outside), Vec::<PathBuf>::new());
    place.assert_clean();
}

#[test]
fn an_archive_keeps_every_file_of_one_name() {
    let place = TestDir::new();
    for content in ["first", "second"] {
        place.put("a", content);
        let ended = place.once(&["--on-success", "archive:done"]);
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    let done = place.root().join("done");
    assert_eq!(
        tree(&done),
        [done.join("a"), done.join("a.1")].map(|path| Path::to_path_buf(&path))
    );
    assert_eq!(std::fs::read(done.join("a.1")).unwrap(), b"second");
    place.assert_clean();
}

/// Its own earlier output, too: only `reprocess` asks for a new one.
#[test]
fn skip_leaves_the_earlier_output_of_the_same_source() {
    let place = TestDir::new();
    place.put("a", "first");
    let skip = ["--on-exists", "skip"];
    assert_eq!(place.once(&skip).code, 0);
    place.put("a", "second");
    let ended = place.once(&skip);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("stopped exit_code=0 published=0"), "{ended:?}");
    assert_eq!(place.published("a.zst"), b"first");
    assert_eq!(place.state_of("a"), "skipped");
    assert_eq!(tree(&place.output()), [place.output().join("a.zst")]);
}
