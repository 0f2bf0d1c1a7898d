//! Markers of finished files.

use std::path::Path;

use super::{
    super::{Disposal, End, TakeRequest, TakeResult},
    bench::{ARCHIVE, Bench},
    disposal, identity, paths, request, take,
};

pub fn a_marker_ends_like_its_source_unless_another_file_has_the_name(bench: &impl Bench) {
    let (source, root) = (bench.open(), bench.outside(ARCHIVE));
    let finish = |path: &str, end: End<'_>| {
        let disposal = Disposal { marker: Some(".done"), ..disposal(end) };
        take(&*source, path).finish(&disposal).expect("finish");
    };
    for name in ["removed", "archived"] {
        bench.put(name, "");
        bench.put(&format!("{name}.done"), "");
    }
    bench.put("unmarked", "");
    finish("unmarked", End::Removed);
    finish("removed", End::Removed);
    finish("archived", End::Archived { root: &root, path: "archived".as_ref() });
    assert_eq!(paths(&bench.files()), ["/archive/archived", "/archive/archived.done"]);
    bench.put("a", "content");
    bench.put("a.done", "");
    let held = take(&*source, "a");
    bench.put("a", "next");
    let disposal = Disposal { marker: Some(".done"), ..disposal(End::Removed) };
    held.finish(&disposal).expect("finish");
    assert_eq!(paths(&bench.files())[2..], ["a", "a.done"]);
}

pub fn a_marker_made_since_the_source_was_taken_stays(bench: &impl Bench) {
    let (source, root) = (bench.open(), bench.outside(ARCHIVE));
    for end in [End::Removed, End::Archived { root: &root, path: "a".as_ref() }] {
        bench.put("a", "content");
        bench.put("a.done", "");
        let read = identity(&*source, "a");
        let wanted = TakeRequest { marker: Some(".done"), ..request("a", &read) };
        let TakeResult::Taken(held) = source.take(&wanted).expect("take") else {
            panic!("not taken");
        };
        // Its producer is about to deliver the next file.
        bench.remove("a.done");
        bench.put("a.done", "of the next file");
        let disposal = Disposal { marker: Some(".done"), ..disposal(end) };
        held.finish(&disposal).expect("finish");
        let files = bench.files();
        assert!(files.contains_key(Path::new("a.done")), "{end:?}: {files:?}");
        bench.remove("a.done");
    }
}
