//! What no single value shows: directories inside one another, names twice, other file systems.

use std::{
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use super::{
    Config, Pipeline,
    problems::Problems,
    written::{self, At, Options},
};
use crate::policy::OnSuccess;

/// Where the values of one pipeline were written.
#[derive(Debug)]
pub struct Given {
    pub input: At,
    pub output: At,
    pub name: At,
    pub on_success: At,
    pub quarantine: At,
    pub marker: At,
}

impl Given {
    pub fn of(options: &Options, file: &written::Pipeline) -> Self {
        let from_options = options.input.is_some();
        let place = |option, span| {
            if from_options { At::Option(option) } else { At::File(span) }
        };
        let input = place("INPUT", file.input.span());
        let or_input = |span: Option<std::ops::Range<usize>>| span.map_or(input.clone(), At::File);
        let span_of = |value: &written::Value<String>| value.as_ref().map(toml::Spanned::span);
        let on_success = match options.on_success {
            Some(_) => At::Option("--on-success"),
            None => or_input(span_of(&file.on_success)),
        };
        Self {
            output: place("OUTPUT", file.output.span()),
            name: or_input(span_of(&file.name)),
            on_success,
            quarantine: or_input(file.quarantine.as_ref().map(toml::Spanned::span)),
            marker: or_input(span_of(&file.marker)),
            input,
        }
    }
}

/// Where the values were written that a check may find wrong.
#[derive(Debug)]
pub struct Places {
    pub pipelines: Vec<Given>,
    pub state_at: Option<At>,
    pub events_at: Option<At>,
}

/// Every impossible combination.
pub fn check(config: &Config, places: &Places, problems: &mut Problems) {
    let pipelines: Vec<_> = config.pipelines.iter().zip(&places.pipelines).collect();
    for (index, (pipeline, given)) in pipelines.iter().enumerate() {
        one(pipeline, given, problems);
        for (other, _) in pipelines.iter().take(index) {
            two(pipeline, other, given, problems);
        }
        for (other, _) in &pipelines {
            across(pipeline, other, given, problems);
        }
    }
    for (pipeline, _) in &pipelines {
        // Where it is the output's by default, the output's own error tells it.
        if let Some(at) = &places.state_at
            && is_in(&config.state_dir, &pipeline.input)
        {
            let message = format!(
                "the state directory is inside the watched input {}",
                pipeline.input.display()
            );
            let help = "choose a directory beside the input";
            problems.add(Some(at), message, Some(help));
        }
        if config.events.as_ref().is_some_and(|events| is_in(events, &pipeline.input)) {
            let message = format!(
                "the events file is inside the watched input {}: it would be processed",
                pipeline.input.display()
            );
            problems.add(
                places.events_at.as_ref(),
                message,
                Some("choose a place beside the input"),
            );
        }
    }
}

fn one(pipeline: &Pipeline, given: &Given, problems: &mut Problems) {
    let Pipeline { input, output, .. } = pipeline;
    match std::fs::metadata(input) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            let message = format!("the input {} is not a directory", input.display());
            problems.add(Some(&given.input), message, None);
        }
        Err(error) => {
            let message = format!("the input {} cannot be used: {error}", input.display());
            let help = format!("it must be there before the start: mkdir -p '{}'", input.display());
            problems.add(Some(&given.input), message, Some(&help));
        }
    }
    if output.exists() && !output.is_dir() {
        let message = format!("the output {} is not a directory", output.display());
        problems.add(Some(&given.output), message, None);
    }
    if pipeline.name.is_empty() || pipeline.name.contains(['/', '\0']) {
        let message = format!("`{}` cannot name a pipeline", pipeline.name);
        problems.add(Some(&given.name), message, Some("a name is not empty and has no `/`"));
    }
    if pipeline.marker.as_ref().is_some_and(|marker| marker.is_empty() || marker.contains('/')) {
        let help = "a marker is the end of a name: `marker = \".done\"` takes `a.csv` once `a.csv.done` is there";
        problems.add(Some(&given.marker), "this cannot be the end of a name", Some(help));
    }
    let moved = [
        (
            match &pipeline.on_success {
                OnSuccess::Archive(dir) => Some(dir.as_path()),
                OnSuccess::Keep | OnSuccess::Delete => None,
            },
            "archive",
            &given.on_success,
        ),
        (
            (pipeline.on_success != OnSuccess::Keep).then_some(pipeline.quarantine.as_path()),
            "quarantine",
            &given.quarantine,
        ),
    ];
    if let [(Some(archive), ..), _] = moved
        && device(archive).zip(device(input)).is_some_and(|(one, other)| one != other)
    {
        let message = format!(
            "the archive {} is on another file system than the input: a source could not be renamed into it",
            archive.display()
        );
        let help = "choose a directory on the input's file system, or `delete`, or `keep`";
        problems.add(Some(&given.on_success), message, Some(help));
    }
    for (dir, what, at) in moved {
        let Some(dir) = dir else { continue };
        if is_in(dir, input) {
            let message = format!(
                "the {what} {} is inside the watched input: what is moved there would be taken in again",
                dir.display()
            );
            problems.add(Some(at), message, Some("choose a directory beside the input"));
        }
    }
}

/// One pipeline against one before it.
fn two(pipeline: &Pipeline, other: &Pipeline, given: &Given, problems: &mut Problems) {
    if pipeline.name == other.name {
        let message = format!("two pipelines are called `{}`", pipeline.name);
        problems.add(Some(&given.name), message, Some("give each a `name` of its own"));
    }
    if is_in(&pipeline.input, &other.input) || is_in(&other.input, &pipeline.input) {
        let message =
            format!("the pipelines `{}` and `{}` watch the same files", other.name, pipeline.name);
        let help = "give each a directory of its own, neither inside the other";
        problems.add(Some(&given.input), message, Some(help));
    }
    if pipeline.output == other.output {
        let message = format!(
            "the pipelines `{}` and `{}` write into the same directory",
            other.name, pipeline.name
        );
        problems.add(Some(&given.output), message, Some("give each a sub-directory of its own"));
    }
}

/// An output against every input.
fn across(pipeline: &Pipeline, other: &Pipeline, given: &Given, problems: &mut Problems) {
    let (output, input) = (&pipeline.output, &other.input);
    let relation = if output == input {
        "is"
    } else if is_in(output, input) {
        "is inside"
    } else if is_in(input, output) {
        "contains"
    } else {
        return;
    };
    let message =
        format!("the output {} {relation} the watched input {}", output.display(), input.display());
    let beside = input
        .with_file_name(format!("{}-out", input.file_name().unwrap_or_default().to_string_lossy()));
    let help = format!("choose a directory beside it, such as {}", beside.display());
    problems.add(Some(&given.output), message, Some(&help));
}

fn is_in(path: &Path, dir: &Path) -> bool {
    !dir.as_os_str().is_empty() && path.starts_with(dir)
}

fn device(path: &Path) -> Option<u64> {
    path.ancestors().find_map(|above| std::fs::metadata(above).ok()).map(|found| found.dev())
}

/// An absolute path without symbolic links, `.` and `..`, as far as it exists.
pub fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for above in absolute.ancestors() {
        if let Ok(real) = above.canonicalize() {
            let below = absolute.strip_prefix(above).unwrap_or(Path::new(""));
            return below.components().fold(real, |mut path, component| {
                match component {
                    Component::ParentDir => {
                        path.pop();
                    }
                    Component::CurDir => {}
                    other => path.push(other),
                }
                path
            });
        }
    }
    absolute
}
