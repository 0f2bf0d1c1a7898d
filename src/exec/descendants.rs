//! The processes below this one, as `/proc` has them.

use std::{collections::HashMap, fs};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    id: i32,
    parent: i32,
    is_dead: bool,
    pub threads: u64,
    pub resident_pages: u64,
}

/// Returns the living descendants of this process.
pub fn descendants() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = entries.filter_map(|entry| {
        let name = entry.file_name();
        name.to_str()?.parse::<i32>().ok()?;
        parse(&fs::read_to_string(entry.path().join("stat")).ok()?)
    });
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut pending = vec![getpid().as_raw_nonzero().get()];
    while let Some(parent) = pending.pop() {
        for child in children.remove(&parent).into_iter().flatten() {
            pending.push(child.id);
            found.push(child);
        }
    }
    found.retain(|process| !process.is_dead);
    found
}

/// Returns the number of threads of this process's user, on the whole machine.
pub fn threads_of_user() -> u64 {
    use std::os::unix::fs::MetadataExt;
    let user = rustix::process::getuid().as_raw();
    let is_own = |entry: &fs::DirEntry| entry.metadata().is_ok_and(|found| found.uid() == user);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten().filter(is_own);
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter_map(|stat| Some(parse(&stat)?.threads)).sum()
}

/// Parses `/proc/PID/stat` (`proc_pid_stat(5)`). The name in parentheses may contain anything.
fn parse(stat: &str) -> Option<Process> {
    let (id, rest) = stat.split_once(' ')?;
    let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Process {
        id: id.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        is_dead: matches!(*fields.first()?, "Z" | "X"),
        threads: number(17)?,
        resident_pages: number(21)?,
    })
}

/// Kills all descendants of this process, a subreaper, and returns the status of the child `leader`. What
/// leaves a process group, or forks meanwhile, is found again. Blocks while one of them cannot die.
pub fn kill_all(leader: Option<Pid>) -> Option<WaitStatus> {
    let mut of_leader = None;
    loop {
        for process in descendants() {
            if let Some(id) = Pid::from_raw(process.id) {
                // It may have ended.
                kill_process(id, Signal::KILL).ok();
            }
        }
        // One of them at least, and then all that are dead by now: a fork bomb leaves thousands.
        let mut options = WaitOptions::empty();
        loop {
            match rustix::io::retry_on_intr(|| wait(options)) {
                Ok(Some((id, status))) if Some(id) == leader => of_leader = Some(status),
                Ok(Some(_)) => {}
                Ok(None) => break,
                // There is no child left.
                Err(_) => return of_leader,
            }
            options = WaitOptions::NOHANG;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_fields() {
        let fields = "S 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 99 4096 12 0";
        let parsed = parse(&format!("42 (a) R 1 (b) {fields}")).expect("parsed");
        let expected =
            Process { id: 42, parent: 7, is_dead: false, threads: 3, resident_pages: 12 };
        assert_eq!(parsed, expected);
        assert!(parse("42 (a").is_none());
        assert!(parse("42 (a) Z 1").is_none());
    }

    #[test]
    fn a_child_is_a_descendant_until_it_is_dead() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().expect("started");
        let id = i32::try_from(child.id()).expect("small");
        let is_there = || descendants().iter().any(|process| process.id == id);
        assert!(is_there());
        child.kill().expect("killed");
        while is_there() {
            std::thread::yield_now();
        }
        child.wait().expect("reaped");
    }
}
