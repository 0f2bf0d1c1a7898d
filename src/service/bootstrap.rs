//! Before the first thread starts: privileges are given up, the directories that the service needs
//! are made, and the sandbox closes around them. What holds for this thread then holds for all.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::error::{ServiceError, chain};
use crate::{
    config::{Config, Http, Pipeline},
    fs,
    hooks::{self, Runner},
    ledger::{Ledger, sqlite::Sqlite},
    limits,
    observe::display_path,
    patience,
    policy::{OnSuccess, Sandbox},
    sandbox::{self, Coverage, Enforced, SandboxRules},
};

/// What is read of the system: the process's own figures, the machine's start (for the metrics and
/// the ledger), how much is unwritten, what the C library asks before it takes more memory, and
/// SQLite's random numbers.
const READ: [&str; 8] = [
    "/proc/self",
    "/proc/sys/kernel/random/boot_id",
    "/proc/stat",
    "/proc/meminfo",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu/online",
    "/dev/urandom",
];

/// The sandbox that is in force. Kept until the end.
#[derive(Debug)]
pub struct SandboxGuard {
    /// The directories in which the service works.
    pub inside: Vec<PathBuf>,
    /// They, by what they were when it closed.
    pub reach: fs::SandboxScope,
    _enforced: Enforced,
}

/// What is there before the first thread.
#[derive(Debug)]
pub struct Bootstrap {
    /// `None` where no sandbox is in force.
    pub fence: Option<SandboxGuard>,
    /// `None` where no hook is configured.
    pub runner: Option<Runner>,
}

/// Does all of it. `file` is the configuration's, which a reload reads again.
pub fn prepare(config: &Config, file: Option<&Path>) -> Result<Bootstrap, ServiceError> {
    for note in config.notes() {
        tracing::warn!(event = "config.questionable", note, "questionable configuration");
    }
    drop_privileges(config);
    directories(config)?;
    // It holds no more privileges than the service, and is not in its sandbox.
    let runner = hooks::spawn(&config.hooks, &config.state_dir).map_err(|error| {
        ServiceError::Internal(format!("cannot start the hook runner: {error}"))
    })?;
    if config.sandbox == Sandbox::Off {
        tracing::info!(event = "sandbox.disabled", "sandbox disabled by the configuration");
        return Ok(Bootstrap { fence: None, runner });
    }
    Ok(Bootstrap { fence: enter_sandbox(config, file)?, runner })
}

/// Running as root works, and is said: a user of its own would hold less.
fn drop_privileges(config: &Config) {
    let low = |port: &u16| (1..1024).contains(port);
    match sandbox::drop_privileges(ports(config.http).iter().any(low)) {
        Ok(kept) if kept.is_root => {
            tracing::info!(
                event = "privileges.reduced",
                kept = kept.names(),
                hint = "use a dedicated user",
                "running as root with reduced capabilities"
            );
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(event = "privileges.not_reduced", %error, "cannot drop privileges");
        }
    }
}

/// Makes what the service needs beside its inputs, which must be there.
fn directories(config: &Config) -> Result<(), ServiceError> {
    map_create_error(&config.state_dir, fs::make_own(&config.state_dir))?;
    check_state_owner(&config.state_dir)?;
    let control = config.state_dir.join("control");
    map_create_error(&control, fs::make_own(&control))?;
    let make = |dir: &Path, make: Make| {
        let asked = dir.to_path_buf();
        // That one does not answer is said where its pipeline would begin.
        patience::within(dir, move || make(&asked))
            .map_or(Ok(()), |done| map_create_error(dir, done))
    };
    config.pipelines.iter().try_for_each(|pipeline| create_each(pipeline, &config.state_dir, make))
}

/// Makes what one pipeline needs beside its input. Blocks as long as its file systems do.
pub fn directories_of(pipeline: &Pipeline, state_dir: &Path) -> Result<(), ServiceError> {
    create_each(pipeline, state_dir, |dir, make| map_create_error(dir, make(dir)))
}

type Make = fn(&Path) -> io::Result<()>;

fn create_each(
    pipeline: &Pipeline,
    state_dir: &Path,
    make: impl Fn(&Path, Make) -> Result<(), ServiceError>,
) -> Result<(), ServiceError> {
    make(&pipeline.output, fs::make_shared)?;
    if let OnSuccess::Archive(archive) = &pipeline.on_success {
        make(archive, fs::make_shared)?;
    }
    // One in the state directory is made when it is needed.
    if !pipeline.quarantine.starts_with(state_dir) {
        make(&pipeline.quarantine, fs::make_own)?;
    }
    Ok(())
}

fn map_create_error(dir: &Path, made: io::Result<()>) -> Result<(), ServiceError> {
    made.map_err(|error| {
        let text = format!("cannot make the directory {}: {error}", display_path(dir));
        match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::StorageFull => {
                ServiceError::Storage(text)
            }
            _ => ServiceError::Config(text),
        }
    })
}

/// The state directory may be in the output, which another user may own: what that one puts in its
/// place must not lead the service elsewhere.
fn check_state_owner(dir: &Path) -> Result<(), ServiceError> {
    let owner = fs::owner(dir).map_err(|error| {
        ServiceError::Config(format!(
            "the state directory {}: {error}; name the directory itself with `--state-dir`",
            display_path(dir)
        ))
    })?;
    let ours = rustix::process::geteuid();
    if ours.is_root() && owner != ours.as_raw() {
        tracing::warn!(
            event = "privileges.foreign_state", owner,
            state_dir = %display_path(dir),
            hint = "chown it, or run as that user",
            "running as root with another user's state directory"
        );
    }
    Ok(())
}

fn enter_sandbox(
    config: &Config,
    file: Option<&Path>,
) -> Result<Option<SandboxGuard>, ServiceError> {
    let required = config.sandbox == Sandbox::Require;
    let (allowed, silent) = allowed(config, file);
    let enforced = match sandbox::restrict(&allowed) {
        Ok(enforced) => enforced,
        Err(error) if required => {
            return Err(ServiceError::Config(format!(
                "`sandbox = \"require\"`: {}",
                chain(&error)
            )));
        }
        Err(error) => {
            tracing::warn!(
                event = "sandbox.unavailable",
                error = chain(&error),
                "sandbox not available"
            );
            return Ok(None);
        }
    };
    let Enforced { extent, kernel, .. } = &enforced;
    match extent {
        Coverage::Whole => {
            tracing::info!(event = "sandbox.active", %kernel, "sandbox active");
        }
        _ if required => {
            return Err(ServiceError::Config(format!(
                "`sandbox = \"require\"` needs Landlock 6 (Linux 6.12), and the kernel has {kernel}"
            )));
        }
        Coverage::Part => {
            tracing::warn!(event = "sandbox.partial", %kernel, "sandbox partly active");
        }
        Coverage::None => {
            tracing::warn!(event = "sandbox.unavailable", %kernel, "sandbox not available");
        }
    }
    let is_in_force = *extent != Coverage::None;
    let reach = fs::SandboxScope::of(&allowed.work, silent);
    Ok(is_in_force.then_some(SandboxGuard { inside: allowed.work, reach, _enforced: enforced }))
}

/// And the directories that do not answer: the sandbox cannot be opened for them.
fn allowed(config: &Config, file: Option<&Path>) -> (SandboxRules, Vec<PathBuf>) {
    let places = config.pipelines.iter().flat_map(Pipeline::directories).map(Path::to_path_buf);
    let (mut work, silent): (Vec<_>, Vec<_>) =
        places.chain(unfinished(config)).partition(|dir| patience::responds(dir));
    work.push(config.state_dir.clone());
    let events = config.events.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let socket = std::env::var_os("NOTIFY_SOCKET");
    let admin = config.admin_socket.path(&config.state_dir);
    let allowed = SandboxRules {
        work,
        append: events.into_iter().collect(),
        sockets: admin.iter().filter_map(|path| path.parent()).map(Path::to_path_buf).collect(),
        read: READ.iter().map(PathBuf::from).collect(),
        read_files: file.into_iter().flat_map(parent_dirs).collect(),
        listen: ports(config.http),
        connect: config.otlp.iter().map(|otlp| otlp.address.port()).collect(),
        abstract_sockets: socket
            .as_deref()
            .map(OsStr::as_bytes)
            .is_some_and(|it| it.starts_with(b"@")),
    };
    (allowed, silent)
}

/// The directories in which the configuration file is found when it is read again: editors put a new
/// file in its place, and it may be a link into another directory. The root is none: a rule on it would
/// open everything.
fn parent_dirs(file: &Path) -> impl Iterator<Item = PathBuf> {
    let named = std::path::absolute(file).ok();
    let found = file.canonicalize().ok();
    let dirs = [named, found].into_iter().flatten();
    let dirs = dirs.filter_map(|file| file.parent().map(Path::to_path_buf));
    dirs.filter(|dir| dir.parent().is_some())
}

/// The ports that are listened at; where the default is taken, a free one.
fn ports(http: Http) -> Vec<u16> {
    match http {
        Http::Off => Vec::new(),
        Http::Default => vec![limits::HTTP_PORT, 0],
        Http::At(address) => vec![address.port()],
    }
}

/// The directories of work that the last run left, which may be of a pipeline that is configured no
/// more. A ledger that cannot be read is told by the hook that opens it.
fn unfinished(config: &Config) -> Vec<PathBuf> {
    let path = config.state_dir.join("ledger.sqlite");
    let Ok(ledger) = Sqlite::open_read_only(&path) else {
        return Vec::new();
    };
    let (Ok(records), Ok(roots)) = (ledger.unfinished(), ledger.roots()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for root in roots {
        let of = records.iter().filter(|record| record.pipeline == root.id);
        let archives = of.clone().filter_map(|record| match &record.on_success {
            OnSuccess::Archive(archive) => Some(archive.clone()),
            OnSuccess::Keep | OnSuccess::Delete => None,
        });
        found.extend(archives);
        if of.count() > 0 {
            found.extend([root.input, root.output]);
        }
    }
    found.sort();
    found.dedup();
    found
}
