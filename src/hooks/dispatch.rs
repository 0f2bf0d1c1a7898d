//! The service's side: it sends batches of outcomes to the hooks and logs each run.

use std::{
    convert::Infallible,
    io::{self, Write},
    os::{fd::OwnedFd, unix::net},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tidemill_lifecycle::{Lifecycle, Phase};
use tokio::{net::UnixStream, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    frames::{self, Plan, RunEnd, Target},
    pidfd::ChildExit,
    queue::{HookQueues, Queue},
    rpc::RpcClient,
};
use crate::{
    config::{Hook, Hooks, HooksKeys},
    observe::{HookEnd, HookMeter, Listener},
    policy::HookKind,
};

/// Variables of the service's environment that commands inherit.
const INHERITED_VARIABLES: [&str; 5] = ["HOME", "LANG", "PATH", "TZ", "USER"];
/// Time for the runner to kill running hooks and to exit.
const RUNNER_EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// The runner's process and the socket to it. Dropping the socket makes the runner exit.
#[derive(Debug)]
pub struct Runner {
    socket: net::UnixStream,
    child: Child,
}

/// Starts the runner, if a hook is configured. Call it before the sandbox and before any thread.
pub fn spawn(hooks: &Hooks, state_dir: &Path) -> io::Result<Option<Runner>> {
    if hooks.iter().next().is_none() {
        return Ok(None);
    }
    let (mut socket, runner_socket) = net::UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FAILPOINTS"] {
        command.env_remove(variable);
    }
    let stdin = OwnedFd::from(runner_socket);
    let child = command.arg("hook-runner").stdin(stdin).stdout(Stdio::null()).spawn()?;
    socket.write_all(&frames::framed(&plan(hooks, state_dir))?)?;
    Ok(Some(Runner { socket, child }))
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
    let inherited =
        INHERITED_VARIABLES.into_iter().filter_map(|key| Some((key, std::env::var(key).ok()?)));
    Plan {
        hooks: hooks.iter().map(|(kind, hook)| (kind, target(hook))).collect(),
        timeout_ms: u64::try_from(hooks.keys.timeout.as_millis()).unwrap_or(u64::MAX),
        environment: inherited.chain(own).map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}

/// JSON objects for `on_start` and `on_drained`, and the time for the latter.
pub struct HookContext {
    pub start: String,
    pub drained: Box<dyn FnOnce() -> String + Send>,
    /// Time for `on_drained` after the drain is cut.
    pub drained_grace: Duration,
    /// Time for the entire stop.
    pub deadline: Duration,
}

impl std::fmt::Debug for HookContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookContext").field("start", &self.start).finish_non_exhaustive()
    }
}

/// The hooks of a starting service.
#[derive(Debug)]
pub struct HookService {
    runner: Runner,
    hooks: Hooks,
    queues: HookQueues,
}

impl HookService {
    /// Makes the queues. The metrics' recorder must be installed before.
    #[must_use]
    pub fn new(runner: Runner, hooks: Hooks) -> Self {
        let queue = |kind: HookKind| {
            let is_configured = hooks.of(kind).is_some();
            is_configured.then(|| Queue::new(Arc::new(HookMeter::new(kind.as_str()))))
        };
        let (published, failed) = (queue(HookKind::OnPublished), queue(HookKind::OnFailed));
        let overdue = queue(HookKind::OnOverdue);
        Self { runner, hooks, queues: HookQueues { published, failed, overdue } }
    }

    /// Returns a listener that fills the queues.
    #[must_use]
    pub fn listener(&self) -> Box<dyn Listener> {
        Box::new(self.queues.clone())
    }

    /// Starts the task that empties the queues. Registered before the pipelines, it ends after them, when
    /// the last outcomes are sent, as far as the deadline allows, and `on_drained` has run.
    pub fn spawn(self, life: &mut Lifecycle, limit: Duration, context: HookContext) {
        let handle = life.handle().clone();
        let limit = limit.max(context.deadline);
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
                result = self.run(context, &closing, cut, ready) => {
                    if let Err(error) = result {
                        tracing::error!(event = "hook.runner_unavailable", %error, "cannot run hooks");
                    }
                }
            }
            Ok::<_, Infallible>(())
        });
    }

    async fn run(
        self,
        context: HookContext,
        closing: &CancellationToken,
        cut: CancellationToken,
        ready: tokio::sync::watch::Receiver<Phase>,
    ) -> io::Result<()> {
        let Self { runner: Runner { socket, mut child }, hooks, queues } = self;
        socket.set_nonblocking(true)?;
        let (from, to) = UnixStream::from_std(socket)?.into_split();
        let exited = ChildExit::of(&child)?;
        let (client, frames) = RpcClient::new();
        let feeds = OutcomeFeeds { hooks: &hooks, client: &client, closing };
        let is_runner_alive = tokio::select! {
            () = client.transfer(frames, from, to) => false,
            () = feeds.run_all(&queues, context, cut, ready) => true,
        };
        // The socket is closed now, so a running runner exits.
        let has_exited = timeout(RUNNER_EXIT_TIMEOUT, exited.wait()).await.is_ok();
        let status = if has_exited { child.wait().ok() } else { None };
        if is_runner_alive {
            if !has_exited {
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
        join_all(queues.iter().map(|queue| drop_queued(queue, closing))).await;
        Ok(())
    }
}

/// Counts the notifications that no runner can deliver.
async fn drop_queued(queue: &Queue, closing: &CancellationToken) {
    while let Some(lines) = queue.next(usize::MAX, Duration::ZERO, closing).await {
        queue.meter().dropped(lines.len() as u64);
    }
}

struct OutcomeFeeds<'a> {
    hooks: &'a Hooks,
    client: &'a RpcClient,
    closing: &'a CancellationToken,
}

impl OutcomeFeeds<'_> {
    /// Runs `on_start`, feeds the queues until the close, and runs `on_drained` after the drain.
    async fn run_all(
        &self,
        queues: &HookQueues,
        context: HookContext,
        cut: CancellationToken,
        mut ready: tokio::sync::watch::Receiver<Phase>,
    ) {
        let HookContext { start, drained, drained_grace, .. } = context;
        let start = async {
            let is_ready = ready.wait_for(|phase| *phase >= Phase::Ready).await;
            if is_ready.is_ok_and(|phase| *phase == Phase::Ready) {
                self.run_once(HookKind::OnStart, start).await;
            }
        };
        let published = self.feed(HookKind::OnPublished, queues.published.as_ref());
        let failed = self.feed(HookKind::OnFailed, queues.failed.as_ref());
        let overdue = self.feed(HookKind::OnOverdue, queues.overdue.as_ref());
        let closing = self.closing.cancelled();
        let fed = async { tokio::join!(start, published, failed, overdue, closing) };
        tokio::select! {
            _ = fed => {}
            () = cut.cancelled() => {}
        }
        for queue in queues.iter() {
            let (hook, dropped) = (queue.meter().name(), queue.abandon());
            if dropped > 0 {
                tracing::warn!(
                    event = "hook.notifications_dropped",
                    hook,
                    dropped,
                    "shutdown deadline reached, notifications dropped"
                );
            }
        }
        // The numbers are final once the pipelines are closed; a cut drain may hang.
        let is_drained = async {
            tokio::select! {
                () = self.closing.cancelled() => {}
                () = async { cut.cancelled().await; tokio::time::sleep(drained_grace / 2).await; } => {}
            }
        };
        let run_drained = async {
            is_drained.await;
            self.run_once(HookKind::OnDrained, drained()).await;
        };
        let grace_over = async {
            cut.cancelled().await;
            tokio::time::sleep(drained_grace).await;
        };
        tokio::select! {
            () = run_drained => {}
            () = grace_over => tracing::warn!(event = "hook.abandoned", hook = "on_drained", "shutdown deadline reached, hook abandoned"),
        }
    }

    async fn feed(&self, kind: HookKind, queue: Option<&Queue>) {
        let Some(queue) = queue else { return };
        let HooksKeys { batch_files, batch_delay, .. } = self.hooks.keys;
        while let Some(lines) = queue.next(batch_files as usize, batch_delay, self.closing).await {
            self.run_batch(kind, lines, queue.meter()).await;
        }
    }

    async fn run_once(&self, kind: HookKind, line: String) {
        if self.hooks.of(kind).is_some() {
            self.run_batch(kind, vec![line], &HookMeter::new(kind.as_str())).await;
        }
    }

    async fn run_batch(&self, kind: HookKind, lines: Vec<String>, meter: &HookMeter) {
        let files = lines.len();
        let end = self.client.call(kind, lines).await;
        match &end {
            RunEnd::Done => {
                tracing::debug!(event = "hook.finished", hook = %kind, files, "hook finished");
            }
            RunEnd::Failed(reason) => {
                tracing::warn!(event = "hook.failed", hook = %kind, files, reason, "hook failed");
            }
            RunEnd::TimedOut => {
                let seconds = self.hooks.keys.timeout.as_secs_f64();
                tracing::warn!(event = "hook.timed_out", hook = %kind, files, seconds, "hook timed out, its processes killed");
            }
        }
        meter.ran(match end {
            RunEnd::Done => HookEnd::Done,
            RunEnd::Failed(_) => HookEnd::Failed,
            RunEnd::TimedOut => HookEnd::TimedOut,
        });
    }
}
