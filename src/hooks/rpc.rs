//! The service's end of the line to its runner.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    io::AsyncWriteExt,
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::{mpsc, oneshot},
};

use super::frames::{self, RunEnd, RunRequest, RunResult};
use crate::policy::HookKind;

/// Calls on their way out: no more are made at one time.
const FRAMES: usize = HookKind::ALL.len();

/// Makes calls. Clones use the same line.
#[derive(Clone, Debug)]
pub struct RpcClient {
    /// Whole frames: a call that is given up midway tears none.
    frames: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<RunEnd>>>>,
    next: Arc<AtomicU64>,
}

/// The frames that callers made.
pub type Frames = mpsc::Receiver<Vec<u8>>;

impl RpcClient {
    pub fn new() -> (Self, Frames) {
        let (frames, made) = mpsc::channel(FRAMES);
        (Self { frames, waiting: Arc::default(), next: Arc::default() }, made)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<RunEnd>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a hook run with these lines, and waits for its end.
    pub async fn call(&self, hook: HookKind, lines: Vec<String>) -> RunEnd {
        let id = self.next.fetch_add(1, Relaxed);
        let (answer, ended) = oneshot::channel();
        let frame = match frames::framed(&RunRequest { id, hook: hook.as_str().to_owned(), lines })
        {
            Ok(frame) => frame,
            Err(error) => return RunEnd::Failed(error.to_string()),
        };
        self.lock().insert(id, answer);
        let sent = self.frames.send(frame).await;
        let end = match sent {
            Ok(()) => ended.await.ok(),
            Err(_) => None,
        };
        self.lock().remove(&id);
        end.unwrap_or_else(|| RunEnd::Failed("the runner has ended".to_owned()))
    }

    /// Carries calls out and answers in, until the runner is gone.
    pub async fn carry(&self, mut frames: Frames, from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let out = async {
            while let Some(frame) = frames.recv().await {
                if to.write_all(&frame).await.is_err() {
                    return;
                }
            }
        };
        let mut from = from;
        let back = async {
            while let Ok(Some(RunResult { id, end })) = frames::receive(&mut from).await {
                if let Some(waits) = self.lock().remove(&id) {
                    // It may have been given up.
                    waits.send(end).ok();
                }
            }
        };
        tokio::select! {
            () = out => {}
            () = back => {}
        }
        self.lock().clear();
    }
}
