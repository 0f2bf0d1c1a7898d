//! `tidemill status`, `pause`, `resume` and `drain`: a running service, queried and controlled.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;
use tidemill_lifecycle::{Deadlines, Lifecycle, Signals};
use tokio::{
    runtime::{Builder, Runtime},
    time::interval,
};

use super::{
    BadValue,
    args::{Drain, PipelineArgs, Status},
    client::{Client, NotRunning},
    complain,
    format::{self, Answers},
    live::{self, Look},
    notify, print, processes, state_dir,
    terminal::{Keys, Screen, cut, is_coloured, show, window},
};
use crate::{
    api::StatusAnswer,
    error::Exit,
    fs::{Lock, LockError},
    limits,
    observe::units::{files, span},
    service::ExitRecord,
};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
pub fn status(options: &Status) -> anyhow::Result<Exit> {
    if options.watch && window().is_none() {
        let text = "error: `--watch` needs a terminal: `tidemill status --json` is for programs";
        return Ok(complain(text, Exit::Usage));
    }
    let client = Client::find(&options.service)?;
    if options.watch {
        return watch(&client);
    }
    if options.json {
        print(&format!("{}\n", client.json("/api/v1/status")?));
        return Ok(Exit::Success);
    }
    let answers = Answers {
        status: client.get("/api/v1/status")?,
        series: client.get("/api/v1/series")?,
        failures: client.get(&outcomes("quarantined", format::FAILURES))?,
        page: page(&client),
    };
    print(&format::status(&answers, window().map(|window| window.columns)));
    Ok(Exit::Success)
}

/// The path of the newest outcomes; of every state without one.
fn outcomes(state: &str, limit: usize) -> String {
    format!("/api/v1/outcomes?state={state}&limit={}", limit.clamp(1, limits::PAGE_ENTRIES_MAX))
}

/// The address of the page, as far as this user may see it.
fn page(client: &Client) -> Option<String> {
    processes::page(state_dir::holder(client.state_dir())?)
}

pub fn pause(options: &PipelineArgs) -> anyhow::Result<Exit> {
    control(options, "pause", "paused: nothing new is taken, files in flight are finished")
}

pub fn resume(options: &PipelineArgs) -> anyhow::Result<Exit> {
    control(options, "resume", "resumed")
}

fn control(options: &PipelineArgs, what: &str, done: &str) -> anyhow::Result<Exit> {
    let client = Client::find(&options.service)?;
    if let Some(name) = &options.pipeline {
        check_pipeline(&client, name)?;
    }
    client.post(&format!("/api/v1/{what}"), &json!({ "pipeline": options.pipeline }))?;
    let which = options.pipeline.as_ref().map_or_else(String::new, |name| format!("{name} is "));
    print(&format!("{which}{done}\n"));
    Ok(Exit::Success)
}

/// Refuses the name of a pipeline that the service does not have.
fn check_pipeline(client: &Client, name: &str) -> anyhow::Result<()> {
    let status: StatusAnswer = client.get("/api/v1/status")?;
    let names: Vec<_> = status.pipelines.iter().map(|one| &*one.status.name).collect();
    if !names.contains(&name) {
        let names = names.join(", ");
        bail!(BadValue("PIPELINE", anyhow::anyhow!("no pipeline `{name}`; pipelines: {names}")));
    }
    Ok(())
}

/// Runs a task until it ends or a signal stops it.
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

fn watch(client: &Client) -> anyhow::Result<Exit> {
    // An error is printed before the screen changes.
    client.get::<StatusAnswer>("/api/v1/status")?;
    let page = page(client);
    until_interrupted(async |life| {
        let (_screen, mut keys) = (Screen::enter(), Keys::read());
        let closing = life.handle().closing();
        let mut every = interval(EVERY);
        let (mut last, mut refused) = (None, None);
        let mut answered = Instant::now();
        loop {
            tokio::select! {
                () = closing.cancelled() => return Ok(Exit::Success),
                key = keys.next() => match key {
                    b'q' => return Ok(Exit::Success),
                    b'p' => refused = client.post("/api/v1/pause", &json!({})).err(),
                    b'r' => refused = client.post("/api/v1/resume", &json!({})).err(),
                    _ => continue,
                },
                _ = every.tick() => {}
            }
            let Some(window) = window() else { return Ok(Exit::Success) };
            match look(client, window.rows) {
                Ok(look) => {
                    let mut lines = live::view(&look, last.as_ref(), page.as_deref(), window);
                    if is_coloured()
                        && let Some(first) = lines.first_mut()
                    {
                        *first = format!("{}{first}\x1b[m", live::colour(&look.status));
                    }
                    if let (Some(error), Some(keys)) = (&refused, lines.last_mut()) {
                        *keys = cut(&format!("{error:#}"), window.columns);
                    }
                    show(&lines);
                    (last, answered) = (Some(look.status), Instant::now());
                }
                // Until its supervisor has started it again.
                Err(error) => {
                    let since = span(answered.elapsed().as_secs_f64());
                    let lines = [
                        format!("no answer for {since}, trying again"),
                        format!("{error:#}"),
                        "q closes this view".to_owned(),
                    ];
                    show(&lines.map(|line| cut(&line, window.columns)));
                    last = None;
                }
            }
        }
    })
}

/// Asks the service for all that the live view shows.
fn look(client: &Client, rows: usize) -> anyhow::Result<Look> {
    Ok(Look {
        status: client.get("/api/v1/status")?,
        work: client.get("/api/v1/work")?,
        outcomes: client.get(&outcomes("", rows))?,
        failures: client.get(&outcomes("quarantined", rows))?,
    })
}

pub fn drain(options: &Drain) -> anyhow::Result<Exit> {
    let client = Client::find(&options.service)?;
    let (before, requested) = (ExitRecord::read(client.state_dir()), Instant::now());
    client.post("/api/v1/drain", &json!({}))?;
    if !options.wait {
        print("draining: the service finishes the files that were begun, then exits\n");
        return Ok(Exit::Success);
    }
    until_interrupted(async |life| {
        let closing = life.handle().closing();
        let mut every = interval(EVERY);
        loop {
            tokio::select! {
                () = closing.cancelled() => bail!("interrupted: the service keeps draining"),
                _ = every.tick() => {}
            }
            if has_ended(&client, requested)? {
                return Ok(report_exit(&client, before.as_ref()));
            }
        }
    })
}

/// Whether the process that drains since this time has ended; prints the progress otherwise.
fn has_ended(client: &Client, requested: Instant) -> anyhow::Result<bool> {
    match client.get::<StatusAnswer>("/api/v1/status") {
        Ok(status) => {
            if status.uptime_seconds < requested.elapsed().as_secs_f64() {
                // The supervisor has started the next one.
                return Ok(true);
            }
            if let Some(drain) = &status.drain {
                notify(&format::drain(drain));
            }
            Ok(false)
        }
        // The socket is removed first; the process holds the lock to its end.
        Err(error) if error.is::<NotRunning>() => {
            match Lock::take(client.state_dir(), "tidemill drain --wait") {
                Ok(_) => Ok(true),
                Err(LockError::Held { .. }) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }
        // The answer broke off: the next look finds no socket.
        Err(_) if Lock::take(client.state_dir(), "tidemill drain --wait").is_err() => Ok(false),
        Err(_) => Ok(true),
    }
}

/// Reports the exit of the service, whose code becomes this command's; `before` is the exit of the
/// previous one.
fn report_exit(client: &Client, before: Option<&ExitRecord>) -> Exit {
    let ended = ExitRecord::read(client.state_dir()).filter(|ended| Some(ended) != before);
    let Some(ExitRecord { exit_code, unfinished, .. }) = ended else {
        let text = "the service exited without an exit status (it was killed); the next start resumes its work";
        return complain(text, Exit::WorkLeft);
    };
    let exit = Exit::of_code(exit_code).unwrap_or(Exit::Internal);
    match exit {
        Exit::Success => print("the service exited\n"),
        _ if unfinished > 0 => print(&format!(
            "the service exited with code {exit_code}: {} unfinished, the next start resumes them\n",
            files(unfinished)
        )),
        _ => print(&format!("the service exited with code {exit_code}: see its log\n")),
    }
    exit
}
