//! The process that becomes the program: it ties itself to its supervisor's life, limits itself, enters
//! its sandbox, and is replaced.

use std::{
    ffi::{OsStr, OsString},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    process::{Resource, Rlimit, Signal, geteuid, set_parent_process_death_signal, setrlimit},
    thread::{CapabilitySet, CapabilitySets, set_capabilities},
};

use super::{messages::Job, scratch};
use crate::{
    error::Exit,
    policy::Sandbox,
    sandbox::{self, Coverage, SandboxRules},
    transforms::exec::{INPUT, OUTPUT},
};

/// What precedes the reason on the standard error of a program that could not be started.
pub const NOT_STARTED: &str = "tidemill cannot start it: ";

/// Where programs and libraries are.
const PROGRAMS: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt"];
/// What most programs read; of `/etc` nothing that could be secret.
const READ: [&str; 44] = [
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
    "/etc/ImageMagick-6",
    "/etc/ImageMagick-7",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/default/locale",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/ghostscript",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/libreoffice",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/localtime",
    "/etc/machine-id",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/papersize",
    "/etc/passwd",
    "/etc/perl",
    "/etc/protocols",
    "/etc/python3",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/texmf",
    "/etc/timezone",
    "/proc",
    "/sys/devices/system",
    "/var/cache/fontconfig",
    "/var/lib/ghostscript",
    "/var/lib/texmf",
];
const NULL: &str = "/dev/null";

/// Becomes the program of the job in the environment. Returns only if that fails.
#[must_use]
pub fn main() -> Exit {
    let Some(job) = Job::of_this_process() else { return Exit::Usage };
    let reason = match prepare(&job) {
        Ok(()) => become_program(&job).to_string(),
        Err(reason) => reason,
    };
    eprint!("{NOT_STARTED}{reason}");
    Exit::Config
}

fn prepare(job: &Job) -> Result<(), String> {
    let failed = |what: &str, error: rustix::io::Errno| format!("{what}: {error}");
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| failed("its supervisor", error))?;
    limit(job).map_err(|error| failed("limits", error))?;
    if job.sandbox != Sandbox::Off {
        enter_sandbox(job)?;
    }
    // It is in force after `execve` too, because nothing may gain privileges.
    rustix::thread::set_no_new_privs(true).map_err(|error| failed("privileges", error))?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, sets).map_err(|error| failed("privileges", error))
}

fn limit(job: &Job) -> rustix::io::Result<()> {
    let at_most = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    // Not of the address space: many programs reserve much more than they use.
    setrlimit(Resource::Data, at_most(job.program.memory))?;
    setrlimit(Resource::Fsize, at_most(job.request.output_bytes))?;
    setrlimit(Resource::Core, at_most(0))?;
    if !geteuid().is_root() {
        let others = super::descendants::threads_of_user();
        setrlimit(Resource::Nproc, at_most(others + u64::from(job.program.processes)))?;
    }
    Ok(())
}

fn enter_sandbox(job: &Job) -> Result<(), String> {
    let program = &job.program;
    let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
    let mut run = paths(&PROGRAMS);
    run.extend(program.command.first().map(PathBuf::from));
    let mut work = program.write.clone();
    work.push(job.request.scratch.clone());
    let mut read = paths(&READ);
    read.extend(program.read.iter().cloned());
    let rules = SandboxRules {
        work,
        run,
        read,
        devices: paths(&[NULL]),
        network: program.network,
        abstract_sockets: program.network,
        ..SandboxRules::default()
    };
    let enforced = sandbox::restrict(&rules);
    match enforced {
        // The rules on `/proc` last as long as their descriptors.
        Ok(enforced)
            if enforced.extent == Coverage::Whole || job.sandbox == Sandbox::BestEffort =>
        {
            std::mem::forget(enforced);
            Ok(())
        }
        Ok(enforced) => Err(format!("`sandbox = \"require\"`: {}", enforced.kernel)),
        Err(error) => Err(error.to_string()),
    }
}

fn become_program(job: &Job) -> std::io::Error {
    let Job { program, request, .. } = job;
    let mut words = program.command.iter();
    let Some(path) = words.next() else { return std::io::ErrorKind::InvalidInput.into() };
    let output_name = program.output_name(request.name.as_bytes().to_vec());
    let input = scratch::input(&request.scratch, &request.name);
    let output = scratch::output(&request.scratch, OsStr::from_bytes(&output_name));
    let arguments =
        words.map(|word| with_path(&with_path(word.as_ref(), INPUT, &input), OUTPUT, &output));
    Command::new(path).args(arguments).env_remove(Job::VARIABLE).exec()
}

/// Puts a path in place of the placeholder.
fn with_path(word: &OsStr, placeholder: &str, path: &Path) -> OsString {
    let (bytes, placeholder) = (word.as_bytes(), placeholder.as_bytes());
    let Some(start) = bytes.windows(placeholder.len()).position(|part| part == placeholder) else {
        return word.to_owned();
    };
    let (before, rest) = bytes.split_at(start);
    let after = rest.get(placeholder.len()..).unwrap_or_default();
    OsString::from_vec([before, path.as_os_str().as_bytes(), after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_may_be_a_part_of_an_argument() {
        let path = Path::new(OsStr::from_bytes(b"/s/in/\xff a"));
        let with = |word: &str| with_path(word.as_ref(), INPUT, path).into_vec();
        assert_eq!(with("{in}"), b"/s/in/\xff a");
        assert_eq!(with("png:{in}[0]"), b"png:/s/in/\xff a[0]");
        assert_eq!(with("-q"), b"-q");
    }
}
