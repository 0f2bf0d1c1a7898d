//! Landlock (`landlock(7)`): it limits the files and ports that the process may use.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, PathFdError, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope,
};

use crate::error;

/// Files and ports that the process may use. A path that does not exist is ignored.
#[derive(Clone, Debug, Default)]
pub struct SandboxRules {
    /// Directories beneath which files and directories are read, created, written, renamed (also from
    /// one of these to another) and removed.
    pub work: Vec<PathBuf>,
    /// Directories beneath which files are read, created and written, but not removed or renamed.
    pub append: Vec<PathBuf>,
    /// Directories in which a socket is created and removed.
    pub sockets: Vec<PathBuf>,
    /// Directories and files that are read.
    pub read: Vec<PathBuf>,
    /// Directories beneath which files are read, but no directory is listed.
    pub read_files: Vec<PathBuf>,
    /// Directories and files that are read, and programs that are run.
    pub run: Vec<PathBuf>,
    /// Devices that are read and written.
    pub devices: Vec<PathBuf>,
    /// Whether all TCP ports may be used.
    pub network: bool,
    /// TCP ports to listen on; 0 is a free one.
    pub listen: Vec<u16>,
    /// TCP ports to connect to, on any machine. Empty unless traces are sent.
    pub connect: Vec<u16>,
    /// Whether a socket with an abstract name is used, such as a service manager's.
    pub abstract_sockets: bool,
}

/// The part of the rules that the kernel enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    Whole,
    /// An older kernel does not restrict truncation, ports or signals.
    Part,
    None,
}

/// The restriction in force. Dropping it drops only the rules on the process's own entries in `/proc`:
/// the kernel forgets such a rule once no descriptor refers to it.
#[derive(Debug)]
pub struct Enforced {
    pub extent: Coverage,
    /// Landlock version of the kernel, for the log.
    pub kernel: String,
    _proc_descriptors: Vec<PathFd>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open {} for the sandbox", path.display())]
    Path { path: PathBuf, source: io::Error },
    #[error("cannot enter the sandbox: {0}")]
    Refused(String),
}

/// Landlock versions of the used rules. Linux 6.12 has all of them: Landlock 6.
const FILES: ABI = ABI::V5;
const PORTS: ABI = ABI::V4;
const SCOPES: ABI = ABI::V6;

/// Restricts the calling thread, and all threads it starts later, to these rules.
///
/// An older kernel enforces a part of them. Before Linux 5.19 nothing is restricted, because renames
/// from one directory to another would fail.
pub fn restrict(rules: &SandboxRules) -> Result<Enforced, Error> {
    let mut scopes = Scope::from_all(SCOPES);
    if rules.abstract_sockets {
        scopes.remove(Scope::AbstractUnixSocket);
    }
    let mut ruleset = create_ruleset(scopes, rules.network).map_err(|error| refused(&error))?;
    let mut proc_descriptors = Vec::new();
    for (paths, access) in [
        (&rules.work, work_access()),
        (&rules.append, append_access()),
        (&rules.sockets, socket_access()),
        (&rules.read, read_access()),
        (&rules.read_files, AccessFs::ReadFile.into()),
        (&rules.run, read_access() | AccessFs::Execute),
        (&rules.devices, AccessFs::ReadFile | AccessFs::WriteFile),
    ] {
        for path in paths {
            ruleset = add_path(ruleset, path, access, &mut proc_descriptors)?;
        }
    }
    let listen = rules.listen.iter().map(|port| (port, AccessNet::BindTcp));
    let connect = rules.connect.iter().map(|port| (port, AccessNet::ConnectTcp));
    for (port, access) in listen.chain(connect) {
        ruleset = ruleset.add_rule(NetPort::new(*port, access)).map_err(|error| refused(&error))?;
    }
    let status = ruleset.restrict_self().map_err(|error| refused(&error))?;
    let extent = match status.ruleset {
        RulesetStatus::FullyEnforced => Coverage::Whole,
        RulesetStatus::PartiallyEnforced => Coverage::Part,
        RulesetStatus::NotEnforced => Coverage::None,
    };
    Ok(Enforced { extent, kernel: describe(&status.landlock), _proc_descriptors: proc_descriptors })
}

fn create_ruleset(scopes: BitFlags<Scope>, network: bool) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::SoftRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(FILES))?;
    if !network {
        ruleset = ruleset.handle_access(AccessNet::from_all(PORTS))?;
    }
    ruleset.scope(scopes)?.create()
}

fn work_access() -> BitFlags<AccessFs> {
    append_access()
        | AccessFs::MakeDir
        | AccessFs::RemoveDir
        | AccessFs::RemoveFile
        | AccessFs::Refer
}

fn append_access() -> BitFlags<AccessFs> {
    read_access() | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg
}

fn socket_access() -> BitFlags<AccessFs> {
    AccessFs::ReadDir | AccessFs::MakeSock | AccessFs::RemoveFile
}

fn read_access() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

fn add_path(
    ruleset: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
    proc_descriptors: &mut Vec<PathFd>,
) -> Result<RulesetCreated, Error> {
    let opened = match PathFd::new(path) {
        Ok(opened) => opened,
        Err(PathFdError::OpenCall { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(ruleset);
        }
        Err(PathFdError::OpenCall { source, path, .. }) => {
            return Err(Error::Path { path, source });
        }
        Err(error) => return Err(Error::Refused(error.to_string())),
    };
    // Rights to list or to create names apply to directories only.
    let is_dir = std::fs::metadata(path)
        .map_err(|source| Error::Path { path: path.to_path_buf(), source })?
        .is_dir();
    let access = if is_dir { access } else { access & AccessFs::from_file(FILES) };
    let ruleset =
        ruleset.add_rule(PathBeneath::new(&opened, access)).map_err(|error| refused(&error))?;
    if path.starts_with("/proc") {
        proc_descriptors.push(opened);
    }
    Ok(ruleset)
}

fn refused(error: &RulesetError) -> Error {
    Error::Refused(error::chain(error))
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
        LandlockStatus::NotImplemented => "no Landlock in this kernel".to_owned(),
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
