//! The service manager (`sd_notify(3)`). One task sends the messages in order, so that a manager that
//! reads none holds up nothing else.

use std::{
    convert::Infallible,
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{self, SocketAddr},
        },
    },
    sync::Arc,
};

use sd_notify::NotifyState;
use tidemill_lifecycle::Lifecycle;
use tokio::{net::UnixDatagram, sync::mpsc};

use super::error::LIMIT;

/// Messages that wait for a service manager that does not read.
const MESSAGES_MAX: usize = 16;

/// Sends messages to the service manager. Without one, or after the task has ended, it does nothing.
#[derive(Clone, Debug)]
pub struct ServiceManager(Option<mpsc::Sender<String>>);

impl ServiceManager {
    /// Starts the task. Where nothing is stuck, it sends the waiting messages before it ends.
    pub fn spawn(life: &mut Lifecycle) -> Self {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Self(None) };
        let path: Arc<OsString> = Arc::new(path);
        let (messages, mut waiting) = mpsc::channel::<String>(MESSAGES_MAX);
        life.spawn("service manager", LIMIT, move |stop| async move {
            loop {
                let message = tokio::select! {
                    biased;
                    message = waiting.recv() => message,
                    () = stop.stopped() => None,
                };
                let Some(message) = message else { break };
                tokio::select! {
                    biased;
                    sent = send(&path, &message) => if let Err(error) = sent { log_failure(&error) },
                    () = stop.stopped() => break,
                }
            }
            Ok::<_, Infallible>(())
        });
        Self(Some(messages))
    }

    /// Sends these states in one message. Does not block.
    pub fn notify(&self, states: &[NotifyState<'_>]) {
        let Some(messages) = &self.0 else { return };
        if let Err(error) = messages.try_send(text(states)) {
            log_failure(&io::Error::other(error.to_string()));
        }
    }

    /// Sends a state that is sent again and again, unless many messages wait; returns whether it did.
    pub fn refresh(&self, state: &NotifyState<'_>) -> bool {
        let has_room =
            self.0.as_ref().is_some_and(|messages| messages.capacity() > MESSAGES_MAX / 2);
        if has_room {
            self.notify(std::slice::from_ref(state));
        }
        has_room
    }
}

fn text(states: &[NotifyState<'_>]) -> String {
    states.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Returns the address of the socket: one in the abstract namespace begins with `@`.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    }
}

/// Sends one message, and waits while the manager's queue is full. The socket is a new one each time,
/// because the manager may have made its own again.
async fn send(path: &OsStr, message: &str) -> io::Result<()> {
    let socket = net::UnixDatagram::unbound()?;
    socket.connect_addr(&address(path)?)?;
    socket.set_nonblocking(true)?;
    // At once where there is room: at the stop nothing that waits is sent.
    match socket.send(message.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            UnixDatagram::from_std(socket)?.send(message.as_bytes()).await.map(drop)
        }
        sent => sent.map(drop),
    }
}

fn log_failure(error: &io::Error) {
    tracing::debug!(event = "service.notify_failed", %error, "cannot notify the service manager");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_a_path_or_an_abstract_name() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("notify");
        let name = format!("@tidemill-test-{}", std::process::id());
        for address_of in [path.as_os_str(), name.as_ref()] {
            let socket = net::UnixDatagram::bind_addr(&address(address_of).expect("address"));
            let socket = socket.expect("bind");
            send(address_of, "READY=1").await.expect("send");
            let mut read = [0; 16];
            let length = socket.recv(&mut read).expect("receive");
            assert_eq!(&read[..length], b"READY=1");
        }
    }
}
