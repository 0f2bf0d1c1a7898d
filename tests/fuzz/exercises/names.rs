//! Names: bytes that anyone may choose, within what a name may have.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, sync::Arc};

use tempfile::TempDir;
use tidemill::{
    fs::{Dir, NodeId, Temp, is_internal_name, numbered_name, private_name},
    limits::NAME_BYTES_MAX,
    observe::display_path,
    source::local::reason_name,
    transforms::{Chain, compression::FORMATS},
};

use super::parameters;

thread_local! {
    /// Removed at the end of the thread, which a static would not be.
    static PLACE: (TempDir, Arc<Dir>) = {
        let place = tempfile::tempdir().expect("a directory");
        let dir = Arc::new(Dir::open(place.path()).expect("open"));
        (place, dir)
    };
}

/// An arbitrary name through everything that makes another of it.
pub fn names(data: &[u8]) {
    let (number, bytes) = parameters::<8>(data);
    let number = i64::from_le_bytes(number);
    let name = OsStr::from_bytes(bytes);
    shown_is_harmless_and_complete(name);
    own_names_are_distinguished(name, number);
    // A directory entry has neither of these, and not more bytes.
    if !bytes.is_empty()
        && bytes.len() <= NAME_BYTES_MAX
        && !bytes.contains(&b'/')
        && !bytes.contains(&0)
    {
        made_names_are_names(name, number);
    }
}

fn shown_is_harmless_and_complete(name: &OsStr) {
    let text = display_path(name).to_string();
    assert!(!text.chars().any(char::is_control), "{text:?} moves the cursor");
    assert!(!text.contains('\u{202e}') && !text.contains('\u{200b}'), "{text:?} misleads");
    assert_eq!(OsStr::from_bytes(&unshown(&text)), name, "{text:?} is of another name");
}

/// The bytes of a name that is shown so.
fn unshown(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let mut encoded = [0; 4];
        if letter != '\\' {
            bytes.extend_from_slice(letter.encode_utf8(&mut encoded).as_bytes());
            continue;
        }
        match letters.next().expect("an escape") {
            't' => bytes.push(b'\t'),
            'r' => bytes.push(b'\r'),
            'n' => bytes.push(b'\n'),
            '\\' => bytes.push(b'\\'),
            'x' => {
                let digits: String = letters.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&digits, 16).expect("two digits"));
            }
            'u' => {
                let digits: String =
                    letters.by_ref().skip(1).take_while(|letter| *letter != '}').collect();
                let code = u32::from_str_radix(&digits, 16).expect("digits");
                let letter = char::from_u32(code).expect("a letter");
                bytes.extend_from_slice(letter.encode_utf8(&mut encoded).as_bytes());
            }
            other => panic!("`\\{other}` is no escape"),
        }
    }
    bytes
}

fn own_names_are_distinguished(name: &OsStr, number: i64) {
    let (ours, another) = (NodeId::new("0badcafe"), NodeId::new("0badcaff"));
    if ours.is_temp(name) || ours.private_id(name).is_some() {
        assert!(
            is_internal_name(name) && !another.is_temp(name) && another.private_id(name).is_none()
        );
    }
    assert!(!(ours.is_temp(name) && ours.private_id(name).is_some()), "{name:?} is both");
    let private = private_name(&ours, number);
    assert!(
        private.len() <= NAME_BYTES_MAX && is_internal_name(&private) && !ours.is_temp(&private)
    );
    // Records are numbered from 1.
    if number > 0 {
        assert_eq!(ours.private_id(&private), Some(number));
        assert_eq!(another.private_id(&private), None);
    }
    // Only what we made is taken for ours.
    if let Some(id) = ours.private_id(name) {
        assert_eq!(private_name(&ours, id), name, "another name of record {id}");
    }
}

fn made_names_are_names(name: &OsStr, number: i64) {
    let number = u32::try_from(number.unsigned_abs() % (1 << 32)).expect("32 bits");
    for format in FORMATS {
        let extension = format!(".{}", format.extension());
        for tail in ["", &extension] {
            let made = numbered_name(name, number, tail, NAME_BYTES_MAX);
            assert!(made.len() <= NAME_BYTES_MAX && !made.is_empty(), "{made:?}");
            assert!(made.as_bytes().ends_with(tail.as_bytes()));
            assert_ne!(made, numbered_name(name, number.wrapping_add(1), tail, NAME_BYTES_MAX));
        }
        let compress: Chain = format.name().parse().expect("a step");
        let packed = compress.output_name(name);
        assert_eq!(packed.as_bytes(), [name.as_bytes(), extension.as_bytes()].concat());
        for undo in [format.inverse(), "decompress"] {
            let undo: Chain = undo.parse().expect("a step");
            assert_eq!(undo.output_name(&packed), name, "the name comes back");
            assert!(!undo.output_name(name).is_empty(), "no name is left");
        }
    }
    let reason = reason_name(name);
    assert!(reason.len() <= NAME_BYTES_MAX && reason.as_bytes().ends_with(b".json"));
    let dir = PLACE.with(|(_, dir)| Arc::clone(dir));
    let temp = Temp::create(&dir, &NodeId::new("0badcafe")).expect("a temporary file");
    assert!(temp.name().len() <= NAME_BYTES_MAX && NodeId::new("0badcafe").is_temp(temp.name()));
}
