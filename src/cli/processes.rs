//! Facts about the processes of this machine, by `/proc`.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{fs::LEDGER_NAME, observe::escaped};

/// Returns the processes that have a file open for writing, as `bash (4711)`, as far as this user may see
/// their open files.
pub fn writers(file: &Path) -> Vec<String> {
    let Ok(wanted) = fs::symlink_metadata(file) else { return Vec::new() };
    let id = (wanted.dev(), wanted.ino());
    let mut found = Vec::new();
    // This process may have inherited it from its shell.
    let others = processes().into_iter().filter(|(pid, _)| *pid != std::process::id());
    for (pid, process) in others {
        let handles = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let writes = handles.map(|handle| handle.path()).any(|handle| {
            // By its name first: the metadata of another file may be on a mount that hangs.
            let link = fs::read_link(&handle).unwrap_or_default();
            let is_it = link.file_name() == file.file_name()
                && fs::metadata(&handle).is_ok_and(|open| (open.dev(), open.ino()) == id);
            is_it && is_for_writing(&handle)
        });
        if writes {
            found.push(format!("{} ({pid})", name(&process)));
        }
    }
    found
}

/// The numbers and directories of all processes, lowest number first.
pub fn processes() -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let number =
        |entry: fs::DirEntry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()));
    let mut found: Vec<_> = entries.filter_map(number).collect();
    found.sort_unstable();
    found
}

/// The name of a process, as `ps` shows it.
pub fn name(process: &Path) -> String {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    escaped(name.trim_end())
}

/// Whether this entry of `/proc/PID/fd` is open for writing: the access mode is the last octal digits of
/// the flags.
fn is_for_writing(handle: &Path) -> bool {
    let info = handle.to_str().map(|path| path.replacen("/fd/", "/fdinfo/", 1));
    let info = info.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0);
    flags & 0o3 != 0
}

/// A process of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub pid: u32,
    /// None where it has not opened its ledger yet, or is not visible.
    pub state_dir: Option<PathBuf>,
    /// Whether this user may see its open files.
    pub is_visible: bool,
}

/// Returns the services that run on this machine.
pub fn services() -> Vec<Service> {
    let is_service = |process: &Path| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let program = words.next().and_then(|program| program.rsplit(|byte| *byte == b'/').next());
        program == Some(b"tidemill") && words.next() == Some(b"run")
    };
    let found = processes().into_iter().filter(|(_, process)| is_service(process));
    let service = |(pid, process): (u32, PathBuf)| Service {
        pid,
        state_dir: state_dir(&process),
        is_visible: fs::read_dir(process.join("fd")).is_ok(),
    };
    found.map(service).collect()
}

/// The directory of the ledger that a process has open.
fn state_dir(process: &Path) -> Option<PathBuf> {
    let ledger = links(process).find(|link| link.ends_with(LEDGER_NAME))?;
    ledger.parent().map(Path::to_path_buf)
}

/// The targets of the descriptors of a process.
fn links(process: &Path) -> impl Iterator<Item = PathBuf> {
    let handles = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    handles.filter_map(|handle| fs::read_link(handle.path()).ok())
}

/// Returns the address at which a process serves the page.
pub fn page(pid: u32) -> Option<String> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let inode = |link: PathBuf| {
        let socket = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
        Some(socket)
    };
    let sockets: Vec<_> = links(&process).filter_map(inode).collect();
    ["net/tcp", "net/tcp6"].into_iter().find_map(|table| {
        let table = fs::read_to_string(process.join(table)).ok()?;
        let address = table.lines().find_map(|line| listening(line, &sockets))?;
        Some(format!("http://{address}/"))
    })
}

/// The local address of a line of `/proc/PID/net/tcp`, if one of these sockets listens there.
fn listening(line: &str, sockets: &[String]) -> Option<SocketAddr> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [_, local, _, "0A", _, _, _, _, _, inode, ..] = words.as_slice() else { return None };
    if !sockets.iter().any(|socket| socket == inode) {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of 32 bits in the machine's order.
    let words = address.as_bytes().chunks(8).map(|word| {
        let word = std::str::from_utf8(word).ok()?;
        u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes)
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let address: IpAddr = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => Ipv4Addr::from(four).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).into(),
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_a_writer_of_what_it_writes_and_none_of_what_it_reads() {
        use std::process::{Command, Stdio};
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        fs::write(&path, "").expect("a file");
        let open = |options: &mut fs::OpenOptions| options.open(&path).expect("open");
        let reading = Stdio::from(open(fs::OpenOptions::new().read(true)));
        let writing = Stdio::from(open(fs::OpenOptions::new().append(true)));
        let mut sleep = Command::new("sleep");
        let mut reader = sleep.arg("60").stdin(reading).spawn().expect("sleep");
        assert_eq!(writers(&path), Vec::<String>::new());
        let mut writer = Command::new("sleep").arg("60").stdout(writing).spawn().expect("sleep");
        let found = writers(&path);
        for child in [&mut reader, &mut writer] {
            child.kill().and_then(|()| child.wait()).expect("its end");
        }
        assert_eq!(found, [format!("sleep ({})", writer.id())]);
    }

    #[test]
    fn the_address_of_a_listening_socket_is_read_from_the_table() {
        let sockets = ["4711".to_owned()];
        let line = |local: &str, state: &str| {
            format!(
                "0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 4711 1"
            )
        };
        let of = |local: &str, state: &str| {
            listening(&line(local, state), &sockets).map(|address| address.to_string())
        };
        assert_eq!(of("0100007F:24F8", "0A").as_deref(), Some("127.0.0.1:9464"));
        assert_eq!(
            of("00000000000000000000000001000000:24F8", "0A").as_deref(),
            Some("[::1]:9464")
        );
        assert_eq!(of("0100007F:24F8", "01"), None, "a connection");
        assert_eq!(listening(&line("0100007F:24F8", "0A"), &[]), None, "another's");
    }
}
