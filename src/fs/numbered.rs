//! Numbered names, for names that are taken.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
};

/// Returns `NAME.NUMBER` with a `tail`, for a name that is taken; the name is cut if the result
/// would have more than `max_bytes` bytes.
#[must_use]
pub fn numbered_name(name: &OsStr, number: u32, tail: &str, max_bytes: usize) -> OsString {
    let tail = format!(".{number}{tail}");
    let name = name.as_bytes();
    let kept = name.get(..max_bytes.saturating_sub(tail.len())).unwrap_or(name);
    OsString::from_vec([kept, tail.as_bytes()].concat())
}

/// Returns a free name of `NAME.1`, `NAME.2`, … It doubles the number until one is free, then
/// halves the distance to the last taken one: frequent names cost few looks. If names in between
/// were removed it may not be the lowest, and another process may take it before it is used.
pub fn free_number(
    name: &OsStr,
    tail: &str,
    max_bytes: usize,
    is_free: impl FnMut(&OsStr) -> io::Result<bool>,
) -> io::Result<OsString> {
    let free = find_free(name, tail, max_bytes, is_free)?;
    Ok(numbered_name(name, free, tail, max_bytes))
}

/// Returns the one of `NAME` and the latest numbered names for which `is_wanted` returns true: the name that
/// an interrupted call gave.
pub fn latest_number(
    name: &OsStr,
    max_bytes: usize,
    is_free: impl FnMut(&OsStr) -> io::Result<bool>,
    mut is_wanted: impl FnMut(&OsStr) -> io::Result<bool>,
) -> io::Result<Option<OsString>> {
    let free = find_free(name, "", max_bytes, is_free)?;
    let numbers = (free.saturating_sub(LATEST).max(1)..free).rev();
    let numbered = numbers.map(|number| numbered_name(name, number, "", max_bytes));
    for name in numbered.chain([name.to_owned()]) {
        if is_wanted(&name)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The numbered names that are searched for an interrupted call. Later calls took few more.
const LATEST: u32 = 16;

fn find_free(
    name: &OsStr,
    tail: &str,
    max_bytes: usize,
    mut is_free: impl FnMut(&OsStr) -> io::Result<bool>,
) -> io::Result<u32> {
    let (mut taken, mut free) = (0_u32, 1_u32);
    while !is_free(&numbered_name(name, free, tail, max_bytes))? {
        taken = free;
        free = free.checked_mul(2).ok_or(io::ErrorKind::AlreadyExists)?;
    }
    while free - taken > 1 {
        let middle = taken + (free - taken) / 2;
        if is_free(&numbered_name(name, middle, tail, max_bytes))? {
            free = middle;
        } else {
            taken = middle;
        }
    }
    Ok(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_number_is_found_in_few_looks() {
        for taken in [0_usize, 1, 2, 3, 7, 200_000] {
            let mut looks = 0;
            let found = free_number("a".as_ref(), ".zst", 255, |name| {
                looks += 1;
                let number = name.to_str().and_then(|name| name.split('.').nth(1));
                Ok(number.and_then(|number| number.parse::<usize>().ok()).expect("number") > taken)
            });
            assert_eq!(found.expect("found"), *format!("a.{}.zst", taken + 1));
            assert!(looks < 40, "{looks} looks for {taken}");
        }
    }

    #[test]
    fn the_name_of_an_interrupted_call_is_found_though_others_came_and_went() {
        let find = |there: &[&str], wanted: &str| {
            let is_free = |name: &OsStr| Ok(!there.iter().any(|there| *there == name));
            let is_wanted = |name: &OsStr| Ok(name == wanted && there.contains(&wanted));
            latest_number("f".as_ref(), 255, is_free, is_wanted).expect("found")
        };
        let there = ["f", "f.1", "f.2", "f.3", "f.4"];
        for wanted in there {
            assert_eq!(find(&there, wanted), Some(wanted.into()));
        }
        assert_eq!(find(&["f.1"], "f.1"), Some("f.1".into()), "the first name was removed");
        assert_eq!(find(&[], "f"), None);
    }
}
