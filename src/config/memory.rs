//! The memory limit of all pipelines, in bytes or as a share of the machine's memory.

use std::{fmt, fs, path::Path, str::FromStr, sync::OnceLock};

/// The default: half of the available memory.
pub const DEFAULT: Memory = Memory::Percent(50);

/// A limit of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    Bytes(u64),
    /// Of the machine's memory, or of the control group's limit where that is less.
    Percent(u8),
}

impl Memory {
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => available() / 100 * u64::from(percent),
        }
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is not a size: write `64MiB`, or a share of the memory such as `50%`")
        };
        if let Some(percent) = text.strip_suffix('%') {
            return match percent.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(wrong()),
            };
        }
        match text.parse::<bytesize::ByteSize>() {
            Ok(size) if size.as_u64() > 0 => Ok(Self::Bytes(size.as_u64())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) if bytes % (1 << 20) == 0 => write!(f, "{}MiB", bytes >> 20),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// The memory available to this process, in bytes. Read once: inside the sandbox these files cannot be
/// opened.
fn available() -> u64 {
    static AVAILABLE: OnceLock<u64> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let machine = rustix::system::sysinfo();
        let machine = u64::from(machine.mem_unit).saturating_mul(machine.totalram);
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        of_groups(Path::new("/sys/fs/cgroup"), &groups).map_or(machine, |group| group.min(machine))
    })
}

/// The smallest limit of the control groups in the lines of `/proc/self/cgroup` and of their
/// ancestors (cgroups(7)). Inside a container only the innermost limit is visible.
fn of_groups(root: &Path, lines: &str) -> Option<u64> {
    let limit = |file: &Path| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let limits = lines.lines().filter_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (root, name, group) = match line.split_once(':')? {
            ("", group) => (root.to_owned(), "memory.max", group),
            (controllers, group) if controllers.split(',').any(|one| one == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes", group)
            }
            _ => return None,
        };
        let group = Path::new(group.trim_start_matches('/'));
        group.ancestors().filter_map(|group| limit(&root.join(group).join(name))).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_size_or_a_share() {
        for (text, memory) in [
            ("64MiB", Ok(Memory::Bytes(64 << 20))),
            ("50%", Ok(Memory::Percent(50))),
            ("100 %", Ok(Memory::Percent(100))),
            ("0%", Err(())),
            ("101%", Err(())),
            ("0", Err(())),
            ("plenty", Err(())),
        ] {
            assert_eq!(text.parse::<Memory>().map_err(drop), memory, "{text}");
        }
        assert!(Memory::Percent(50).bytes() > 0);
    }

    #[test]
    fn the_least_limit_of_the_groups_above_counts() {
        let root = tempfile::tempdir().expect("a directory");
        for (group, limit) in [
            ("system.slice", "1000\n"),
            ("system.slice/tidemill.service", "max\n"),
            ("memory/jail/inner", ""),
        ] {
            fs::create_dir_all(root.path().join(group)).expect("made");
            fs::write(root.path().join(group).join("memory.max"), limit).expect("written");
        }
        fs::write(root.path().join("memory/jail/memory.limit_in_bytes"), "700\n").expect("written");
        let of = |lines| of_groups(root.path(), lines);
        assert_eq!(of("0::/system.slice/tidemill.service\n"), Some(1000));
        assert_eq!(of("4:memory:/jail/inner\n3:cpu,cpuacct:/\n"), Some(700));
        assert_eq!(of("0::/\n"), None);
    }
}
