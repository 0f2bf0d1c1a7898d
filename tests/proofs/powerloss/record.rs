//! A run of the service on disks that are recorded.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    harness::{Service, until, wait_for},
    powerloss::{
        check::{Seen, TOUCHED, attributes},
        disk::{Op, Pages, Served, Tape},
        hands::{self, Rename, Scribe, When},
        known::{Known, Mark, lines},
        scenario::{
            self, DIRECTORIES, Delivery, FIRST_LEVEL, Interruption, Places, Plan, Request,
            SECOND_LEVEL, Scenario,
        },
        serve,
        states::State,
        system::{Boot, Kind, Mounted, own_boot},
    },
};

/// What was recorded, and what it began from.
#[derive(Clone, Debug)]
pub struct Recording {
    pub scenario: Scenario,
    pub plan: Plan,
    /// The disks before the first operation.
    pub base: Vec<Pages>,
    /// The events file before it: all of it is durable.
    pub base_events: Vec<u8>,
    /// What was known before it.
    pub known: Known,
    /// The sources as an earlier power loss left them: what their producers never made durable may
    /// be cut short in them, and be processed so.
    pub left: BTreeMap<PathBuf, Vec<u8>>,
    pub ops: Vec<Op<Mark>>,
}

/// Where recordings are made: a directory that is mounted over, and the disks' server.
pub struct Studio {
    pub root: PathBuf,
    pub tape: Tape<Mark>,
    served: Served,
    boot: Boot,
    /// Unmounts when it is dropped.
    _session: fuser::BackgroundSession,
}

impl Studio {
    /// Needs root, FUSE and loop devices; the mounts are this thread's own.
    pub fn new(root: &Path, kind: Kind) -> std::io::Result<Self> {
        for directory in ["tape", "disk0", "disk1"] {
            fs::create_dir_all(root.join(directory))?;
        }
        let tape = Tape::new();
        tape.rewind(vec![Pages::default(); 2], Vec::new());
        let served = Served { root: root.join("tape") };
        let session = serve::serve(&tape, kind.size(), &served.root)?;
        let boot = own_boot(root)?;
        Ok(Self { root: root.to_path_buf(), tape, served, boot, _session: session })
    }

    /// Runs a scenario from fresh disks to its end.
    pub fn record(&self, scenario: Scenario, failpoints: &str) -> Recording {
        let plan = Plan::new(&scenario);
        let base = self.fresh_disks(&scenario, &plan);
        self.tape.rewind(base.clone(), Vec::new());
        self.configure(&scenario.at_first());
        let mounts = self.mount(&scenario);
        self.boot.start("recorded").expect("a start of the machine");
        self.run(&scenario, &plan, failpoints);
        unmount(mounts);
        let ops = self.tape.take();
        let (base_events, known, left) = Default::default();
        Recording { scenario, plan, base, base_events, known, left, ops }
    }

    /// Records what a start on these disks does.
    pub fn record_recovery(&self, of: &Recording, state: State, failpoints: &str) -> Recording {
        let State { disks, events, known, .. } = state;
        self.tape.rewind(disks.clone(), events.clone());
        let mounts = self.mount(&of.scenario);
        self.boot.start("recovered").expect("a start of the machine");
        let events_at = self.served.events();
        let places = Places::new(of.scenario.layout, &self.root);
        let left = Seen::look(&places, &of.plan.foreign).input;
        // What the mount itself wrote is of the state before.
        let base = self.tape.disks();
        self.tape.take();
        let mut command = command(&self.root, &events_at);
        command.arg("--once").env("FAILPOINTS", failpoints);
        let code = Service::from(command.spawn().expect("start")).wait();
        assert!([0, 65].contains(&code), "{}: recovery ended with {code}", of.scenario);
        unmount(mounts);
        let ops = self.tape.take();
        let (scenario, plan) = (of.scenario, of.plan.clone());
        Recording { scenario, plan, base, base_events: events, known, left, ops }
    }

    /// Records what `act` does on a disk on which `prepare` was called; with a service on it that is
    /// ready, if one with these failpoints is asked for, until it has acknowledged this many outcomes.
    pub fn record_act(
        &self,
        scenario: &Scenario,
        prepare: fn(&Path),
        act: impl FnOnce(&Places),
        service: Option<(&str, usize)>,
    ) -> Vec<Op<Mark>> {
        self.tape.rewind(self.empty_disks(scenario), Vec::new());
        self.configure(scenario);
        let mounts = self.mount(scenario);
        let places = Places::new(scenario.layout, &self.root);
        prepare(&places.input);
        let events = self.served.events();
        fs::write(log_next_to(&events), "").expect("an empty log");
        let running = service.map(|(failpoints, _)| {
            let mut command = command(&self.root, &events);
            let child = command.env("FAILPOINTS", failpoints).spawn();
            Service::from(child.expect("start"))
        });
        until("it is ready", || service.is_none() || log(&events).contains("phase=READY"));
        self.tape.take();
        act(&places);
        let acknowledged = || lines(&self.tape.events()).len();
        until("all outcomes", || service.is_none_or(|(_, outcomes)| acknowledged() >= outcomes));
        let ops = self.tape.take();
        drop(running);
        unmount(mounts);
        ops
    }

    fn configure(&self, scenario: &Scenario) {
        let text = scenario.configuration(&self.root);
        fs::write(self.root.join("tidemill.toml"), text).expect("configuration");
    }

    fn empty_disks(&self, scenario: &Scenario) -> Vec<Pages> {
        let image = self.root.join("fresh.img");
        let at = self.root.join("disk0");
        let disks = 0..scenario.layout.disks();
        let disks = disks.map(|_| {
            scenario.kind.fresh(&image, &at, &DIRECTORIES).expect("fresh disk");
            Pages::load(&image).expect("load")
        });
        let disks = disks.collect();
        fs::remove_file(image).expect("remove");
        disks
    }

    fn fresh_disks(&self, scenario: &Scenario, plan: &Plan) -> Vec<Pages> {
        let disks = self.empty_disks(scenario);
        // What another program put among the outputs is there, durably, from the start.
        self.tape.rewind(disks, Vec::new());
        let mounts = self.mount(scenario);
        let output = Places::new(scenario.layout, &self.root).output;
        for (path, content) in &plan.foreign {
            let path = output.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
            fs::write(path, content).expect("write");
        }
        unmount(mounts);
        self.tape.disks()
    }

    fn mount(&self, scenario: &Scenario) -> Vec<Mounted> {
        let disks = 0..scenario.layout.disks();
        disks
            .map(|disk| {
                let at = self.root.join(format!("disk{disk}"));
                Mounted::new(scenario.kind, &self.served.disk(disk), &at).expect("mount")
            })
            .collect()
    }

    fn run(&self, scenario: &Scenario, plan: &Plan, failpoints: &str) {
        let slow = if scenario.renamed { hands::TIME_TO_RENAME } else { "" };
        let failpoints = [failpoints, slow].join(";");
        let start = || {
            let mut command = command(&self.root, &self.served.events());
            command.env("FAILPOINTS", &failpoints);
            Service::from(command.spawn().expect("start"))
        };
        let input = Places::new(scenario.layout, &self.root).input;
        let handled = Arc::new(AtomicUsize::new(0));
        let consumer = scenario.consumer_takes.then(|| self.consume(scenario, &handled));
        let mut scribe = self.scribe(scenario, plan);
        let mut service = start();
        for (wave, deliveries) in plan.waves.iter().enumerate() {
            for delivery in deliveries {
                self.deliver(&input, plan, delivery, scenario);
                self.rename(&input, plan, delivery, When::AtOnce, scenario.producers_sync);
            }
            if let Some(scribe) = &mut scribe {
                scribe.write_strange();
            }
            if wave == 0 && scenario.interruption == Interruption::Kill {
                service.signal(Signal::KILL);
                service.wait();
                if let Some(scribe) = &mut scribe {
                    scribe.write_half();
                }
                self.configure(scenario);
                self.request(scenario);
                service = start();
            }
            if wave == 1 && scenario.reloaded {
                self.reload(&service);
            }
            for when in [When::Later, When::Acknowledged] {
                for delivery in deliveries {
                    self.rename(&input, plan, delivery, when, scenario.producers_sync);
                }
            }
            self.until_outcomes(scenario, plan, wave);
            let expected = lines(&self.tape.events()).len();
            let consumed = || consumer.is_none() || handled.load(Ordering::Acquire) >= expected;
            until("the consumer has seen them", consumed);
            if wave == 1 && scenario.touched {
                self.touch(scenario, plan);
            }
            if wave == 0 && scenario.interruption == Interruption::Term {
                service.signal(Signal::TERM);
                assert_eq!(service.wait(), 0, "{scenario}");
                self.configure(scenario);
                self.request(scenario);
                service = start();
            }
        }
        service.signal(Signal::TERM);
        let code = service.wait();
        assert_eq!(code, 0, "{scenario}\n{}", log(&self.served.events()));
        if scenario.interruption == Interruption::None {
            let wrong = hands::published_too_often(scenario, plan, &self.tape.events());
            assert!(wrong.is_empty(), "{scenario}: {wrong:?}\n{}", log(&self.served.events()));
        }
        self.tape.mark(Mark::Stopped);
        if let Some(consumer) = consumer {
            self.tape.stop_following();
            consumer.join().expect("the consumer");
        }
    }

    /// Reloads the service with outputs of another level.
    fn reload(&self, service: &Service) {
        let config = self.root.join("tidemill.toml");
        let text = fs::read_to_string(&config).expect("configuration");
        fs::write(config, text.replace(FIRST_LEVEL, SECOND_LEVEL)).expect("configuration");
        let reloads = || log(&self.served.events()).matches("event=config.reloaded").count();
        let before = reloads();
        // A signal would end it before it handles signals.
        let own = format!(" pid={} ", service.pid());
        let is_ready =
            |log: &str| log.split_once(&own).is_some_and(|(_, log)| log.contains("phase=READY"));
        until("it is ready", || is_ready(&log(&self.served.events())));
        service.signal(Signal::HUP);
        until("it is reloaded", || reloads() > before);
    }

    /// What an operator asks for while the service is down. After a kill a record may be unfinished, and refused.
    fn request(&self, scenario: &Scenario) {
        let Places { input, state, .. } = Places::new(scenario.layout, &self.root);
        let asked = |what: &str, of: &Path| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
            command.arg(what).arg("--state-dir").arg(&state).arg(of);
            let requested = command.output().expect("a request");
            let may_fail = scenario.interruption == Interruption::Kill;
            assert!(may_fail || requested.status.success(), "{scenario}: {requested:?}");
        };
        let lines = lines(&self.tape.events());
        match scenario.request {
            Request::None => {}
            Request::Requeue => {
                if lines.iter().any(|line| line.outcome == "quarantined") {
                    asked("requeue", Path::new("--all"));
                }
            }
            // What a consumer took would be published again.
            Request::Reprocess => {
                let published = lines.iter().filter(|line| line.outcome == "published");
                let left = published.filter(|line| !scenario.consumer_takes || line.id % 2 == 0);
                for line in left.filter(|line| input.join(&line.source).exists()).take(3) {
                    self.tape.mark(Mark::Requested { source: line.source.clone() });
                    asked("reprocess", &input.join(&line.source));
                }
            }
        }
    }

    /// The other program that writes into the events file, if there is one, after its first lines.
    fn scribe(&self, scenario: &Scenario, plan: &Plan) -> Option<Scribe> {
        let opened = scenario.foreign_lines.then(|| Scribe::open(&self.served.events(), scenario));
        let mut scribe = opened?.expect("the events file");
        scribe.write_strange();
        scribe.write_of_another_ledger(plan);
        Some(scribe)
    }

    /// Waits until each delivery up to this wave has an outcome.
    fn until_outcomes(&self, scenario: &Scenario, plan: &Plan, wave: usize) {
        let deliveries = || plan.waves[..=wave].iter().flatten();
        let are_there = || hands::have_outcomes(&self.tape.events(), plan, deliveries());
        let is_done = wait_for(are_there);
        assert!(is_done, "{scenario}: outcomes in vain\n{}", log(&self.served.events()));
    }

    /// Renames the source of a delivery, if it is to be renamed then.
    fn rename(&self, input: &Path, plan: &Plan, delivery: &Delivery, when: When, sync: bool) {
        let from = &delivery.source;
        let Some(Rename { to, .. }) = plan.renames.get(from).filter(|it| it.when == when) else {
            return;
        };
        if when == When::Acknowledged {
            let is_there = || lines(&self.tape.events()).iter().any(|line| line.source == *from);
            until("the line of a source that is to be renamed", is_there);
        }
        let (source, version) = (to.clone(), delivery.version);
        self.tape.mark(Mark::Begun { source: source.clone(), version });
        let is_renamed = hands::rename(input, from, to, sync).expect("rename");
        if is_renamed && sync {
            self.tape.mark(Mark::Durable { source, version });
        }
    }

    /// Gives every third source another mode and another time, where its output is still there, and waits
    /// until that has them too. Where it was taken, a file with a new time is a new delivery.
    fn touch(&self, scenario: &Scenario, plan: &Plan) {
        let Places { input, output, .. } = Places::new(scenario.layout, &self.root);
        let acknowledged = lines(&self.tape.events());
        for source in plan.contents.keys().step_by(3) {
            // With `fail` a newer version may be in quarantine: nothing follows that one.
            let last = acknowledged.iter().rfind(|line| line.source == *source);
            let published = last.filter(|line| line.outcome == "published");
            let Some(made) = published.and_then(|line| line.output.as_ref()) else { continue };
            let (path, made) = (input.join(source), output.join(made));
            // It may have been renamed, too.
            if !made.exists() || !path.exists() {
                continue;
            }
            let file = fs::File::options().append(true).open(&path).expect("a kept source");
            let (mode, mtime_ns) = TOUCHED;
            file.set_permissions(fs::Permissions::from_mode(mode)).expect("a mode");
            let modified = Duration::from_nanos(mtime_ns.unsigned_abs());
            file.set_modified(std::time::UNIX_EPOCH + modified).expect("a time");
            drop(file);
            // With `replace` a new time is a new delivery, whose output the consumer may take.
            let followed =
                || attributes(&made).is_none_or(|found| Some(found) == attributes(&path));
            assert!(
                wait_for(followed),
                "{scenario}: {} has another mode and time than {}\n{}",
                made.display(),
                path.display(),
                log(&self.served.events())
            );
        }
    }

    fn deliver(&self, input: &Path, plan: &Plan, delivery: &Delivery, scenario: &Scenario) {
        let (sync, marked) = (scenario.producers_sync, scenario.marked);
        let (source, version) = (delivery.source.clone(), delivery.version);
        let begun = || self.tape.mark(Mark::Begun { source: source.clone(), version });
        scenario::deliver(input, delivery, plan.content(delivery), (sync, marked), begun)
            .expect("deliver");
        if sync {
            self.tape.mark(Mark::Durable { source: source.clone(), version });
        }
    }

    /// Takes every other output as soon as its line is there, away or to the next pipeline.
    fn consume(&self, scenario: &Scenario, handled: &Arc<AtomicUsize>) -> JoinHandle<()> {
        let Places { output, next, .. } = Places::new(scenario.layout, &self.root);
        let is_fed = scenario.fed;
        let (tape, more, handled) = (self.tape.clone(), self.tape.follow(), Arc::clone(handled));
        std::thread::spawn(move || {
            while more.recv().is_ok() {
                let lines = lines(&tape.events());
                for line in lines.iter().skip(handled.load(Ordering::Acquire)) {
                    if let Some(path) = line.output.as_ref().filter(|_| line.id % 2 == 1) {
                        tape.mark(Mark::Taken { id: line.id });
                        let path = output.join(path);
                        let taken = if is_fed {
                            fs::rename(path, next.join(format!("{}.zst", line.id)))
                        } else {
                            fs::remove_file(path)
                        };
                        taken.expect("an acknowledged output is there");
                    }
                }
                handled.store(lines.len(), Ordering::Release);
            }
        })
    }
}

/// The service on the mounted disks.
pub fn command(root: &Path, events: &Path) -> Command {
    let mut command = without_events(root, &log_next_to(events));
    command.arg("--events").arg(events);
    command
}

/// As [`command`], with its log in this file, and no events file.
pub fn without_events(root: &Path, log: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    let log = fs::File::options().append(true).create(true).open(log).expect("log");
    command
        .args(["run", "--config"])
        .arg(root.join("tidemill.toml"))
        .env("RUST_LOG", "info")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command
}

/// Where the service's log goes: next to the directory that the events file is in.
fn log_next_to(events: &Path) -> PathBuf {
    events.parent().expect("a directory").with_extension("log")
}

pub fn log(events: &Path) -> String {
    fs::read_to_string(log_next_to(events)).unwrap_or_default()
}

fn unmount(mounts: Vec<Mounted>) {
    for mounted in mounts {
        mounted.end().expect("unmount");
    }
}
