//! The hooks of a user: commands and webhooks, with their bounds.

use std::{os::unix::fs::PermissionsExt, path::Path};

use super::{
    declare::{Entry, Located, RawHook},
    keys::{HooksEntries, HooksKeys, HooksOptions, RawHooks},
    load::Resolver,
};
use crate::policy::HookKind;

/// The configured hooks and the limits of their runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Hooks {
    pub on_start: Option<Hook>,
    pub on_published: Option<Hook>,
    pub on_failed: Option<Hook>,
    pub on_overdue: Option<Hook>,
    pub on_drained: Option<Hook>,
    /// The keys that follow from their kinds.
    pub keys: HooksKeys,
}

/// What a hook runs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Hook {
    /// The program, by its absolute path, and its arguments.
    Command(Vec<String>),
    /// The URL of a POST.
    Post(String),
}

impl Hooks {
    /// The hooks that are configured.
    pub fn iter(&self) -> impl Iterator<Item = (HookKind, &Hook)> {
        let of = |kind| Some((kind, self.of(kind)?));
        HookKind::ALL.iter().copied().filter_map(of)
    }

    #[must_use]
    pub const fn of(&self, kind: HookKind) -> Option<&Hook> {
        match kind {
            HookKind::OnStart => self.on_start.as_ref(),
            HookKind::OnPublished => self.on_published.as_ref(),
            HookKind::OnFailed => self.on_failed.as_ref(),
            HookKind::OnOverdue => self.on_overdue.as_ref(),
            HookKind::OnDrained => self.on_drained.as_ref(),
        }
    }
}

impl Resolver {
    pub(super) fn hooks(&mut self, mut file: RawHooks, options: &HooksOptions) -> Hooks {
        let HooksEntries { on_start, on_published, on_failed, on_overdue, on_drained } =
            file.entries(options);
        Hooks {
            on_start: self.hook(on_start),
            on_published: self.hook(on_published),
            on_failed: self.hook(on_failed),
            on_overdue: self.hook(on_overdue),
            on_drained: self.hook(on_drained),
            keys: file.values(options, self),
        }
    }

    fn hook(&mut self, entry: Entry<RawHook>) -> Option<Hook> {
        let Located { value, at } = entry.written?;
        let (hook, wrong) = match value {
            RawHook::Command(command) => {
                let wrong = wrong_with_command(&command);
                (Hook::Command(command), wrong)
            }
            RawHook::Post { url } => {
                let wrong = wrong_with_url(&url);
                (Hook::Post(url), wrong)
            }
        };
        if let Some((message, help)) = wrong {
            self.problems.add(Some(&at), message, Some(&help));
            return None;
        }
        Some(hook)
    }
}

/// Checks a command; no shell and no search path are involved.
pub(super) fn wrong_with_command(command: &[String]) -> Option<(String, String)> {
    let program = command.first().map(Path::new)?;
    let shown = program.display();
    if command.iter().any(|word| word.contains('\0')) {
        return Some(("an argument contains a NUL byte".to_owned(), "remove it".to_owned()));
    }
    if !program.is_absolute() {
        let message = format!("the program `{shown}` is not an absolute path");
        let help = "no shell runs it and no search path is used: write `[\"/usr/bin/program\", \"argument\"]`";
        return Some((message, help.to_owned()));
    }
    match std::fs::metadata(program) {
        Err(error) => Some((format!("the program {shown}: {error}"), "install it".to_owned())),
        Ok(found) if !found.is_file() || found.permissions().mode() & 0o111 == 0 => {
            let message = format!("{shown} is not an executable file");
            Some((message, format!("chmod +x '{shown}'")))
        }
        Ok(_) => None,
    }
}

fn wrong_with_url(url: &str) -> Option<(String, String)> {
    let help = "a URL is written `http://127.0.0.1:8080/path`".to_owned();
    let Ok(parsed) = url.parse::<hyper::Uri>() else {
        return Some((format!("`{}` is not a URL", url.escape_debug()), help));
    };
    match (parsed.scheme_str(), parsed.authority()) {
        (Some("http"), Some(authority)) if authority.as_str().contains('@') => {
            let help = "use a command such as `[\"/usr/bin/curl\", \"--netrc\", …]`".to_owned();
            Some(("a URL with a user or password is not supported".to_owned(), help))
        }
        (Some("http"), Some(authority)) if !authority.host().is_empty() => None,
        (Some("https"), _) => {
            let help = format!(
                "for `https`, use a command: write `[\"/usr/bin/curl\", \"-fsS\", \"--data-binary\", \"@-\", \"{url}\"]`"
            );
            Some(("only `http` is supported".to_owned(), help))
        }
        _ => Some((format!("`{url}` is not an `http` URL"), help)),
    }
}
