//! What is wrong with a configuration: every error, with its place and what to write instead.

use std::{fmt, ops::Range, path::PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::written::At;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// None where a value is missing as a whole.
    pub at: Option<At>,
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// Everything that is wrong, and the file it was read from. `Display` is the report for a person.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    /// The file's path as given, and its text.
    pub file: Option<(PathBuf, String)>,
    pub all: Vec<Problem>,
}

impl std::error::Error for Problems {}

impl Problems {
    pub fn add(&mut self, at: Option<&At>, message: impl Into<String>, help: Option<&str>) {
        let (at, message) = (at.cloned(), message.into());
        self.all.push(Problem { at, message, help: help.map(str::to_owned) });
    }

    /// The options first, then the file from top to bottom, then what is missing as a whole.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        self.all.sort_by_key(|problem| match &problem.at {
            Some(At::Option(_)) => (0, 0),
            Some(At::File(span)) => (1, span.start),
            None => (2, 0),
        });
        self
    }

    fn render(&self, problem: &Problem, renderer: &Renderer) -> String {
        let Problem { at, message, help } = problem;
        let title = match at {
            Some(At::Option(option)) => format!("{option}: {message}"),
            _ => message.clone(),
        };
        let mut report = Vec::new();
        let group = Level::ERROR.primary_title(title.as_str());
        report.push(match (at, &self.file) {
            (Some(At::File(span)), Some((path, text))) => {
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

/// A span that lies in the text, whatever the parser said.
fn within(span: &Range<usize>, text: &str) -> Range<usize> {
    let end = span.end.min(text.len());
    span.start.min(end)..end
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer = Renderer::plain();
        for (index, problem) in self.all.iter().enumerate() {
            let between = if index == 0 { "" } else { "\n\n" };
            write!(f, "{between}{}", self.render(problem, &renderer))?;
        }
        Ok(())
    }
}
