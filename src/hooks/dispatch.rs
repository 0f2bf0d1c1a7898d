//! The service's side: who is told what, in which batches, and what became of it.

use std::{
    convert::Infallible,
    io::{self, Write},
    os::{fd::OwnedFd, unix::net},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{net::UnixStream, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    frames::{self, Plan, RunEnd, Target},
    pidfd::ChildExit,
    queue::{HookQueues, Queue},
    rpc::RpcClient,
};
use crate::{
    config::{Hook, Hooks},
    lifecycle::{Lifecycle, Phase},
    observe::{HookEnd, HookMeter, Listener},
    policy::HookKind,
};

/// What commands get of the service's own environment.
const KEPT: [&str; 5] = ["HOME", "LANG", "PATH", "TZ", "USER"];
/// What the runner gets to kill what runs, and to end.
const GRACE: Duration = Duration::from_secs(2);

/// The runner's process, and the line to it. Dropping it ends the runner.
#[derive(Debug)]
pub struct Runner {
    line: net::UnixStream,
    child: Child,
}

/// Starts the runner, where a hook is configured: before the sandbox closes, and before any thread.
pub fn spawn(hooks: &Hooks, state_dir: &Path) -> io::Result<Option<Runner>> {
    if hooks.iter().next().is_none() {
        return Ok(None);
    }
    let (mut line, theirs) = net::UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    for own in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FAILPOINTS"] {
        command.env_remove(own);
    }
    let child =
        command.arg("hook-runner").stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).spawn()?;
    line.write_all(&frames::framed(&plan(hooks, state_dir))?)?;
    Ok(Some(Runner { line, child }))
}

fn plan(hooks: &Hooks, state_dir: &Path) -> Plan {
    let target = |hook: &Hook| match hook {
        Hook::Command(command) => Target::Command(command.clone()),
        Hook::Post(url) => Target::Post(url.clone()),
    };
    let own = [
        ("TIDEMILL_VERSION", env!("CARGO_PKG_VERSION").to_owned()),
        ("TIDEMILL_STATE_DIR", state_dir.display().to_string()),
    ];
    let kept = KEPT.into_iter().filter_map(|key| Some((key, std::env::var(key).ok()?)));
    Plan {
        hooks: hooks.iter().map(|(kind, hook)| (kind.to_string(), target(hook))).collect(),
        timeout_ms: u64::try_from(hooks.timeout.as_millis()).unwrap_or(u64::MAX),
        environment: kept.chain(own).map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}

/// What `on_start` and `on_drained` are told, each a JSON object.
pub struct HookContext {
    pub start: String,
    pub drained: Box<dyn FnOnce() -> String + Send>,
    /// What `on_drained` gets once the stop is cut short.
    pub last: Duration,
    /// What the whole stop gets.
    pub deadline: Duration,
}

impl std::fmt::Debug for HookContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts").field("start", &self.start).finish_non_exhaustive()
    }
}

/// The hooks of a service that starts.
#[derive(Debug)]
pub struct HookService {
    runner: Runner,
    hooks: Hooks,
    notices: HookQueues,
}

impl HookService {
    /// The metrics' recorder must be installed before.
    #[must_use]
    pub fn new(runner: Runner, hooks: Hooks) -> Self {
        let queue = |kind: HookKind| {
            let is_wanted = hooks.of(kind).is_some();
            is_wanted.then(|| Queue::new(Arc::new(HookMeter::new(kind.as_str()))))
        };
        let (published, failed) = (queue(HookKind::OnPublished), queue(HookKind::OnFailed));
        Self { runner, hooks, notices: HookQueues { published, failed } }
    }

    /// Puts what it hears into the queues.
    #[must_use]
    pub fn listener(&self) -> Box<dyn Listener> {
        Box::new(self.notices.clone())
    }

    /// Starts to work the queues off. Registered before the pipelines, it ends after them: with the
    /// last outcomes told, as far as the deadline allows, and `on_drained` run.
    pub fn spawn(self, life: &mut Lifecycle, limit: Duration, facts: HookContext) {
        let handle = life.handle().clone();
        let limit = limit.max(facts.deadline);
        life.spawn("hooks", limit, |stop| async move {
            let closing = CancellationToken::new();
            let (cut, ready) = (handle.cut(), handle.phase());
            let watch = async {
                stop.stopped().await;
                closing.cancel();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = watch => {}
                result = self.work(facts, &closing, cut, ready) => {
                    if let Err(error) = result {
                        tracing::error!(event = "hook.runner_unavailable", %error, "cannot run hooks");
                    }
                }
            }
            Ok::<_, Infallible>(())
        });
    }

    async fn work(
        self,
        facts: HookContext,
        closing: &CancellationToken,
        cut: CancellationToken,
        ready: tokio::sync::watch::Receiver<Phase>,
    ) -> io::Result<()> {
        let Self { runner: Runner { line, mut child }, hooks, notices } = self;
        line.set_nonblocking(true)?;
        let (from, to) = UnixStream::from_std(line)?.into_split();
        let exited = ChildExit::of(&child)?;
        let (caller, frames) = RpcClient::new();
        let feeds = OutcomeFeeds { hooks: &hooks, caller: &caller, closing };
        let is_there = tokio::select! {
            () = caller.carry(frames, from, to) => false,
            () = feeds.all(&notices, facts, cut, ready) => true,
        };
        // The line is closed now, so the runner ends, if it has not.
        let ended = timeout(GRACE, exited.wait()).await.is_ok();
        let status = if ended { child.wait().ok() } else { None };
        if is_there {
            if !ended {
                tracing::warn!(
                    event = "hook.runner_stuck",
                    pid = child.id(),
                    "hook runner does not exit"
                );
            }
            return Ok(());
        }
        let status = status.map(|status| status.to_string());
        tracing::error!(
            event = "hook.runner_exited",
            status,
            "hook runner exited, hooks disabled until restart"
        );
        tokio::join!(
            drop_queued(notices.published.as_ref(), closing),
            drop_queued(notices.failed.as_ref(), closing)
        );
        Ok(())
    }
}

/// Counts what nobody can be told.
async fn drop_queued(queue: Option<&Queue>, closing: &CancellationToken) {
    let Some(queue) = queue else { return };
    while let Some(lines) = queue.next(usize::MAX, Duration::ZERO, closing).await {
        queue.meter().dropped(lines.len() as u64);
    }
}

struct OutcomeFeeds<'a> {
    hooks: &'a Hooks,
    caller: &'a RpcClient,
    closing: &'a CancellationToken,
}

impl OutcomeFeeds<'_> {
    async fn all(
        &self,
        notices: &HookQueues,
        facts: HookContext,
        cut: CancellationToken,
        mut ready: tokio::sync::watch::Receiver<Phase>,
    ) {
        let HookContext { start, drained, last, .. } = facts;
        let start = async {
            let is_ready = ready.wait_for(|phase| *phase >= Phase::Ready).await;
            if is_ready.is_ok_and(|phase| *phase == Phase::Ready) {
                self.once(HookKind::OnStart, start).await;
            }
        };
        let published = self.feed(HookKind::OnPublished, notices.published.as_ref());
        let failed = self.feed(HookKind::OnFailed, notices.failed.as_ref());
        let fed = async { tokio::join!(start, published, failed) };
        tokio::select! {
            _ = fed => {}
            () = cut.cancelled() => {}
        }
        for queue in [&notices.published, &notices.failed].into_iter().flatten() {
            let (hook, left) = (queue.meter().name(), queue.abandon());
            if left > 0 {
                tracing::warn!(
                    event = "hook.notifications_dropped",
                    hook,
                    left,
                    "shutdown deadline reached, notifications dropped"
                );
            }
        }
        let too_late = async {
            cut.cancelled().await;
            tokio::time::sleep(last).await;
        };
        tokio::select! {
            () = self.once(HookKind::OnDrained, drained()) => {}
            () = too_late => tracing::warn!(event = "hook.abandoned", hook = "on_drained", "shutdown deadline reached, hook abandoned"),
        }
    }

    async fn feed(&self, kind: HookKind, queue: Option<&Queue>) {
        let Some(queue) = queue else { return };
        let Hooks { batch_files, batch_delay, .. } = *self.hooks;
        while let Some(lines) = queue.next(batch_files as usize, batch_delay, self.closing).await {
            self.run(kind, lines, queue.meter()).await;
        }
    }

    async fn once(&self, kind: HookKind, line: String) {
        if self.hooks.of(kind).is_some() {
            self.run(kind, vec![line], &HookMeter::new(kind.as_str())).await;
        }
    }

    async fn run(&self, kind: HookKind, lines: Vec<String>, meter: &HookMeter) {
        let files = lines.len();
        let end = self.caller.call(kind, lines).await;
        match &end {
            RunEnd::Done => {
                tracing::debug!(event = "hook.finished", hook = %kind, files, "hook finished");
            }
            RunEnd::Failed(reason) => {
                tracing::warn!(event = "hook.failed", hook = %kind, files, reason, "hook failed");
            }
            RunEnd::TimedOut => {
                let seconds = self.hooks.timeout.as_secs_f64();
                tracing::warn!(event = "hook.timed_out", hook = %kind, files, seconds, "hook timed out, its processes were killed");
            }
        }
        meter.ran(match end {
            RunEnd::Done => HookEnd::Done,
            RunEnd::Failed(_) => HookEnd::Failed,
            RunEnd::TimedOut => HookEnd::TimedOut,
        });
    }
}
