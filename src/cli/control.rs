//! `tidemill status`, `pause`, `resume` and `drain`: a service that runs, looked at and steered.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::{
    runtime::{Builder, Runtime},
    time::interval,
};

use super::{
    args::{Drain, Status, Steer},
    client::{Client, NotRunning},
    complain, format, print,
};
use crate::{
    error::Exit,
    fs::{Lock, LockError},
    lifecycle::{Deadlines, Lifecycle, Signals},
    service::ExitRecord,
};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Takes the whole screen, and hides the cursor; and gives them back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner, and everything below it goes.
const AGAIN: &str = "\x1b[H\x1b[J";

pub fn status(options: &Status) -> anyhow::Result<Exit> {
    if options.watch && !std::io::stdout().is_terminal() {
        let text = "error: `--watch` needs a terminal: `tidemill status --json` is for programs";
        return Ok(complain(text, Exit::Usage));
    }
    let client = Client::find(&options.place)?;
    if options.watch {
        return watch(&client);
    }
    let status = client.get("/api/v1/status")?;
    let text = if options.json { format!("{status}\n") } else { format::status(&status) };
    print(&text);
    Ok(Exit::Drained)
}

pub fn pause(options: &Steer) -> anyhow::Result<Exit> {
    steer(options, "pause", "paused: nothing new is taken, what is in work goes on")
}

pub fn resume(options: &Steer) -> anyhow::Result<Exit> {
    steer(options, "resume", "resumed")
}

fn steer(options: &Steer, what: &str, done: &str) -> anyhow::Result<Exit> {
    let client = Client::find(&options.place)?;
    client.post(&format!("/api/v1/{what}"), &json!({ "pipeline": options.pipeline }))?;
    let which = options.pipeline.as_ref().map_or_else(String::new, |name| format!("{name} is "));
    print(&format!("{which}{done}\n"));
    Ok(Exit::Drained)
}

/// Runs something that Ctrl-C is to end in good order.
fn until_interrupted<T>(
    run: impl AsyncFnOnce(&Lifecycle) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let signals = Signals::register().context("cannot catch signals")?;
    let runtime: Runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let life = Lifecycle::new(Deadlines::default(), signals)?;
        let ran = run(&life).await;
        life.stop().await;
        ran
    })
}

/// The terminal is given back however this ends.
struct Screen;

impl Screen {
    fn enter() -> Self {
        print(ENTER);
        Self
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        print(LEAVE);
        drop(std::io::stdout().flush());
    }
}

fn watch(client: &Client) -> anyhow::Result<Exit> {
    // Told before the screen changes, where nothing runs.
    client.get("/api/v1/status")?;
    until_interrupted(async |life| {
        let _screen = Screen::enter();
        let closing = life.handle().closing();
        let mut every = interval(EVERY);
        let mut last = None;
        loop {
            tokio::select! {
                () = closing.cancelled() => return Ok(Exit::Drained),
                _ = every.tick() => {}
            }
            let status = client.get("/api/v1/status")?;
            let work = client.get("/api/v1/work")?;
            print(&format!("{AGAIN}{}", format::live(&status, &work, last.as_ref())));
            std::io::stdout().flush()?;
            last = Some(status);
        }
    })
}

pub fn drain(options: &Drain) -> anyhow::Result<Exit> {
    let client = Client::find(&options.place)?;
    let (before, asked) = (ExitRecord::read(client.state_dir()), Instant::now());
    client.post("/api/v1/drain", &json!({}))?;
    if !options.wait {
        print("draining: the service finishes the files in flight, then exits\n");
        return Ok(Exit::Drained);
    }
    until_interrupted(async |life| {
        let closing = life.handle().closing();
        let mut every = interval(EVERY);
        loop {
            tokio::select! {
                () = closing.cancelled() => bail!("interrupted: the service keeps draining"),
                _ = every.tick() => {}
            }
            if has_ended(&client, asked)? {
                return Ok(how_it_ended(&client, before.as_ref()));
            }
        }
    })
}

/// Whether the service's process is through, by the one that was asked at this time; says how far it
/// is otherwise.
fn has_ended(client: &Client, asked: Instant) -> anyhow::Result<bool> {
    match client.get("/api/v1/status") {
        Ok(status) => {
            let uptime = status.get("uptime_seconds").and_then(Value::as_f64);
            if uptime.is_some_and(|uptime| uptime < asked.elapsed().as_secs_f64()) {
                // Its supervisor has started the next one.
                return Ok(true);
            }
            if let Some(drain) = status.get("drain").filter(|drain| !drain.is_null()) {
                complain(&format::drain(drain), Exit::Drained);
            }
            Ok(false)
        }
        // The socket goes before the process does, which holds the lock to its end.
        Err(error) if error.is::<NotRunning>() => match Lock::take(client.state_dir()) {
            Ok(_) => Ok(true),
            Err(LockError::Held { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        },
        // It broke off in the middle: the next look finds no socket.
        Err(_) if Lock::take(client.state_dir()).is_err() => Ok(false),
        Err(_) => Ok(true),
    }
}

/// The exit code of the service that ended, which becomes this command's; `before` is how the one
/// before it ended.
fn how_it_ended(client: &Client, before: Option<&ExitRecord>) -> Exit {
    let ended = ExitRecord::read(client.state_dir()).filter(|ended| Some(ended) != before);
    let Some(ExitRecord { exit_code, left, .. }) = ended else {
        let text = "the service exited without an exit status (it was killed); the next start resumes its work";
        return complain(text, Exit::WorkLeft);
    };
    let exit = Exit::of_code(exit_code).unwrap_or(Exit::Internal);
    match exit {
        Exit::Drained => print("the service exited\n"),
        _ if left > 0 => print(&format!(
            "the service exited with code {exit_code}: {left} unfinished files, the next start resumes them\n"
        )),
        _ => print(&format!("the service exited with code {exit_code}: see its log\n")),
    }
    exit
}
