//! Each state is mounted, judged, recovered by the service, and judged again.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use crate::{
    harness::Service,
    mounts::own_mounts,
    powerloss::{
        check::{Examiner, Seen, Violation, evidence},
        disk::Op,
        known::{Mark, lines, whole},
        record::{Recording, command, log},
        scenario::{Places, Scenario},
        states::{Pending, Replay, State},
        system::{Mounted, own_boot},
    },
    prove::Random,
};

/// How many states are examined at a time: one for each processor of a small machine.
const WORKERS: usize = 2;
/// One state of this many is started a second time, which must change nothing.
const AGAIN: usize = 8;

/// A state that breaks the promise.
#[derive(Debug)]
#[expect(dead_code, reason = "read by `Debug`")]
pub struct Broken {
    pub state: String,
    pub violations: Vec<Violation>,
    pub log: String,
}

/// What came of the states of one recording.
#[derive(Debug, Default)]
pub struct Found {
    pub states: usize,
    pub broken: Vec<Broken>,
}

/// Examines up to `count` states of a recording, spread over it by the seed, and those just after
/// its clean stop. Stops soon after one that breaks the promise.
pub fn examine(root: &Path, recording: &Recording, count: usize, failpoints: &str) -> Found {
    let (states, queue) = mpsc::sync_channel::<(usize, State)>(WORKERS);
    let queue = Arc::new(Mutex::new(queue));
    let (results, findings) = mpsc::channel();
    thread::scope(|scope| {
        for number in 0..WORKERS {
            let (queue, results) = (Arc::clone(&queue), results.clone());
            let own = root.join(format!("worker{number}"));
            let worker = Worker { root, own, recording, failpoints };
            scope.spawn(move || worker.run(&queue, &results));
        }
        drop((queue, results));
        let mut found = Found::default();
        let mut replay = Replay::new(recording, recording.scenario.seed);
        for (at, pending) in chosen(recording, count) {
            replay.go_to(at);
            if let Some(state) = replay.state(pending) {
                found.states += 1;
                states.send((found.states, state)).expect("a worker waits");
            }
            found.broken.extend(findings.try_iter().flatten());
            if !found.broken.is_empty() {
                break;
            }
        }
        drop(states);
        found.broken.extend(findings.into_iter().flatten());
        found
    })
}

/// Where to stop in the recording and what to do with what is pending there, in order.
fn chosen(recording: &Recording, count: usize) -> Vec<(usize, Pending)> {
    let mut all: Vec<_> = (0..=recording.ops.len())
        .flat_map(|at| Pending::ALL.map(|pending| (at, pending)))
        .collect();
    let mut random = Random::new(recording.scenario.seed);
    if all.len() > count {
        for place in 0..count {
            let other = random.below((all.len() - place) as u64);
            all.swap(place, place + usize::try_from(other).expect("an index"));
        }
        all.truncate(count);
        all.extend(just_after_the_stop(recording));
        all.sort_unstable_by_key(|(at, pending)| (*at, *pending as u8));
    }
    all
}

/// How many operations after a clean stop are looked at whole.
const AFTER_STOP: usize = 4;

/// A clean stop says that there is nothing to recover, and comes once in a recording.
fn just_after_the_stop(recording: &Recording) -> impl Iterator<Item = (usize, Pending)> {
    let stopped = recording.ops.iter().position(|op| matches!(op, Op::Mark(Mark::Stopped)));
    let end = recording.ops.len();
    let whole = stopped.map_or(end..end, |at| at..end.min(at + AFTER_STOP));
    whole.flat_map(|at| Pending::ALL.map(|pending| (at, pending)))
}

/// Mounts and examines states, in mounts and a directory of its own.
struct Worker<'a> {
    root: &'a Path,
    own: PathBuf,
    recording: &'a Recording,
    /// Of the starts that recover.
    failpoints: &'a str,
}

impl Worker<'_> {
    fn run(
        &self,
        queue: &Mutex<mpsc::Receiver<(usize, State)>>,
        results: &mpsc::Sender<Option<Broken>>,
    ) {
        own_mounts().expect("mounts of its own");
        fs::create_dir_all(&self.own).expect("directory");
        let boot = own_boot(&self.own).expect("a start of the machine");
        boot.start("replayed").expect("a start of the machine");
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((number, state)) = next else { return };
            let mut violations = self.examine(&state, number.is_multiple_of(AGAIN));
            if !violations.is_empty() && !self.failpoints.contains("barrier::") {
                // A state is the same each time. Where the next look at it differs, the rig or the kernel
                // is at fault.
                let again = self.examine(&state, false);
                violations.push(format!("examined again: {} violations", again.len()));
                violations.push(format!("kept in {}", self.keep(&state).display()));
            }
            let broken = (!violations.is_empty()).then(|| Broken {
                state: state.to_string(),
                violations,
                log: log(&self.events()),
            });
            // Nobody listens any more where another worker's panic ended the test.
            results.send(broken).ok();
        }
    }

    fn events(&self) -> PathBuf {
        self.own.join("events")
    }

    /// Keeps the disks and the events file of a state; they can be mounted.
    fn keep(&self, state: &State) -> PathBuf {
        let Scenario { kind, seed, .. } = self.recording.scenario;
        let name = format!("{}-{seed}-{}-{:?}", kind.name(), state.at, state.pending);
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/broken").join(name);
        fs::create_dir_all(&kept).expect("directory");
        fs::write(kept.join("events"), &state.events).expect("events");
        for (number, disk) in state.disks.iter().enumerate() {
            disk.store(&kept.join(format!("disk{number}.img")), kind.size()).expect("a disk");
        }
        kept
    }

    fn examine(&self, state: &State, again: bool) -> Vec<Violation> {
        let scenario = &self.recording.scenario;
        let places = Places::new(scenario.layout, self.root);
        let foreign = &self.recording.plan.foreign;
        fs::write(self.own.with_extension("log"), "").expect("an empty log");
        fs::write(self.events(), &state.events).expect("events");
        let mounts = match self.mount(state) {
            Ok(mounts) => mounts,
            Err(error) => return vec![format!("the file system does not mount: {error}")],
        };
        let before = Seen::look(&places, foreign);
        let judge = Examiner { recording: self.recording, known: &state.known, before };
        let mut violations = judge.before();
        let code = self.start();
        let events = fs::read(self.events()).expect("events");
        let after = Seen::look(&places, foreign);
        violations.extend(judge.after(&after, code, &events, &places));
        // Any program may have written them.
        if !events.starts_with(whole(&state.events)) {
            violations.push("a whole line of the events file is gone".to_owned());
        }
        if again && violations.is_empty() {
            let code = self.start();
            let more = fs::read(self.events()).expect("events");
            if ![0, 65].contains(&code) || lines(&more) != lines(&events) {
                violations.push(format!("a second start ended with {code} and acknowledged more"));
            }
            if Seen::look(&places, foreign) != after {
                violations.push("a second start changed something".to_owned());
            }
        }
        if !violations.is_empty() {
            violations.extend(evidence(&places));
        }
        for mounted in mounts {
            mounted.end().expect("unmount");
        }
        violations
    }

    fn mount(&self, state: &State) -> std::io::Result<Vec<Mounted>> {
        let kind = self.recording.scenario.kind;
        let mut mounts = Vec::new();
        for (number, disk) in state.disks.iter().enumerate() {
            let image = self.own.join(format!("disk{number}.img"));
            disk.store(&image, kind.size())?;
            let at = self.root.join(format!("disk{number}"));
            mounts.push(Mounted::new(kind, &image, &at)?);
        }
        Ok(mounts)
    }

    fn start(&self) -> i32 {
        let mut command = command(self.root, &self.events());
        command.arg("--once").env("FAILPOINTS", self.failpoints);
        Service::from(command.spawn().expect("start")).wait()
    }
}
