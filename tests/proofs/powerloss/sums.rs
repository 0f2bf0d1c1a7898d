//! The checksum files of outputs, before and after a recovery.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use sha2::Digest;

use crate::powerloss::check::{Seen, Violation};

/// Splits checksum files off: by the paths of their outputs.
pub fn split_off(files: &mut BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<PathBuf, Vec<u8>> {
    let is_sum = |path: &PathBuf| path.to_string_lossy().ends_with(".sha256");
    let sums = files.extract_if(.., |path, _| is_sum(path));
    sums.map(|(path, content)| (path.with_extension(""), content)).collect()
}

/// What `sha256sum` prints for a file with this content.
pub fn line(path: &Path, content: &[u8]) -> Vec<u8> {
    let name = path.file_name().expect("a name").to_string_lossy();
    let digest = sha2::Sha256::digest(content);
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digest: String = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
    format!("{digest}  {name}\n").into_bytes()
}

/// The acknowledged outputs that are there without a checksum file. One that is being replaced has that of
/// its next version already.
pub fn alone<'a>(
    before: &Seen,
    acknowledged: impl IntoIterator<Item = &'a Path>,
) -> Vec<Violation> {
    let is_alone =
        |path: &&Path| before.output.contains_key(*path) && !before.sums.contains_key(*path);
    let alone = acknowledged.into_iter().filter(is_alone);
    alone.map(|path| format!("without a checksum file: {}", path.display())).collect()
}

/// The outputs, other programs' apart, whose checksum files are missing or wrong.
pub fn wrong(after: &Seen, foreign: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<Violation> {
    let is_foreign = |path: &PathBuf| {
        let content = after.output.get(path).and_then(|content| content.as_ref().ok());
        content.is_some() && foreign.get(path) == content
    };
    let is_wrong = |path: &PathBuf, expected| after.sums.get(path) != Some(expected);
    let outputs = after.expected_sums.iter();
    let wrong = outputs.filter(|(path, line)| !is_foreign(path) && is_wrong(path, line));
    wrong.map(|(path, _)| format!("wrong checksum file: {}", path.display())).collect()
}
