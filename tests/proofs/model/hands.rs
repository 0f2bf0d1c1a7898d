//! What producers, consumers and others do to the tree, and what the model keeps of it.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::Path,
    time::Duration,
};

use crate::{
    model::{
        steps::{Hand, Size},
        world::{World, hash, output_of, temporary_of},
    },
    neighbour::{ANOTHER_LEDGER, append, hold},
};

impl World {
    pub fn hand(&mut self, hand: Hand) {
        // What has the outputs' names before and after is what the service may have met.
        self.observe();
        match hand {
            Hand::Write(path, size) => self.write(path, size),
            Hand::MoveIn(path, size) => self.move_in(path, size),
            Hand::Begin(path, size) => self.begin(path, size),
            Hand::Finish(path) => self.finish(path),
            Hand::Redeliver(path, size) => self.redeliver(path, size),
            Hand::Append(path) => self.append(path),
            Hand::Remove(path) => self.remove(path),
            Hand::Rename(from, to) => self.rename(from, to),
            Hand::MakeDirectory(path) => self.make_directory(path),
            Hand::Take(which) => self.take_output(which),
            Hand::Foreign(path) => self.foreign(path),
            Hand::ForeignDirectory(path) => self.foreign_directory(path),
            Hand::ForeignLine(path) => self.foreign_line(path),
            Hand::HoldLedger(transaction, millis) => {
                let (ledger, time) = (self.ledger(), Duration::from_millis(millis));
                self.others.push(std::thread::spawn(move || hold(&ledger, transaction, time)));
            }
            Hand::Hang(millis) => {
                let hangs = self.disks.iter().map(|disk| disk.hang(Duration::from_millis(millis)));
                self.others.extend(hangs);
                return;
            }
        }
        self.observe();
    }

    /// As [`Self::hand`], while the service runs: without what a user must not do then. A file
    /// whose source is to be removed is replaced, not rewritten (its last bytes might be written
    /// in the instant between the last look at it and its removal), and an output that may be
    /// replaced is not taken (the consumer might take what is not acknowledged yet). On an input whose file
    /// system does not say who writes, every file is moved in.
    pub fn act_next_to_the_service(&mut self, hand: Hand) {
        let replaces = ["update", "replace"].contains(&self.on_exists);
        let may_write = self.on_success == "keep" && !self.served.has_input();
        match hand {
            Hand::Write(path, size) if !may_write => self.hand(Hand::MoveIn(path, size)),
            Hand::Append(_) if !may_write => {}
            Hand::Take(_) if replaces => {}
            Hand::Foreign(path) if self.whole("out", &output_of(path)).exists() => {}
            hand => self.hand(hand),
        }
    }

    /// A content that nobody has seen: of a length of its own.
    fn content(&mut self, size: Size) -> Vec<u8> {
        self.written += 1;
        let bytes = match size {
            Size::Small => 100,
            Size::Large => 300_000,
        };
        let line = format!("this is content {}\n", self.written);
        let line = line.as_bytes().iter().copied().cycle();
        line.take(bytes + self.written).collect()
    }

    fn write(&mut self, path: &'static str, size: Size) {
        let whole = self.whole("in", path);
        if whole.is_dir() || !self.make_parent(&whole) {
            return;
        }
        let content = self.content(size);
        self.appears(path, content.clone());
        fs::write(whole, content).expect("write");
    }

    fn move_in(&mut self, path: &'static str, size: Size) {
        // Elsewhere is another file system.
        if self.served.has_input() {
            self.begin(path, size);
            return self.finish(path);
        }
        let whole = self.whole("in", path);
        if whole.is_dir() || !self.make_parent(&whole) {
            return;
        }
        let content = self.content(size);
        let temporary = self.tree.path("temporary");
        fs::write(&temporary, &content).expect("write");
        self.appears(path, content);
        fs::rename(temporary, whole).expect("rename");
    }

    fn begin(&mut self, path: &'static str, size: Size) {
        let whole = self.whole("in", &temporary_of(path));
        if self.make_parent(&whole) {
            let content = self.content(size);
            fs::write(whole, &content).expect("write");
            self.begun.insert(path, content);
        }
    }

    fn finish(&mut self, path: &'static str) {
        let whole = self.whole("in", path);
        if whole.is_dir() {
            return;
        }
        if let Some(content) = self.begun.remove(path) {
            self.appears(path, content);
            fs::rename(self.whole("in", &temporary_of(path)), whole).expect("rename");
        }
    }

    fn redeliver(&mut self, path: &'static str, size: Size) {
        if self.is_disposed_of(path) {
            self.begin(path, size);
            self.finish(path);
        }
    }

    fn append(&mut self, path: &'static str) {
        let Ok(mut file) = fs::File::options().append(true).open(self.whole("in", path)) else {
            return;
        };
        let more = self.content(Size::Small);
        let content = [self.now[path].as_slice(), &more].concat();
        self.appears(path, content);
        file.write_all(&more).expect("append");
    }

    fn remove(&mut self, path: &str) {
        // One that the service has taken is the service's.
        if fs::remove_file(self.whole("in", path)).is_ok() {
            self.now.remove(path);
        }
    }

    fn rename(&mut self, from: &'static str, to: &'static str) {
        let (source, target) = (self.whole("in", from), self.whole("in", to));
        let is_file = source.symlink_metadata().is_ok_and(|found| found.is_file());
        if !is_file || target.is_dir() || from == to || !self.make_parent(&target) {
            return;
        }
        // It appears before it is there: a running service may be quick.
        let before = (self.now.clone(), self.appeared.clone(), self.holders.clone());
        self.appears(to, self.now[from].clone());
        match fs::rename(source, target) {
            Ok(()) => drop(self.now.remove(from)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "the service took it");
                (self.now, self.appeared, self.holders) = before;
            }
        }
    }

    fn make_directory(&self, path: &str) {
        let whole = self.whole("in", path);
        if self.make_parent(&whole) {
            // Where a file has the name, it stays.
            fs::create_dir(whole).ok();
        }
    }

    /// A consumer takes acknowledged outputs, and only as they were acknowledged.
    fn take_output(&mut self, which: u8) {
        let mut lines = self.acknowledged();
        lines.retain(|line| !self.taken.contains(&line.id) && self.is_as_acknowledged(line));
        if !lines.is_empty() {
            let line = &lines[usize::from(which) % lines.len()];
            fs::remove_file(self.whole("out", &line.output)).expect("take");
            self.taken.insert(line.id);
            self.figures.taken += 1;
        }
    }

    /// Only where the name is free, or what has it was acknowledged.
    fn foreign(&mut self, path: &str) {
        let output = output_of(path);
        let whole = self.whole("out", &output);
        let lines = self.acknowledged();
        let theirs = lines.iter().rev().find(|line| line.output == output);
        let acknowledged = theirs.filter(|line| self.is_as_acknowledged(line));
        if !self.make_parent(&whole) {
            return;
        }
        let content = self.content(Size::Small);
        if let Some(line) = acknowledged {
            self.taken.insert(line.id);
            fs::write(whole, &content).expect("write");
        } else {
            let new = fs::File::options().write(true).create_new(true).open(whole);
            let Ok(mut file) = new else { return };
            file.write_all(&content).expect("write");
        }
        self.foreign.insert(output, content);
    }

    fn foreign_directory(&self, path: &str) {
        let whole = self.whole("out", &output_of(path));
        if self.make_parent(&whole) {
            fs::create_dir(whole).ok();
        }
    }

    fn foreign_line(&self, path: &str) {
        let Some(content) = self.now.get(path) else { return };
        let line = serde_json::json!({
            "time": "2026-01-01T00:00:00Z",
            "id": self.acknowledged().iter().map(|line| line.id).max().unwrap_or(0) + 1,
            "ledger": ANOTHER_LEDGER,
            "pipeline": "main",
            "outcome": "published",
            "source": path,
            "source_bytes": content.len(),
            "output": output_of(path),
            "source_hash": hash(content),
            "output_hash": hash(b"of another service"),
        });
        append(&self.tree.path("events"), &line);
    }

    /// Whether the file's directory is there now: not where a file has a part of its path.
    #[expect(clippy::unused_self, reason = "one of the hands")]
    fn make_parent(&self, path: &Path) -> bool {
        fs::create_dir_all(path.parent().expect("a parent")).is_ok()
    }
}
