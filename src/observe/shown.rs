//! Names of files, for people to read.

use std::{
    fmt::{self, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
};

/// A path with everything escaped that could move a terminal's cursor or end a line: names are
/// bytes that anyone may choose.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(&'a Path);

/// Shows a path.
#[must_use]
pub fn shown<P: AsRef<Path> + ?Sized>(path: &P) -> Shown<'_> {
    Shown(path.as_ref())
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_os_str().as_bytes().utf8_chunks() {
            for letter in chunk.valid().chars() {
                if letter.is_control() || is_invisible(letter) {
                    write!(f, "{}", letter.escape_default())?;
                } else {
                    f.write_char(letter)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Marks that turn the direction of text, or have no shape: they make a name look like another.
const fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_fool_a_terminal_is_escaped() {
        let name = std::ffi::OsStr::from_bytes(b"caf\xc3\xa9\n\x1b[2J\xff");
        assert_eq!(shown(name).to_string(), "café\\n\\u{1b}[2J\\xff");
        assert_eq!(shown("a\u{202e}gpj.exe").to_string(), "a\\u{202e}gpj.exe");
    }
}
