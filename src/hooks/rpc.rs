//! The service's end of the socket to its runner.

use std::{
    collections::HashMap,
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    io::AsyncWriteExt,
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::{mpsc, oneshot},
};

use super::frames::{self, RunEnd, RunRequest, RunResult};
use crate::{policy::HookKind, sync::Mutex};

/// Capacity of the channel of outgoing requests: each hook has at most one.
const FRAMES_MAX: usize = HookKind::ALL.len();

/// Sends run requests. Clones use the same socket.
#[derive(Clone, Debug)]
pub struct RpcClient {
    /// Complete frames, so that a cancelled call cannot send a part of one.
    frames: mpsc::Sender<Vec<u8>>,
    /// Callers by request.
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<RunEnd>>>>,
    next_id: Arc<AtomicU64>,
}

/// Encoded requests of all callers.
pub type Frames = mpsc::Receiver<Vec<u8>>;

impl RpcClient {
    pub fn new() -> (Self, Frames) {
        let (frames, receiver) = mpsc::channel(FRAMES_MAX);
        (Self { frames, waiting: Arc::default(), next_id: Arc::default() }, receiver)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<RunEnd>>> {
        self.waiting.lock()
    }

    /// Requests a run of a hook with these lines, and waits for the result.
    pub async fn call(&self, hook: HookKind, lines: Vec<String>) -> RunEnd {
        let id = self.next_id.fetch_add(1, Relaxed);
        let (sender, result) = oneshot::channel();
        let frame = match frames::framed(&RunRequest { id, hook, lines }) {
            Ok(frame) => frame,
            Err(error) => return RunEnd::Failed(error.to_string()),
        };
        self.lock().insert(id, sender);
        let sent = self.frames.send(frame).await;
        let end = match sent {
            Ok(()) => result.await.ok(),
            Err(_) => None,
        };
        self.lock().remove(&id);
        end.unwrap_or_else(|| RunEnd::Failed("hook runner exited".to_owned()))
    }

    /// Transfers requests and results until the runner closes the socket.
    pub async fn transfer(&self, mut frames: Frames, from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let send = async {
            while let Some(frame) = frames.recv().await {
                if to.write_all(&frame).await.is_err() {
                    return;
                }
            }
        };
        let mut from = from;
        let receive = async {
            while let Ok(Some(RunResult { id, end })) = frames::receive(&mut from).await {
                if let Some(caller) = self.lock().remove(&id) {
                    // The caller may have been cancelled.
                    caller.send(end).ok();
                }
            }
        };
        tokio::select! {
            () = send => {}
            () = receive => {}
        }
        self.lock().clear();
    }
}
