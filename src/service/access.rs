//! Directories in which the service may not write, for the operator: who runs, whose they are, and what
//! to do. And a state directory that is not local.

use std::path::Path;

use crate::{fs, observe::display_path};

/// The role of the state directory, which can be another one without another output.
pub(super) const STATE: &str = "state directory";

/// Describes a directory of a pipeline if this user may not write there or create it.
pub(super) fn describe(role: &str, dir: &Path) -> Option<String> {
    Some(described(role, dir, &reason(dir, false)?))
}

/// Describes the state directory if it cannot be used.
pub(super) fn describe_state(dir: &Path) -> Option<String> {
    Some(described(STATE, dir, &reason(dir, true)?))
}

fn described(role: &str, dir: &Path, reason: &str) -> String {
    format!("the {role} {}: {reason}", display_path(dir))
}

/// Returns why this user may not write in a directory or create it, or why it cannot be the state directory,
/// with a hint, if that is so. Blocks while the file system does not respond.
pub(super) fn reason(dir: &Path, is_state_dir: bool) -> Option<String> {
    if is_state_dir && fs::is_remote(dir) {
        return Some(
            "it is on a network file system, where the ledger's shared memory does not work; hint: set `state_dir` to a local directory"
                .to_owned(),
        );
    }
    let fs::AccessDenied { dir, owner, mode } = fs::access_denied(dir)?;
    let (user, owner) = (named(rustix::process::geteuid().as_raw()), named(owner));
    let hint = if is_state_dir {
        ", run as its owner, or set `--state-dir`"
    } else {
        " or run as its owner"
    };
    let dir = display_path(&dir);
    Some(format!(
        "{user} may not write in {dir}, which belongs to {owner} (mode {mode:03o}); hint: chown it{hint}"
    ))
}

/// Returns a user's number, and name where `/etc/passwd` has it.
fn named(user: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(user)).then_some(name)
    });
    name.map_or_else(|| format!("user {user}"), |name| format!("user {user} ({name})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_may_be_written_or_created_has_no_reason() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(reason(dir.path(), true), None);
        assert_eq!(reason(&dir.path().join("new/new"), false), None);
    }

    #[test]
    fn a_user_has_a_name_where_the_machine_knows_one() {
        assert_eq!(named(0), "user 0 (root)");
        assert_eq!(named(4_000_000_001), "user 4000000001");
    }
}
