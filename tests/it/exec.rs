//! Programs of a user as transforms: what they make is published once, and nothing of them is left.

mod hostile;
mod stop;

use std::{fs, path::Path, process::Command, time::Duration};

use crate::harness::{self, Service, Tree};

/// A tree whose pipeline has these transforms, `[exec.…]` tables and further keys.
struct Setting {
    tree: Tree,
    /// A variable that every program has, by which it is found.
    mark: String,
}

impl Setting {
    fn new(transforms: &str, programs: &[(&str, &str)], keys: &str) -> Self {
        let tree = Tree::new();
        let mark = format!("MARK={}", tree.path("").display());
        let table = |(name, keys): &(&str, &str)| {
            format!("[exec.{name}]\nenvironment = [{mark:?}]\n{keys}\n")
        };
        let tables = programs.iter().map(table).collect::<Vec<_>>().concat();
        let config = format!(
            "state_dir = \"state\"\nevents = \"events\"\n{tables}\n[[pipeline]]\ninput = \"in\"\n\
             output = \"out\"\non_success = \"delete\"\nbackoff = \"1ms\"\nsettle = \"0s\"\n\
             transforms = {transforms:?}\n{keys}\n"
        );
        fs::write(tree.path("t.toml"), config).expect("write");
        Self { tree, mark }
    }

    /// A shell as the program, with its standard input and output.
    fn shell(script: &str, keys: &str) -> Self {
        let command = format!("command = [\"/bin/sh\", \"-c\", {script:?}]\n{keys}");
        Self::new("exec:p", &[("p", &command)], "attempts = 2")
    }

    fn start(&self) -> Service {
        self.tree.configured("t.toml").spawn().expect("start").into()
    }

    fn once(&self) -> i32 {
        let mut command = self.tree.configured("t.toml");
        let service: Service = command.arg("--once").spawn().expect("start").into();
        service.wait()
    }

    fn output(&self, name: &str) -> Vec<u8> {
        fs::read(self.tree.path("out").join(name)).unwrap_or_else(|error| {
            panic!("{name}: {error}\n{}", self.tree.log());
        })
    }

    /// The reason for which a file was quarantined: its code and its text.
    fn reason(&self, name: &str) -> (String, String) {
        let path = self.tree.path("state/quarantine/main").join(format!("{name}.json"));
        let text = fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", path.display(), self.tree.log()));
        let reason: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let of = |key: &str| reason[key].as_str().unwrap_or_default().to_owned();
        (of("reason_code"), of("error"))
    }

    /// The processes that have the mark in their environment.
    fn processes(&self) -> Vec<String> {
        let has_mark = |path: &Path| {
            let environment = fs::read(path.join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == self.mark.as_bytes())
        };
        let all = fs::read_dir("/proc").expect("list").flatten().map(|entry| entry.path());
        all.filter(|path| has_mark(path))
            .map(|path| fs::read_to_string(path.join("cmdline")).unwrap_or_default())
            .collect()
    }

    /// No process and no directory of a run is left.
    fn assert_nothing_left(&self) {
        assert_eq!(self.processes(), Vec::<String>::new());
        let runs = fs::read_dir(self.tree.path("state/exec")).map_or(0, Iterator::count);
        assert_eq!(runs, 0, "directories of runs");
    }
}

#[test]
fn a_program_between_two_codecs_gets_and_gives_every_byte() {
    let upper = "command = [\"/usr/bin/tr\", \"a-z\", \"A-Z\"]";
    let mut setting = Setting::new("gunzip,exec:upper,zstd", &[("upper", upper)], "");
    let large = "a line of a large file that crosses in chunks\n".repeat(200_000);
    let contents = [("empty", String::new()), ("small", "one line\n".to_owned()), ("large", large)];
    for (name, content) in &contents {
        let path = setting.tree.path(name);
        fs::write(&path, content).expect("write");
        assert!(Command::new("gzip").arg(&path).status().expect("gzip").success());
        let packed = fs::read(setting.tree.path(&format!("{name}.gz"))).expect("read");
        setting.tree.put(&format!("d/{name}.gz"), &packed);
    }
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    for (name, content) in &contents {
        let output =
            harness::decode(&mut harness::decoder(), &setting.output(&format!("d/{name}.zst")));
        assert_eq!(output, content.to_uppercase().into_bytes(), "{name}");
    }
    assert_eq!(setting.tree.files("in"), Vec::<std::path::PathBuf>::new());
    setting.assert_nothing_left();
}

#[test]
fn a_program_that_wants_files_gets_files_with_the_right_names() {
    let script = "cat \"$1\" > \"$2\"; basename \"$1\" >> \"$2\"; basename \"$2\" >> \"$2\"; \
                  echo \"$TIDEMILL_SOURCE $TIDEMILL_NAME\" >> \"$2\"; echo left > \"$HOME/more\"";
    let keys = format!(
        "command = [\"/bin/sh\", \"-c\", {script:?}, \"sh\", \"{{in}}\", \"{{out}}\"]\n\
         extension = \".pdf\"\nreplaces = \".docx\""
    );
    let mut setting = Setting::new("gunzip,exec:pdf", &[("pdf", &keys)], "");
    let path = setting.tree.path("-a b.docx");
    fs::write(&path, "text\n").expect("write");
    assert!(Command::new("gzip").arg("--").arg(&path).status().expect("gzip").success());
    let packed = fs::read(setting.tree.path("-a b.docx.gz")).expect("read");
    setting.tree.put("d/-a b.docx.gz", &packed);
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    let text = String::from_utf8(setting.output("d/-a b.pdf")).expect("text");
    assert_eq!(text, "text\n-a b.docx\n-a b.pdf\nd/-a b.docx.gz -a b.docx\n");
    setting.assert_nothing_left();
}

/// What it makes differs each time: a kept source is not processed again, and a restart publishes nothing.
#[test]
fn an_output_that_differs_each_time_is_published_once() {
    let mut setting = Setting::shell("date +%N; cat", "");
    let config = fs::read_to_string(setting.tree.path("t.toml")).expect("read");
    fs::write(setting.tree.path("t.toml"), config.replace("\"delete\"", "\"keep\""))
        .expect("write");
    setting.tree.put("a", b"content\n");
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    let first = setting.output("a");
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    assert_eq!(setting.output("a"), first);
    let events = fs::read_to_string(setting.tree.path("events")).expect("read");
    assert_eq!(events.matches("\"published\"").count(), 1, "{events}");
}

/// The ledger knows which program it was, so `reprocess` finds what another one has made.
#[test]
fn a_changed_program_is_noticed() {
    let mut setting = Setting::shell("echo one; cat", "");
    let file = setting.tree.path("t.toml");
    let change = |from: &str, to: &str| {
        let config = fs::read_to_string(&file).expect("read");
        fs::write(&file, config.replace(from, to)).expect("write");
    };
    change("\"delete\"", "\"keep\"");
    setting.tree.put("a", b"content\n");
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    change("echo one", "echo two");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["reprocess", "--changed-transforms", "--config", "t.toml"]);
    let output = command.current_dir(setting.tree.path("")).output().expect("reprocess");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    assert_eq!(setting.output("a"), b"two\ncontent\n");
}

#[test]
fn a_program_that_pauses_its_pipeline_is_asked_again_and_no_attempt_counts() {
    let mut setting =
        Setting::shell("test -e \"$FLAG\" || { echo not yet >&2; exit 75; }; cat", "");
    let flag = setting.tree.path("flags/flag");
    fs::create_dir(setting.tree.path("flags")).expect("directory");
    let file = setting.tree.path("t.toml");
    let config = fs::read_to_string(&file).expect("read");
    let more = format!("environment = [\"FLAG={}\", ", flag.display());
    let config = config.replace("environment = [", &more);
    let read = format!("read = [{:?}]\ncommand =", setting.tree.path("flags"));
    fs::write(&file, config.replace("command =", &read)).expect("write");
    setting.tree.put("a", b"content\n");
    let service = setting.start();
    harness::until("the pipeline pauses", || setting.tree.log().contains("not yet"));
    fs::write(&flag, "").expect("write");
    harness::until("it is published", || setting.tree.path("out/a").exists());
    service.signal(rustix::process::Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", setting.tree.log());
    assert!(setting.tree.log().contains("event=intake.paused"), "{}", setting.tree.log());
    setting.assert_nothing_left();
}

#[test]
fn a_reload_with_another_program_is_refused() {
    let setting = Setting::shell("cat", "");
    let service = setting.start();
    harness::until("it is ready", || setting.tree.log().contains("phase=READY"));
    let file = setting.tree.path("t.toml");
    let config = fs::read_to_string(&file).expect("read");
    fs::write(&file, config.replace("\"cat\"", "\"tac\"")).expect("write");
    service.signal(rustix::process::Signal::HUP);
    harness::until("it is refused", || {
        setting.tree.log().lines().any(|line| line.contains("reload") && line.contains("exec"))
    });
    service.signal(rustix::process::Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", setting.tree.log());
}

const MOMENT: Duration = Duration::from_millis(300);

/// Each run waits for the other one: a worker that took both files would do so in vain.
#[test]
fn programs_run_side_by_side_however_few_files_there_are() {
    let meeting = tempfile::tempdir().expect("a directory");
    let path = meeting.path().display();
    let script =
        format!("cat; : > {path}/$$; until [ $(ls {path} | wc -l) -ge 2 ]; do sleep 0.01; done");
    let command = format!(
        "command = [\"/bin/sh\", \"-c\", {script:?}]\nread = [\"{path}\"]\nwrite = [\"{path}\"]\n\
         memory = \"32MiB\"\ntimeout = \"20s\""
    );
    let keys = "attempts = 1\n[limits]\nworkers = 2";
    let mut setting = Setting::new("exec:p", &[("p", &command)], keys);
    for name in ["a", "b"] {
        setting.tree.put(name, name.as_bytes());
    }
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    for name in ["a", "b"] {
        assert_eq!(setting.output(name), name.as_bytes());
    }
    setting.assert_nothing_left();
}
