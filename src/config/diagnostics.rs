//! The errors of a configuration, each with its location and what to write instead.

use std::{fmt, ops::Range, path::PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::declare::Location;

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiagnosticKind {
    /// An input does not exist: it may on another machine, or later.
    InputMissing,
    Other,
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub kind: DiagnosticKind,
    /// None where a value is missing.
    pub at: Option<Location>,
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// All errors, and the file they were found in. `Display` is the report for a person.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    /// The file's path as it was given, and its text.
    pub file: Option<(PathBuf, String)>,
    pub all: Vec<Diagnostic>,
    /// Whether values of options are all that is wrong.
    pub is_usage: bool,
}

impl std::error::Error for Diagnostics {}

impl Diagnostics {
    pub fn add(&mut self, at: Option<&Location>, message: impl Into<String>, help: Option<&str>) {
        self.add_kind(DiagnosticKind::Other, at, message, help);
    }

    pub(super) fn add_kind(
        &mut self,
        kind: DiagnosticKind,
        at: Option<&Location>,
        message: impl Into<String>,
        help: Option<&str>,
    ) {
        let (at, message, help) = (at.cloned(), message.into(), help.map(str::to_owned));
        let (message, help) = (without_secrets(&message), help.as_deref().map(without_secrets));
        self.all.push(Diagnostic { kind, at, message, help });
    }

    /// Sets the file, whose lines the report shows.
    pub(super) fn set_file(&mut self, path: PathBuf, text: &str) {
        self.file = Some((path, without_secrets(text)));
    }

    /// Checks whether values of options are all that was found until now.
    pub(super) fn are_of_options(&self) -> bool {
        let is_option = |one: &Diagnostic| match one.at {
            Some(Location::Option(_)) => true,
            Some(Location::File(_)) => false,
            None => self.file.is_none(),
        };
        !self.all.is_empty() && self.all.iter().all(is_option)
    }

    /// Sorts by position in the file; errors without one come first.
    pub(super) fn sort(&mut self) {
        self.all.sort_by_key(|problem| match &problem.at {
            Some(Location::File(span)) => span.start + 1,
            Some(Location::Option(_)) | None => 0,
        });
    }

    /// The report, in colour for a terminal.
    #[must_use]
    pub fn report(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let reports: Vec<_> = self.all.iter().map(|one| self.render(one, &renderer)).collect();
        reports.join("\n\n")
    }

    fn render(&self, problem: &Diagnostic, renderer: &Renderer) -> String {
        let Diagnostic { at, message, help, .. } = problem;
        let title = match at {
            Some(Location::Option(option)) => format!("{option}: {message}"),
            _ => message.clone(),
        };
        let mut report = Vec::new();
        let group = Level::ERROR.primary_title(title.as_str());
        report.push(match (at, &self.file) {
            (Some(Location::File(span)), Some((path, text))) => {
                let span = within(span, text);
                group.element(
                    Snippet::source(text.as_str())
                        .path(path.to_string_lossy().into_owned())
                        .annotation(AnnotationKind::Primary.span(span)),
                )
            }
            _ => Group::with_title(group),
        });
        if let Some(help) = help {
            report.push(Group::with_title(Level::HELP.secondary_title(help.as_str())));
        }
        renderer.render(&report)
    }
}

/// Returns the text with asterisks for every secret key of age, at the same length: one that was written into
/// the configuration by mistake would be in the log of a refused reload.
fn without_secrets(text: &str) -> String {
    const PREFIX: &str = "AGE-SECRET-KEY-";
    let mut masked = text.to_owned();
    // The case of ASCII letters changes no length.
    let upper = text.to_ascii_uppercase();
    for (begin, _) in upper.match_indices(PREFIX) {
        let begin = begin + PREFIX.len();
        let key = upper.get(begin..).unwrap_or_default();
        let is_of_key = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        let length = key.find(|letter| !is_of_key(letter)).unwrap_or(key.len());
        masked.replace_range(begin..begin + length, &"*".repeat(length));
    }
    masked
}

/// Clips a span to the text: the parser may report one beyond its end.
fn within(span: &Range<usize>, text: &str) -> Range<usize> {
    let end = span.end.min(text.len());
    span.start.min(end)..end
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_no_secret_key() {
        let line = "recipients = [\"age-secret-key-1QQQ\", 'AGE-SECRET-KEY-1PQ9']\n";
        let mut problems = Diagnostics::default();
        problems.set_file("t.toml".into(), line);
        let at = Location::File(14..36);
        problems.add(Some(&at), "`AGE-SECRET-KEY-1ABC` is wrong", Some("not AGE-SECRET-KEY-PQ-1D"));
        let report = problems.report(false);
        assert!(report.contains("`AGE-SECRET-KEY-****` is wrong"), "{report}");
        for secret in ["1QQQ", "1PQ9", "1ABC", "1D"] {
            assert!(!report.contains(secret), "{secret}\n{report}");
        }
    }
}
