//! Checks of values against each other: nested directories, duplicate names, memory.

use std::{io::ErrorKind, path::Path};

use super::{
    Config, Limits, Pipeline,
    age_keys::{self, AgeLocations},
    declare::Location,
    diagnostics::{DiagnosticKind, Diagnostics},
    keys::PipelineEntries,
    paths::is_in,
};
use crate::{display_path::shell_quoted, error::is_unavailable, patience, policy::OnSuccess};

/// Where the values of one pipeline were written.
#[derive(Debug)]
pub struct PipelineLocations {
    pub input: Location,
    pub output: Location,
    pub name: Location,
    pub transforms: Location,
    pub on_success: Location,
    pub quarantine: Location,
}

impl PipelineLocations {
    pub fn new(entries: &PipelineEntries, table: &Location) -> Self {
        let input = entries.input.location().unwrap_or_else(|| table.clone());
        let or_input = |at: Option<Location>| at.unwrap_or_else(|| input.clone());
        Self {
            output: or_input(entries.output.location()),
            name: or_input(entries.name.location()),
            transforms: or_input(entries.transforms.location()),
            on_success: or_input(entries.on_success.location()),
            quarantine: or_input(entries.quarantine.location()),
            input,
        }
    }
}

/// Where the values were written that a check can reject.
#[derive(Debug)]
pub struct Locations {
    pub pipelines: Vec<PipelineLocations>,
    pub state_at: Option<Location>,
    pub events_at: Option<Location>,
    pub age_at: AgeLocations,
}

/// Reports every combination that cannot work.
pub fn check(config: &Config, locations: &Locations, problems: &mut Diagnostics) {
    let pipelines: Vec<_> = config.pipelines.iter().zip(&locations.pipelines).collect();
    for (index, (pipeline, given)) in pipelines.iter().enumerate() {
        check_pipeline(pipeline, given, problems);
        check_memory(pipeline, config.limits, given, problems);
        age_keys::check_pipeline(pipeline, &config.age, &given.transforms, problems);
        for (other, _) in pipelines.iter().take(index) {
            check_pair(pipeline, other, given, problems);
        }
        for (other, _) in &pipelines {
            check_output_against_input(pipeline, other, given, problems);
            check_moved_sources(pipeline, other, given, problems);
        }
    }
    check_shared(config, locations, problems);
    age_keys::check(config, &locations.age_at, problems);
}

/// Checks what all pipelines share against each of them.
fn check_shared(config: &Config, locations: &Locations, problems: &mut Diagnostics) {
    let (state_at, events_at) = (locations.state_at.as_ref(), locations.events_at.as_ref());
    if state_at.is_some() {
        check_directory(&config.state_dir, "state directory", state_at, problems);
    }
    if config.events.as_ref().is_some_and(|events| events.is_dir()) {
        let message = "the events file is a directory";
        problems.add(events_at, message, Some("name a file in it, such as events.jsonl"));
    }
    if config.events.as_ref().is_some_and(|events| events.parent() == Some(Path::new("/"))) {
        let message =
            "the events file is in the root directory: the sandbox would have to allow all of it";
        problems.add(
            events_at,
            message,
            Some("give it a directory of its own, such as /var/lib/tidemill-events"),
        );
    }
    for Pipeline { input, .. } in &config.pipelines {
        // By default it is in the output, whose own check reports the error.
        if state_at.is_some() && is_in(&config.state_dir, input) {
            let message =
                format!("the state directory is inside the watched input {}", input.display());
            problems.add(state_at, message, Some("choose a directory outside the input"));
        }
        if config.events.as_ref().is_some_and(|events| is_in(events, input)) {
            let message = format!(
                "the events file is inside the watched input {}: it would be processed",
                input.display()
            );
            problems.add(events_at, message, Some("choose a directory outside the input"));
        }
    }
}

fn check_pipeline(pipeline: &Pipeline, given: &PipelineLocations, problems: &mut Diagnostics) {
    let Pipeline { input, output, .. } = pipeline;
    let looked = input.clone();
    match patience::within(input, move || std::fs::metadata(looked)) {
        // A directory that does not respond, or whose mount is broken, is no error of the configuration.
        None => {}
        Some(Err(error)) if is_unavailable(&error) => {}
        Some(Ok(found)) if found.is_dir() => {}
        Some(Ok(_)) => {
            let message = format!("the input {} is not a directory", input.display());
            let help = "use the directory of the file, and `include` for the file";
            problems.add(Some(&given.input), message, Some(help));
        }
        Some(Err(error)) => {
            let message = format!("the input {}: {error}", input.display());
            let help = format!("mkdir -p {}", shell_quoted(input));
            let kind = match error.kind() {
                ErrorKind::NotFound => DiagnosticKind::InputMissing,
                _ => DiagnosticKind::Other,
            };
            problems.add_kind(kind, Some(&given.input), message, Some(&help));
        }
    }
    check_directory(output, "output", Some(&given.output), problems);
    let nameless = matches!(&*pipeline.name, "" | "." | "..");
    if nameless || pipeline.name.contains(|one: char| one == '/' || one.is_control()) {
        let message = format!("`{}` cannot name a pipeline", pipeline.name.escape_debug());
        let help =
            "use a word such as `logs`: it is also the name of a directory in the quarantine";
        problems.add(Some(&given.name), message, Some(help));
    }
    if let Some(irreversible) = pipeline.transforms.irreversible().filter(|_| pipeline.keys.verify)
    {
        let message = format!("`verify` cannot decode the output of `{irreversible}`");
        let help = "leave out `verify`: it is for transforms that compress or copy, and decompression has the checksums of its format";
        problems.add(Some(&given.transforms), message, Some(help));
    }
    if let OnSuccess::Archive(archive) = &pipeline.on_success {
        check_directory(archive, "archive", Some(&given.on_success), problems);
        if archive == output {
            let message = "the archive is the output: a source could take the name of an output";
            let help = "choose a directory outside the output";
            problems.add(Some(&given.on_success), message, Some(help));
        }
    }
}

/// Checks that one file at a time fits into the memory.
fn check_memory(
    pipeline: &Pipeline,
    limits: Limits,
    given: &PipelineLocations,
    problems: &mut Diagnostics,
) {
    let limit = crate::limits::codec_bytes(limits.memory.bytes());
    let need = pipeline.memory_need(limit).of_large(1);
    if need > limit {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let message = format!(
            "`{}` needs up to {} MiB for one file, and `limits.memory` ({}) leaves {} MiB for codecs",
            pipeline.transforms,
            mib(need),
            limits.memory,
            limit >> 20
        );
        let help = "raise `limits.memory`, or choose a lower level";
        problems.add(Some(&given.transforms), message, Some(help));
    }
}

/// Warns where the least that the pipelines get, memory for one small and one large file each, is more
/// than the limit together.
pub fn memory_note(config: &Config) -> Option<String> {
    let limit = crate::limits::codec_bytes(config.limits.memory.bytes());
    let least = |pipeline: &Pipeline| {
        let need = pipeline.memory_need(limit);
        need.of_large(1) + need.bytes(0)
    };
    let needed: u64 = config.pipelines.iter().map(least).sum();
    (config.pipelines.len() > 1 && needed > limit).then(|| {
        format!(
            "`limits.memory` ({}) leaves {} MiB for codecs, but one small and one large file in each of the {} pipelines need up to {} MiB, which they always get: raise it, or choose lower levels",
            config.limits.memory,
            limit >> 20,
            config.pipelines.len(),
            needed.div_ceil(1 << 20)
        )
    })
}

/// Checks the directories that sources are moved to against every input.
fn check_moved_sources(
    pipeline: &Pipeline,
    other: &Pipeline,
    given: &PipelineLocations,
    problems: &mut Diagnostics,
) {
    let archive = match &pipeline.on_success {
        OnSuccess::Archive(dir) => Some((dir, "archive", &given.on_success)),
        OnSuccess::Keep | OnSuccess::Delete => None,
    };
    let quarantine = (pipeline.on_success != OnSuccess::Keep).then_some((
        &pipeline.quarantine,
        "quarantine",
        &given.quarantine,
    ));
    for (dir, what, at) in archive.into_iter().chain(quarantine) {
        // By default the quarantine is in the state directory, whose own check reports the error.
        let by_default = *at == given.input;
        if is_in(dir, &other.input) && !by_default {
            let message = format!(
                "the {what} {} is inside the watched input {}: files moved there would be processed again",
                dir.display(),
                other.input.display()
            );
            problems.add(Some(at), message, Some("choose a directory outside the input"));
        }
    }
}

/// Checks that a directory exists or can be created.
fn check_directory(dir: &Path, what: &str, at: Option<&Location>, problems: &mut Diagnostics) {
    let looked = dir.to_path_buf();
    let above = patience::within(dir, move || {
        let above = looked.ancestors().find(|above| above.exists());
        above.filter(|above| !above.is_dir()).map(Path::to_path_buf)
    });
    if let Some(file) = above.flatten() {
        let message =
            format!("the {what} {}: {} is not a directory", dir.display(), file.display());
        problems.add(at, message, Some("choose another directory"));
    }
}

/// Checks a pipeline against an earlier one.
fn check_pair(
    pipeline: &Pipeline,
    other: &Pipeline,
    given: &PipelineLocations,
    problems: &mut Diagnostics,
) {
    if pipeline.name == other.name {
        let message = format!("two pipelines have the name `{}`", pipeline.name);
        problems.add(Some(&given.name), message, Some("give each its own `name`"));
    }
    if is_in(&pipeline.input, &other.input) || is_in(&other.input, &pipeline.input) {
        let message =
            format!("the pipelines `{}` and `{}` watch the same files", other.name, pipeline.name);
        let help = "give each its own directory, neither inside the other";
        problems.add(Some(&given.input), message, Some(help));
    }
    let (ours, theirs) = (&pipeline.quarantine, &other.quarantine);
    let overlap = is_in(ours, theirs) || is_in(theirs, ours);
    // By default it has the name, which must differ.
    if overlap && pipeline.name != other.name {
        let message = format!(
            "the pipelines `{}` and `{}` share the quarantine {}: files of one name would be mixed up",
            other.name,
            pipeline.name,
            if is_in(ours, theirs) { theirs } else { ours }.display()
        );
        let help = "give each its own directory, neither inside the other";
        problems.add(Some(&given.quarantine), message, Some(help));
    }
    if pipeline.output == other.output {
        let message = format!(
            "the pipelines `{}` and `{}` write into the same directory",
            other.name, pipeline.name
        );
        problems.add(Some(&given.output), message, Some("give each its own sub-directory"));
    }
}

/// Checks an output against every input.
fn check_output_against_input(
    pipeline: &Pipeline,
    other: &Pipeline,
    given: &PipelineLocations,
    problems: &mut Diagnostics,
) {
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
    let sibling = input
        .with_file_name(format!("{}-out", input.file_name().unwrap_or_default().to_string_lossy()));
    let help = format!("choose another directory, such as {}", sibling.display());
    problems.add(Some(&given.output), message, Some(&help));
}
