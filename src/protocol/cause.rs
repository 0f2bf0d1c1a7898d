//! The cause of an outcome: its reason without the names of its file, which stand next to it.

use std::path::Path;

use crate::{
    ledger::Record,
    observe::{display_path, escaped},
    reason::ReasonCode,
};

/// Files that failed alike have the same cause.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutcomeCause {
    pub code: ReasonCode,
    /// Without control characters.
    pub text: String,
}

impl OutcomeCause {
    /// Returns the cause of a record, if it has a reason; the directories are those of its pipeline.
    #[must_use]
    pub fn of(record: &Record, input: &Path, output: &Path) -> Option<Self> {
        let reason = record.reason.as_ref()?;
        let shown = |path: &Path| display_path(path).to_string();
        let source = shown(&input.join(&record.source));
        let output = record.output.as_ref().map(|made| shown(&output.join(&made.path)));
        let text = without_names(&reason.text, &source, output.as_deref());
        Some(Self { code: reason.code, text: escaped(&text) })
    }
}

fn without_names(reason: &str, source: &str, output: Option<&str>) -> String {
    let cause = reason.strip_prefix("cannot transform ").and_then(|rest| rest.strip_prefix(source));
    if let Some(cause) = cause.and_then(|rest| rest.strip_prefix(": ")) {
        return cause.to_owned();
    }
    // The longer path first: one may begin with the other.
    let mut names = vec![(source, "the source")];
    names.extend(output.map(|output| (output, "the output")));
    names.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    names.iter().fold(reason.to_owned(), |text, (path, name)| text.replace(path, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_repeats_no_name_that_stands_next_to_it() {
        for (reason, wanted) in [
            ("cannot transform /in/a: gunzip: invalid header", "gunzip: invalid header"),
            ("cannot read /in/a: Input/output error", "cannot read the source: Input/output error"),
            (
                "/in/a.zst exists, and the policy is `fail`",
                "the output exists, and the policy is `fail`",
            ),
            ("the ledger's disk is full", "the ledger's disk is full"),
        ] {
            assert_eq!(without_names(reason, "/in/a", Some("/in/a.zst")), wanted);
        }
    }
}
