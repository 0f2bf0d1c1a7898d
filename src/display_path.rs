//! File names and text of others, made safe for terminals and shells.

use std::{
    fmt::{self, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
};

/// A path with everything escaped that could move a terminal's cursor or end a line: anyone may choose
/// the bytes of a name. Two different paths never look the same, except for letters of the same shape.
#[derive(Clone, Copy, Debug)]
pub struct EscapedPath<'a>(&'a Path);

/// Displays a path with escapes.
#[must_use]
pub fn display_path<P: AsRef<Path> + ?Sized>(path: &P) -> EscapedPath<'_> {
    EscapedPath(path.as_ref())
}

impl fmt::Display for EscapedPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_os_str().as_bytes().utf8_chunks() {
            for letter in chunk.valid().chars() {
                if letter.is_control() || letter == '\\' || is_invisible(letter) {
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

/// Escapes text of others, such as a reason, where it could move a terminal's cursor or end a line.
/// Names in it that went through [`display_path`] do not change.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || is_invisible(letter) {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// Quotes a path as one word of a shell's command line, whatever its bytes: the shell runs no part of
/// it. A name with bytes that a terminal does not show is written as `$'…'`, as bash and zsh accept it.
#[must_use]
pub fn shell_quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let plain = |text: &&str| !text.chars().any(|c| c.is_control() || is_invisible(c));
    if let Some(text) = std::str::from_utf8(bytes).ok().filter(plain) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut word = "$'".to_owned();
    for &byte in bytes {
        match byte {
            b'\'' | b'\\' => word.extend(['\\', char::from(byte)]),
            b' '..=b'~' => word.push(char::from(byte)),
            _ => word += &format!("\\{byte:03o}"),
        }
    }
    word.push('\'');
    word
}

/// Returns whether a character changes the direction of text or has no shape, and so makes a name look
/// like another.
const fn is_invisible(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_control_sequences_are_escaped() {
        let name = std::ffi::OsStr::from_bytes(b"caf\xc3\xa9\n\x1b[2J\xff");
        assert_eq!(display_path(name).to_string(), "café\\n\\u{1b}[2J\\xff");
        assert_eq!(display_path("a\u{202e}gpj.exe").to_string(), "a\\u{202e}gpj.exe");
    }

    #[test]
    fn a_shell_reads_a_quoted_path_as_one_word_and_runs_no_part_of_it() {
        let names: [&[u8]; 6] = [
            b"/in/a'; touch pwned; '.gz",
            b"/in/plain",
            b"/in/$(id) `id` \\ \"x\"",
            b"/in/\x1b[2J\n'\\7",
            b"/in/\xff0 caf\xc3\xa9",
            "/in/a\u{202e}gpj.exe".as_bytes(),
        ];
        for name in names {
            let word = shell_quoted(Path::new(std::ffi::OsStr::from_bytes(name)));
            assert!(!word.chars().any(|c| c.is_control() || is_invisible(c)), "{word}");
            let script = format!("printf %s {word}");
            let output = std::process::Command::new("bash").args(["-c", &script]).output();
            let output = output.expect("bash exists");
            assert_eq!(output.stdout, name, "{word}");
        }
    }

    #[test]
    fn text_of_others_is_escaped_once() {
        assert_eq!(escaped("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
        let name = display_path("a\n").to_string();
        assert_eq!(escaped(&name), name);
    }

    #[test]
    fn a_name_that_looks_like_an_escape_is_displayed_differently() {
        assert_eq!(display_path("a\n").to_string(), r"a\n");
        assert_eq!(display_path(r"a\n").to_string(), r"a\\n");
    }
}
