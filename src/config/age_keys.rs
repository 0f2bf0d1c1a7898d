//! Checks of the keys of `age` and `unage` against the pipelines.

use std::{path::Path, sync::Arc};

use super::{
    Config, Pipeline,
    declare::Location,
    diagnostics::Diagnostics,
    paths::{is_in, resolved},
};
use crate::{
    display_path::display_path,
    error, patience,
    transforms::age::{AgeKeys, KeyError},
};

/// Where the values of the table were written.
#[derive(Debug)]
pub struct AgeLocations {
    pub recipients: Option<Location>,
    pub recipients_file: Option<Location>,
    pub identity_file: Option<Location>,
}

/// Checks the key files, and that each pipeline has the keys that its transforms need.
pub fn check(config: &Config, locations: &AgeLocations, problems: &mut Diagnostics) {
    let keys = &config.age;
    if cfg!(not(feature = "age")) {
        if !keys.has_no_recipients() || keys.identity_file().is_some() {
            let help = "remove `[age]`, or build with `--features age`";
            problems.add(locations.any(), "this build does not support age", Some(help));
        }
        return;
    }
    let files = [
        (keys.recipients_file(), "recipients file", &locations.recipients_file),
        (keys.identity_file(), "identity file", &locations.identity_file),
    ];
    for (path, what, at) in files {
        if let Some(path) = path {
            check_place(config, path, (what, at.as_ref()), problems);
        }
    }
    if let Some(Err(error)) = with_identities(keys, AgeKeys::check_identities)
        && !error.is_temporary()
    {
        let help = "`age-keygen -o FILE` makes one with the right mode";
        problems.add(locations.identity_file.as_ref(), error::chain(&error), Some(help));
    }
}

impl AgeLocations {
    fn any(&self) -> Option<&Location> {
        let all = [&self.recipients, &self.recipients_file, &self.identity_file];
        all.into_iter().find_map(Option::as_ref)
    }
}

/// Looks at the file of identities; `None` if there is none, or it does not respond.
fn with_identities<T: Send + 'static>(
    keys: &Arc<AgeKeys>,
    look: fn(&AgeKeys) -> Result<T, KeyError>,
) -> Option<Result<T, KeyError>> {
    let path = keys.identity_file()?.to_path_buf();
    let keys = Arc::clone(keys);
    patience::within(&path, move || look(&keys))
}

/// A producer or a consumer may not replace keys, and the sandbox opens their directory.
fn check_place(
    config: &Config,
    path: &Path,
    (what, at): (&str, Option<&Location>),
    problems: &mut Diagnostics,
) {
    if path.parent() == Some(Path::new("/")) {
        let message = format!(
            "the {what} is in the root directory: the sandbox would have to allow all of it"
        );
        let help = "give it a directory of its own, such as /etc/tidemill/keys";
        problems.add(at, message, Some(help));
    }
    let real = resolved(path);
    let directories = config.pipelines.iter().flat_map(Pipeline::directories);
    let inside = directories.into_iter().find(|dir| is_in(path, dir) || is_in(&real, dir));
    if let Some(dir) = inside {
        let message = format!("the {what} {} is inside {}", display_path(path), display_path(dir));
        let help = "choose a directory outside of every input, output, archive and quarantine";
        problems.add(at, message, Some(help));
    }
}

/// Checks that a pipeline's transforms have their keys.
pub fn check_pipeline(
    pipeline: &Pipeline,
    keys: &Arc<AgeKeys>,
    at: &Location,
    problems: &mut Diagnostics,
) {
    let chain = &pipeline.transforms;
    let mut add = |message: &str, help| problems.add(Some(at), message, Some(help));
    if cfg!(not(feature = "age")) {
        if chain.encrypts() || chain.decrypts() {
            add("this build does not support age", "build with `--features age`");
        }
        return;
    }
    if chain.encrypts() && keys.has_no_recipients() {
        add(
            "`age` has no recipients",
            "write `recipients = [\"age1…\"]` below `[age]`, or name a file with `recipients_file`",
        );
    }
    if chain.decrypts() && keys.identity_file().is_none() {
        add("`unage` has no identities", "write `identity_file = \"FILE\"` below `[age]`");
    }
    if !pipeline.keys.verify || !chain.encrypts() {
        return;
    }
    let help =
        "name an `identity_file` of one of the recipients below `[age]`, or leave out `verify`";
    match with_identities(keys, AgeKeys::has_fitting_identity) {
        None if keys.identity_file().is_none() => {
            add("`verify` cannot decrypt the output of `age` without an identity", help);
        }
        Some(Ok(false)) => {
            add("`verify` cannot decrypt the output of `age`: no identity is of a recipient", help);
        }
        _ => {}
    }
}

/// Warns of a key file that cannot be read now: its pipelines pause until it can.
pub fn note(keys: &Arc<AgeKeys>) -> Option<String> {
    if cfg!(not(feature = "age")) {
        return None;
    }
    let of_recipients = keys.recipients_file().and_then(|path| {
        let reading = Arc::clone(keys);
        patience::within(path, move || reading.recipients().map(drop))
    });
    let of_identities = with_identities(keys, AgeKeys::check_identities);
    let mut errors = [of_recipients, of_identities].into_iter().flatten().filter_map(Result::err);
    let error = errors.find(KeyError::is_temporary)?;
    let error = error::chain(&error);
    Some(format!("`[age]`: {error}: pipelines that need it pause until it can be read"))
}
