//! Landlock (`landlock(7)`): which files and ports the process may use from here on.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, PathFdError, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope,
};

/// All that is left to the process. A path that is not there is passed over.
#[derive(Clone, Debug, Default)]
pub struct SandboxRules {
    /// Directories beneath which files and directories are read, made, written, renamed (also from
    /// one of these to another) and removed.
    pub work: Vec<PathBuf>,
    /// Directories beneath which files are read, made and written, and none is removed or renamed.
    pub append: Vec<PathBuf>,
    /// Directories in which a socket is made and removed.
    pub sockets: Vec<PathBuf>,
    /// Directories and files that are read.
    pub read: Vec<PathBuf>,
    /// Directories beneath which files are read, and none is listed.
    pub read_files: Vec<PathBuf>,
    /// TCP ports that are listened at; 0 stands for a free one.
    pub listen: Vec<u16>,
    /// TCP ports that are connected to, on whatever machine. None, unless traces are sent.
    pub connect: Vec<u16>,
    /// Whether a socket with an abstract name is used, such as a service manager's.
    pub abstract_sockets: bool,
}

/// How much of it the kernel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    Whole,
    /// An older kernel: what it does not know (truncation, ports, signals) is not held.
    Part,
    None,
}

/// The restriction that is in force. Dropping it changes nothing but for the process's own entry in
/// `/proc`: the kernel forgets a rule on that once nobody holds it.
#[derive(Debug)]
pub struct Enforced {
    pub extent: Coverage,
    /// What the kernel can do, for the log.
    pub kernel: String,
    _rules: Vec<PathFd>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open {} for the sandbox", path.display())]
    Path { path: PathBuf, source: io::Error },
    #[error("the kernel refuses the sandbox: {0}")]
    Refused(String),
}

/// The kernel that knows all of it: Landlock's sixth version, of Linux 6.12.
const FILES: ABI = ABI::V5;
const PORTS: ABI = ABI::V4;
const SCOPES: ABI = ABI::V6;

/// Restricts the calling thread, and all that it starts later, to this.
///
/// Where the kernel cannot hold all of it, as much as it can; not even that where it could not
/// rename from one directory to another any more (before Linux 5.19).
pub fn restrict(allowed: &SandboxRules) -> Result<Enforced, Error> {
    let mut scopes = Scope::from_all(SCOPES);
    if allowed.abstract_sockets {
        scopes.remove(Scope::AbstractUnixSocket);
    }
    let mut rules = created(scopes).map_err(|error| refused(&error))?;
    let mut held = Vec::new();
    for (paths, access) in [
        (&allowed.work, work_access()),
        (&allowed.append, append()),
        (&allowed.sockets, sockets()),
        (&allowed.read, read()),
        (&allowed.read_files, AccessFs::ReadFile.into()),
    ] {
        for path in paths {
            rules = add(rules, path, access, &mut held)?;
        }
    }
    let listen = allowed.listen.iter().map(|port| (port, AccessNet::BindTcp));
    let connect = allowed.connect.iter().map(|port| (port, AccessNet::ConnectTcp));
    for (port, access) in listen.chain(connect) {
        rules = rules.add_rule(NetPort::new(*port, access)).map_err(|error| refused(&error))?;
    }
    let status = rules.restrict_self().map_err(|error| refused(&error))?;
    let extent = match status.ruleset {
        RulesetStatus::FullyEnforced => Coverage::Whole,
        RulesetStatus::PartiallyEnforced => Coverage::Part,
        RulesetStatus::NotEnforced => Coverage::None,
    };
    Ok(Enforced { extent, kernel: describe(&status.landlock), _rules: held })
}

fn created(scopes: BitFlags<Scope>) -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::SoftRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(FILES))?
        .handle_access(AccessNet::from_all(PORTS))?
        .scope(scopes)?
        .create()
}

fn work_access() -> BitFlags<AccessFs> {
    append() | AccessFs::MakeDir | AccessFs::RemoveDir | AccessFs::RemoveFile | AccessFs::Refer
}

fn append() -> BitFlags<AccessFs> {
    read() | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg
}

fn sockets() -> BitFlags<AccessFs> {
    AccessFs::ReadDir | AccessFs::MakeSock | AccessFs::RemoveFile
}

fn read() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

fn add(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
    held: &mut Vec<PathFd>,
) -> Result<RulesetCreated, Error> {
    let opened = match PathFd::new(path) {
        Ok(opened) => opened,
        Err(PathFdError::OpenCall { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(rules);
        }
        Err(PathFdError::OpenCall { source, path, .. }) => {
            return Err(Error::Path { path, source });
        }
        Err(error) => return Err(Error::Refused(error.to_string())),
    };
    // A right to list or to make names is none that a file has.
    let is_dir = std::fs::metadata(path)
        .map_err(|source| Error::Path { path: path.to_path_buf(), source })?
        .is_dir();
    let access = if is_dir { access } else { access & AccessFs::from_file(FILES) };
    let rules =
        rules.add_rule(PathBeneath::new(&opened, access)).map_err(|error| refused(&error))?;
    if path.starts_with("/proc") {
        held.push(opened);
    }
    Ok(rules)
}

fn refused(error: &RulesetError) -> Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    Error::Refused(text)
}

fn describe(status: &LandlockStatus) -> String {
    match status {
        LandlockStatus::NotEnabled => {
            "Landlock is not enabled in this kernel (boot option lsm=)".to_owned()
        }
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            let version = kernel_abi.unwrap_or(*effective_abi as i32);
            format!("Landlock {version}")
        }
        LandlockStatus::NotImplemented => "this kernel has no Landlock".to_owned(),
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "whole",
            Self::Part => "part",
            Self::None => "none",
        })
    }
}
