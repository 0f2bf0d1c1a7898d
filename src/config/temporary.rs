//! Names that producers use for files they have not finished.
//!
//! Temporary names without a recognizable form, such as `sedR4nd0m` of `sed -i` or vim's `4913`, are
//! not listed: the quiet time after the close and the check of the source's name before its output is
//! published skip those.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

/// Case is ignored. Each pattern has one `*`, which stands for any characters.
const PATTERNS: [&str; 15] = [
    // Hidden files and directories, and with them the temporary names of rsync (`.NAME.XXXXXX`,
    // `.~tmp~/`), lftp (`.in.NAME`), sftpgo, Syncthing, GIO (`.goutputstream-XXXXXX`) and vim.
    ".*",
    "*~",
    "~$*",
    "#*#",
    "*.part",
    "*.partial",
    "*.filepart",
    "*.tmp",
    "*.temp",
    "*.swp",
    "*.swo",
    "*.swx",
    "*.crdownload",
    "*.download",
    "*.opdownload",
];

/// The component of this path that is a temporary name, and the pattern it matches.
#[must_use]
pub fn temporary_name(relative: &Path) -> Option<(&OsStr, &'static str)> {
    relative.iter().find_map(|name| {
        let matched = PATTERNS.iter().find(|pattern| matches(name.as_bytes(), pattern))?;
        Some((name, *matched))
    })
}

/// All patterns, separated by blanks.
#[must_use]
pub fn temporary_patterns() -> String {
    PATTERNS.join(" ")
}

fn matches(name: &[u8], pattern: &str) -> bool {
    let (begin, end) = pattern.split_once('*').unwrap_or((pattern, ""));
    let (begin, end) = (begin.as_bytes(), end.as_bytes());
    let Some(rest) = name.len().checked_sub(begin.len() + end.len()) else { return false };
    let (first, last) = (name.get(..begin.len()), name.get(begin.len() + rest..));
    first.is_some_and(|first| first.eq_ignore_ascii_case(begin))
        && last.is_some_and(|last| last.eq_ignore_ascii_case(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_unfinished_files_are_known_by_their_pattern() {
        for (path, pattern) in [
            (".r1077.csv.wb6gbi", ".*"),
            (".~tmp~/a.csv", ".*"),
            ("x/.git/HEAD", ".*"),
            (".goutputstream-AB12CD", ".*"),
            (".sftpgo-upload.cb1.a.csv", ".*"),
            (".in.a.csv", ".*"),
            ("notes.txt~", "*~"),
            ("~$report.docx", "~$*"),
            ("#notes#", "#*#"),
            ("a.csv.filepart", "*.filepart"),
            ("A.CSV.PART", "*.part"),
            ("a.csv.aB3.partial", "*.partial"),
            ("movie.crdownload", "*.crdownload"),
            ("page.download/a.html", "*.download"),
            ("a.tmp", "*.tmp"),
        ] {
            let found = temporary_name(path.as_ref()).map(|(_, pattern)| pattern);
            assert_eq!(found, Some(pattern), "{path}");
        }
    }

    #[test]
    fn names_of_finished_files_are_not() {
        for path in
            ["a", "a.csv", "part", "a.parts", "tmp/a", "x.y/z", "sediment", "#1", "~a", "a.b"]
        {
            assert_eq!(temporary_name(path.as_ref()), None, "{path}");
        }
    }
}
