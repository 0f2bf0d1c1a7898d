//! The part of the start before the first thread: it drops privileges, creates the directories that
//! the service needs and enters the sandbox. All later threads inherit the restrictions.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use tidemill_lifecycle::Signals;

use super::{
    access,
    error::{ServiceError, chain},
    listeners,
    live_config::{LiveConfig, SandboxDirs},
};
use crate::{
    config::{Config, Http, Options, Pipeline},
    error::is_of_disk,
    exec, fs, hooks,
    http::Token,
    ledger::{self, Access},
    limits,
    observe::{self, display_path},
    patience,
    policy::{OnSuccess, Sandbox},
    sandbox::{self, Coverage, Enforced, SandboxRules, SandboxState},
};

/// System files that are read: the process's own figures, the machine's boot (for the metrics and
/// the ledger), the amount of dirty memory, the files that the C library reads before it allocates
/// memory, and SQLite's source of random numbers.
const SYSTEM_FILES: [&str; 10] = [
    "/proc/self",
    "/proc/sys/kernel/random/boot_id",
    "/proc/stat",
    "/proc/meminfo",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu/online",
    "/dev/urandom",
    // The time zones of `time_zone`, at a reload.
    "/etc/localtime",
    "/usr/share/zoneinfo",
];

/// The sandbox in force. Kept until the exit.
#[derive(Debug)]
pub struct SandboxGuard {
    /// Directories in which the service may work.
    pub inside: Vec<PathBuf>,
    /// Directories beneath which files can be read.
    pub readable: Vec<PathBuf>,
    /// Identities of the directories of `inside` when the sandbox was entered.
    pub scope: fs::SandboxScope,
    /// Dropping it drops the rules on the process's own entries in `/proc`.
    enforced: Enforced,
}

/// Result of the bootstrap.
#[derive(Debug)]
pub struct Bootstrapped {
    pub live_config: LiveConfig,
    pub runners: Runners,
    /// Token for changes over HTTP.
    pub token: Option<Token>,
    pub signals: Signals,
    /// `None` if no sandbox is in force. Keep it until the exit.
    pub sandbox: Option<SandboxGuard>,
}

/// Processes outside of the sandbox, each if something is configured for it.
#[derive(Debug)]
pub struct Runners {
    pub hooks: Option<hooks::Runner>,
    pub programs: Option<exec::RunnerProcess>,
}

/// Prepares everything that comes before the first thread.
pub fn bootstrap(
    config: Config,
    options: Options,
    mut signals: Signals,
) -> Result<Bootstrapped, ServiceError> {
    log_start(&config, &options);
    let token = listeners::token(&config)?;
    let (sandbox, runners) = restrict(&config, options.config.as_deref())?;
    patience::end_single_threaded();
    // From here on, no call that may hang in a file system runs without a thread that follows signals.
    signals
        .catch_stops()
        .map_err(|error| ServiceError::Internal(format!("cannot catch signals: {error}")))?;
    observe::detach_logs()
        .map_err(|error| ServiceError::Internal(format!("cannot start the log thread: {error}")))?;
    let state = sandbox_state(&config, sandbox.as_ref());
    let dirs = sandbox.as_ref().map(|guard| SandboxDirs {
        inside: guard.inside.clone(),
        readable: guard.readable.clone(),
        scope: guard.scope.clone(),
    });
    let live_config = LiveConfig::new(config, options, dirs, state);
    Ok(Bootstrapped { live_config, runners, token, signals, sandbox })
}

fn sandbox_state(config: &Config, guard: Option<&SandboxGuard>) -> SandboxState {
    match guard {
        Some(guard) => guard.enforced.extent.into(),
        None if config.keys.sandbox == Sandbox::Off => SandboxState::Off,
        None => SandboxState::Unavailable,
    }
}

/// Logs the version and the configuration, as the first line of the log.
fn log_start(config: &Config, options: &Options) {
    let file = options.config.as_deref().map(|file| display_path(file).to_string());
    let hash = blake3::hash(config.to_string().as_bytes()).to_hex();
    tracing::info!(
        event = "service.starting",
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        host = %rustix::system::uname().nodename().to_string_lossy(),
        config = file,
        config_hash = hash.get(..12),
        state_dir = %display_path(&config.state_dir),
        "starting"
    );
}

/// Drops privileges, creates the directories, starts the runners and enters the sandbox. `file`
/// is the configuration file, which a reload reads again.
fn restrict(
    config: &Config,
    file: Option<&Path>,
) -> Result<(Option<SandboxGuard>, Runners), ServiceError> {
    for note in config.notes() {
        tracing::warn!(event = "config.questionable", note, "questionable configuration");
    }
    drop_privileges(config);
    create_directories(config)?;
    // The runners have the privileges of the service, and run outside of its sandbox.
    let failed = |what: &str, error: &io::Error| {
        ServiceError::Internal(format!("cannot start the {what} runner: {error}"))
    };
    let runners = Runners {
        hooks: hooks::spawn(&config.hooks, &config.state_dir)
            .map_err(|error| failed("hook", &error))?,
        programs: exec::spawn(&config.programs, config.keys.sandbox)
            .map_err(|error| failed("program", &error))?,
    };
    if config.keys.sandbox == Sandbox::Off {
        tracing::info!(event = "sandbox.disabled", "sandbox disabled by the configuration");
        return Ok((None, runners));
    }
    Ok((enter_sandbox(config, file)?, runners))
}

/// Drops the privileges that are not needed, and logs if the service runs as root.
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

/// Creates the directories that the service needs, except the inputs, which must exist.
fn create_directories(config: &Config) -> Result<(), ServiceError> {
    map_create_error(&config.state_dir, true, fs::make_own(&config.state_dir))?;
    check_state_owner(&config.state_dir)?;
    let control = config.state_dir.join("control");
    map_create_error(&control, true, fs::make_own(&control))?;
    let make = |dir: &Path, make: Make| {
        let path = dir.to_path_buf();
        // A directory that does not respond is reported when its pipeline starts.
        patience::within(dir, move || make(&path))
            .map_or(Ok(()), |made| map_create_error(dir, false, made))
    };
    let is_only = config.pipelines.len() == 1;
    config.pipelines.iter().try_for_each(|pipeline| {
        match create_each(pipeline, &config.state_dir, make) {
            // The pipeline waits, and the others run.
            Err(ServiceError::Storage(_)) if !is_only => Ok(()),
            created => created,
        }
    })
}

/// Creates the directories of one pipeline, except the input. Blocks while its file systems do.
pub fn create_pipeline_directories(
    pipeline: &Pipeline,
    state_dir: &Path,
) -> Result<(), ServiceError> {
    create_each(pipeline, state_dir, |dir, make| map_create_error(dir, false, make(dir)))
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
    // A quarantine in the state directory is created when it is needed.
    if !pipeline.quarantine.starts_with(state_dir) {
        make(&pipeline.quarantine, fs::make_own)?;
    }
    Ok(())
}

fn map_create_error(
    dir: &Path,
    is_state_dir: bool,
    made: io::Result<()>,
) -> Result<(), ServiceError> {
    made.map_err(|error| {
        let mut text = format!("cannot create the directory {}: {error}", display_path(dir));
        if error.kind() == io::ErrorKind::PermissionDenied {
            let reason = access::reason(dir, is_state_dir);
            text += &reason.map_or_else(String::new, |reason| format!(": {reason}"));
        }
        if is_of_disk(&error) || error.kind() == io::ErrorKind::StorageFull {
            ServiceError::Storage(text)
        } else {
            ServiceError::Config(text)
        }
    })
}

/// Checks the owner of the state directory, and that this user may write there. It may be in the output, which another user may own: a
/// link from that user must not redirect the service.
fn check_state_owner(dir: &Path) -> Result<(), ServiceError> {
    let owner = fs::owner(dir).map_err(|error| {
        let text = format!("cannot use the state directory {}: {error}", display_path(dir));
        if is_of_disk(&error) {
            return ServiceError::Storage(text);
        }
        ServiceError::Config(format!("{text}; hint: set `--state-dir` to the directory itself"))
    })?;
    if let Some(reason) = access::reason(dir, true) {
        let dir = display_path(dir);
        return Err(ServiceError::Config(format!(
            "cannot use the state directory {dir}: {reason}"
        )));
    }
    let user = rustix::process::geteuid();
    if user.is_root() && owner != user.as_raw() {
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
    let required = config.keys.sandbox == Sandbox::Require;
    let (rules, unresponsive) = sandbox_rules(config, file);
    let enforced = match sandbox::restrict(&rules) {
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
                "`sandbox = \"require\"` needs Landlock 6 (Linux 6.12): the kernel has {kernel}"
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
    let scope = fs::SandboxScope::of(&rules.work, unresponsive);
    let readable = [rules.read_files, rules.work.clone()].concat();
    Ok(is_in_force.then_some(SandboxGuard { inside: rules.work, readable, scope, enforced }))
}

/// Returns the rules, and the directories that do not respond: no rule can be made for them.
fn sandbox_rules(config: &Config, file: Option<&Path>) -> (SandboxRules, Vec<PathBuf>) {
    let configured = config.pipelines.iter().flat_map(Pipeline::directories).map(Path::to_path_buf);
    let (mut work, unresponsive): (Vec<_>, Vec<_>) =
        configured.chain(unfinished(config)).partition(|dir| patience::responds(dir));
    work.push(config.state_dir.clone());
    let events = config.events.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let notify_socket = std::env::var_os("NOTIFY_SOCKET");
    let admin_socket = config.admin_socket.path(&config.state_dir);
    let rules = SandboxRules {
        work,
        append: events.into_iter().collect(),
        sockets: admin_socket
            .iter()
            .filter_map(|path| path.parent())
            .map(Path::to_path_buf)
            .collect(),
        read: SYSTEM_FILES.iter().map(PathBuf::from).collect(),
        read_files: file.into_iter().chain(config.age.files()).flat_map(parent_dirs).collect(),
        listen: ports(config.http),
        connect: config.otlp.iter().map(|otlp| otlp.address.port()).collect(),
        abstract_sockets: notify_socket
            .as_deref()
            .map(OsStr::as_bytes)
            .is_some_and(|name| name.starts_with(b"@")),
        ..SandboxRules::default()
    };
    (rules, unresponsive)
}

/// Returns the directories that contain the configuration file or a key file at a reload: editors replace
/// the file, and it may be a link into another directory. The root is left out: a rule on it would open
/// everything.
fn parent_dirs(file: &Path) -> impl Iterator<Item = PathBuf> {
    let absolute = std::path::absolute(file).ok();
    let canonical = file.canonicalize().ok();
    let dirs = [absolute, canonical].into_iter().flatten();
    let dirs = dirs.filter_map(|file| file.parent().map(Path::to_path_buf));
    dirs.filter(|dir| dir.parent().is_some())
}

/// Returns the ports to listen on. 0 is a free port, used when the default port is taken.
fn ports(http: Http) -> Vec<u16> {
    match http {
        Http::Off => Vec::new(),
        Http::Default => vec![limits::HTTP_PORT, 0],
        Http::At(address) => vec![address.port()],
    }
}

/// Returns the directories of unfinished work of the previous run, whose pipeline may no longer be
/// configured. Opening the ledger later reports a ledger that cannot be read.
fn unfinished(config: &Config) -> Vec<PathBuf> {
    let path = config.state_dir.join(fs::LEDGER_NAME);
    let Ok(ledger) = ledger::open(&path, Access::Reading) else {
        return Vec::new();
    };
    let (Ok(records), Ok(roots)) = (ledger.unfinished(), ledger.pipelines()) else {
        return Vec::new();
    };
    let mut dirs = Vec::new();
    for root in roots {
        let pipeline_records = records.iter().filter(|record| record.pipeline == root.id);
        let archives = pipeline_records.clone().filter_map(|record| match &record.on_success {
            OnSuccess::Archive(archive) => Some(archive.clone()),
            OnSuccess::Keep | OnSuccess::Delete => None,
        });
        dirs.extend(archives);
        if pipeline_records.count() > 0 {
            dirs.extend([root.input, root.output]);
        }
    }
    dirs.sort();
    dirs.dedup();
    dirs
}
