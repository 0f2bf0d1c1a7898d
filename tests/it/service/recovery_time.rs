//! How long recovery takes where very much is unfinished.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tidemill::{
    fs::identity_of,
    ledger::{Flush, Ledger, Output, Record, State, sqlite::Sqlite},
    policy::OnSuccess,
};

use crate::{
    harness::{Tree, until},
    prove,
};

const INTENTS: usize = 10_000;

/// What a power loss leaves just before the renames: durable temps, each with its intent.
fn unfinished(tree: &Tree) {
    let state = tree.path("out/.tidemill");
    let ledger = Sqlite::open(&state.join("ledger.sqlite")).expect("the ledger");
    ledger.join("another boot").expect("in use");
    let roots = ledger.pipelines().expect("its pipelines");
    let pipeline = roots.first().expect("one").id;
    let records: Vec<Record> = (0..INTENTS)
        .map(|number| {
            let source = PathBuf::from(format!("d{}/f{number}.log", number % 10));
            let temp = format!(".tidemill-{}-{number:08}.tmp", ledger.instance());
            let path = tree.path("out").join(format!("d{}", number % 10)).join(&temp);
            fs::write(&path, format!("output {number}")).expect("write");
            let identity = identity_of(&fs::File::open(&path).expect("open")).expect("look");
            let input = fs::File::open(tree.path("in").join(&source)).expect("open");
            let hash = *blake3::hash(format!("output {number}").as_bytes()).as_bytes();
            Record {
                id: ledger.session().next_id(),
                pipeline,
                identity: identity_of(&input).expect("look"),
                output: Some(Output {
                    path: source.with_extension("log.zst"),
                    temp: temp.into(),
                    identity,
                    hash,
                    source_hash: [0; 32],
                    replaces: None,
                    transforms: String::new(),
                    sha256: None,
                }),
                source,
                on_success: OnSuccess::Keep,
                state: State::Intent,
                reason: None,
                moved_to: None,
                at_ns: 0,
            }
        })
        .collect();
    ledger.append(&records, Flush::Now).expect("append");
}

#[test]
fn ten_thousand_unfinished_intents_are_recovered() {
    let mut tree = Tree::new();
    assert_eq!(tree.once("keep"), 0, "{}", tree.log());
    for number in 0..INTENTS {
        let path = format!("d{}/f{number}.log", number % 10);
        tree.put(&path, b"source");
        fs::create_dir_all(tree.path("out").join(format!("d{}", number % 10))).expect("directory");
    }
    unfinished(&tree);
    let ready = || tree.log().matches("phase=READY").count();
    let (before, start) = (ready(), Instant::now());
    let service = tree.start("keep", &[]);
    until("it is recovered", || tree.log().contains("recovery finished"));
    let took = start.elapsed();
    // A kill before that may leave the file that the start tries the output with.
    until("it is ready", || ready() > before);
    drop(service);
    let outputs = tree.files("out");
    assert_eq!(outputs.len(), INTENTS, "{}", tree.log());
    assert!(outputs.iter().all(|path| path.extension() == Some("zst".as_ref())));
    assert_eq!(tree.acknowledged().len(), INTENTS);
    assert_ne!(fs::metadata(tree.path("events")).expect("events").size(), 0);
    assert_eq!(outputs[0].parent(), Some(Path::new("d0")));
    prove::report("recovery", &[("intents", &INTENTS), ("milliseconds", &took.as_millis())]);
    // The figure is for a release on a quiet machine; this is for a test that runs with others.
    assert!(took < Duration::from_mins(1), "{took:?}");
}
