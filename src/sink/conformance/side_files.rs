//! Side files.

use super::{
    super::{ErrorKind, Found, Precondition, Sink},
    Bench, INSTANCE, MODIFIED_NS, leave,
};
use crate::fingerprint::Fingerprint;

fn read(sink: &dyn Sink, target: &str) -> Option<Found> {
    sink.read(target.as_ref(), 4).expect("read")
}

pub fn a_side_file_is_written_next_to_its_output(bench: &impl Bench) {
    let sink = bench.open(INSTANCE);
    let output = leave(&*sink, "below/a", b"content");
    let write = |content: &[u8], precondition| {
        let side_file = ("below/a.side".as_ref(), content);
        sink.write_side_file(&output, side_file, precondition).map_err(|error| error.kind)
    };
    assert_eq!(read(&*sink, "below/a.side"), None);
    assert_eq!(read(&*sink, "elsewhere/a.side"), None);
    write(b"one", Precondition::Absent).expect("write");
    assert_eq!(write(b"two", Precondition::Absent), Err(ErrorKind::Taken));
    let found = read(&*sink, "below/a.side").expect("it is there");
    assert_eq!(found.content.as_deref(), Some(&b"one"[..]));
    assert_eq!(found.identity.mtime_ns, MODIFIED_NS);
    let other = Fingerprint { size: 4, ..found.identity };
    assert_eq!(write(b"two", Precondition::Unchanged(other)), Err(ErrorKind::Taken));
    write(b"three", Precondition::Unchanged(found.identity)).expect("replace");
    sink.sync_name("below/a.side".as_ref()).expect("durable");
    assert_eq!(bench.read("below/a.side").as_deref(), Some(&b"three"[..]));
    assert_eq!(read(&*sink, "below/a.side").expect("it is there").content, None, "it is long");
    assert_eq!(bench.staged(), 1, "the output alone");
}

pub fn a_side_file_is_removed_only_as_it_was_shown(bench: &impl Bench) {
    let sink = bench.open(INSTANCE);
    bench.put("a.side", b"one");
    let shown = read(&*sink, "a.side").expect("it is there").identity;
    bench.put("a.side", b"more");
    sink.remove_side_file("a.side".as_ref(), &shown).expect("nothing to do");
    assert_eq!(bench.read("a.side").as_deref(), Some(&b"more"[..]));
    let shown = read(&*sink, "a.side").expect("it is there").identity;
    for _ in 0..2 {
        sink.remove_side_file("a.side".as_ref(), &shown).expect("remove");
        assert_eq!(bench.read("a.side"), None);
    }
    sink.remove_side_file("elsewhere/a.side".as_ref(), &shown).expect("nothing to do");
}
