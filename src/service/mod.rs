//! The whole life of Tidemill on one page.
//!
//! ```text
//! signals registered → configuration → privileges, directories, sandbox → hooks in order → READY
//!                              → run → drain → hooks in reverse → report → exit code
//! ```
//!
//! Every exit is safe, even a kill: the graceful way only saves the next start work.

mod beside;
mod doors;
mod hooks;
mod prepare;
pub mod probe;
mod recover;
mod reload;
mod report;
mod settings;
mod watchdog;

use std::{sync::Arc, time::Instant};

use tokio::sync::oneshot;

use self::{hooks::Fault, prepare::Prepared, reload::Reloader, report::Last, settings::Settings};
use crate::{
    config::{Config, Http, Options},
    error::Exit,
    hooks::{Hooked, Runner},
    http::Token,
    lifecycle::{Deadlines, Handle, Lifecycle, Phase, Signals},
    limits,
    observe::{self, Observer},
    pipeline::{self, Control, Drained},
    recovery::Summary,
};

/// What is made ready before the first thread.
struct Ready {
    settings: Settings,
    runner: Option<Runner>,
    /// For changes over HTTP.
    token: Option<Token>,
}

/// Runs the service from its first hook to its last, and says how the process is to end. The options
/// are those that the configuration was loaded by: a reload loads it by them again.
///
/// Blocks. The signals are followed from here on; the third one, or the deadline, makes this
/// return at once, with threads still at work: the process must end then.
#[must_use]
pub fn run(config: Config, options: Options, signals: Signals) -> Exit {
    let token = match doors::token(&config) {
        Ok(token) => token,
        Err(fault) => {
            tracing::error!("{fault}");
            return fault.exit();
        }
    };
    // Before any thread: what the process gives up, all of them give up.
    let Prepared { fence, runner } = match prepare::prepare(&config, options.config.as_deref()) {
        Ok(prepared) => prepared,
        Err(fault) => {
            tracing::error!("{fault}");
            return fault.exit();
        }
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return Exit::Internal;
        }
    };
    let inside = fence.as_ref().map(|fence| (fence.inside.clone(), fence.reach.clone()));
    let settings = Settings::new(config, options, inside);
    let exit = runtime.block_on(live(Ready { settings, runner, token }, signals));
    runtime.shutdown_background();
    exit
}

async fn live(ready: Ready, signals: Signals) -> Exit {
    let stop = ready.settings.now().shutdown_deadline;
    let deadlines = Deadlines { stop, reserve: limits::COMMIT_RESERVE };
    let life = match Lifecycle::new(deadlines, signals) {
        Ok(life) => life,
        Err(error) => {
            tracing::error!(%error, "cannot follow signals");
            return Exit::Internal;
        }
    };
    let leave = life.handle().leave();
    // A task of its own, so that nothing it does can hold up the look at `leave`.
    let whole = tokio::spawn(from_start_to_stop(life, ready));
    tokio::select! {
        exit = whole => exit.unwrap_or(Exit::Internal),
        () = leave => {
            tracing::error!("left at once: the next start takes up what was in work");
            Exit::WorkLeft
        }
    }
}

async fn from_start_to_stop(mut life: Lifecycle, ready: Ready) -> Exit {
    let Ready { settings, runner, token } = ready;
    let began = Instant::now();
    let config = settings.now();
    let descriptors = observe::open_descriptors();
    let names: Vec<_> =
        config.pipelines.iter().map(|pipeline| Arc::clone(&pipeline.name)).collect();
    // Before the meters: they write to the recorder that is there when they are made. A failure is
    // told by the hook that needs it.
    if config.http != Http::Off {
        drop(observe::install_exporter());
    }
    let observer = Arc::new(Observer::new(&names, &pipeline::CHANNELS));
    let (drained, was_drained) = oneshot::channel();

    let hooked = runner.map(|runner| Hooked::new(runner, config.hooks.clone()));
    let ends = Ends { drained, token, hooked };
    let started = start(&mut life, &settings, &observer, ends).await;
    let (fault, recovered) = match started {
        Ok((control, recovered)) => {
            let fenced_off = beside::fenced_off(&settings);
            (work(life.handle(), &control, fenced_off).await, recovered)
        }
        Err(fault) => (Some(fault), Summary::default()),
    };
    let handle = life.handle().clone();
    let report = life.stop().await;
    handle.enter(Phase::Stopped);

    let drained = was_drained.await.unwrap_or_default();
    let (config, observer, report) = (&settings.now(), &observer, &report);
    Last { config, observer, report, drained, recovered, fault, descriptors, began }.tell()
}

/// What the hooks take.
struct Ends {
    drained: oneshot::Sender<Drained>,
    token: Option<Token>,
    hooked: Option<Hooked>,
}

/// The start-up hooks, in order. What each of them opened is closed by [`Lifecycle::stop`], in
/// reverse, also where a later one fails.
async fn start(
    life: &mut Lifecycle,
    settings: &Settings,
    observer: &Arc<Observer>,
    Ends { drained, token, hooked }: Ends,
) -> Result<(Control, Summary), Fault> {
    let config = &*settings.now();
    let hangups = reload::hangups(life.handle());
    hooks::limits(life, config).await?;
    hooks::lock(life, config).await?;
    hooks::settings(life, config).await?;
    let ledger = hooks::ledger(life, config).await?;
    let listener = hooked.as_ref().map(Hooked::listener);
    let events = hooks::events(life, config, listener).await?;
    beside::phase(life, observer);
    if let Some(hooked) = hooked {
        hooked.spawn(life, hooks::LIMIT, beside::facts(config, observer));
    }
    watchdog::spawn(life, observer);
    let desk = doors::open(life, config, observer, &ledger, token).await?;
    let recovered = recover::recovery(life, config, (&ledger, &events), observer).await?;
    let tracer = beside::traces(life, config);
    let parts = (Arc::clone(&ledger), Arc::clone(&events), tracer.clone());
    let control = hooks::pipelines(life, settings, parts, observer, drained).await?;
    if let Some(desk) = &desk {
        desk.steers(control.clone());
    }
    beside::flushes(life, &ledger, &control);
    beside::background(life, config, observer, &control);
    let reloader = Reloader {
        settings: settings.clone(),
        ledger,
        events,
        tracer,
        observer: Arc::clone(observer),
        control: control.clone(),
        desk,
        index: config.pipelines.len(),
    };
    reload::spawn(life, reloader, hangups);
    hooks::ready(life, config);
    Ok((control, recovered))
}

/// Waits for what ends the service: a signal, `--once` being through, failed storage, a failed
/// task, a place that the sandbox keeps it out of. Asks for the stop, which drains.
async fn work(
    handle: &Handle,
    control: &Control,
    fenced_off: impl Future<Output = Fault>,
) -> Option<Fault> {
    let fault = tokio::select! {
        () = handle.closing().cancelled_owned() => None,
        () = control.ended() => None,
        () = control.fatal() => None,
        failure = handle.failed() => Some(Fault::Internal(failure.to_string())),
        fault = fenced_off => Some(fault),
    };
    handle.request_stop();
    fault
}
