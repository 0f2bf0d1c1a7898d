//! Listening sockets, and a connection that does not wait indefinitely.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, UnixListener},
    time::{Sleep, sleep},
};

/// A client that leaves an answer unread for this long is disconnected.
const UNREAD: Duration = Duration::from_secs(10);

/// A listening socket. Dropping it closes it.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    /// Answers only to this process's own user, and root.
    Unix(UnixListener),
}

impl Listener {
    /// Accepts the next connection; `None` where it belongs to another user.
    pub(super) async fn accept(&self) -> io::Result<Option<WriteTimeout>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Some(WriteTimeout::new(stream)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred()?.uid();
                let own = rustix::process::geteuid().as_raw();
                Ok((user == own || user == 0).then(|| WriteTimeout::new(stream)))
            }
        }
    }
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A connection whose writes fail once the other end has read nothing for [`UNREAD`].
pub(super) struct WriteTimeout {
    socket: Box<dyn Socket>,
    /// Runs while a write waits.
    unread: Option<Pin<Box<Sleep>>>,
}

impl WriteTimeout {
    fn new(socket: impl Socket + 'static) -> Self {
        Self { socket: Box::new(socket), unread: None }
    }

    /// Returns the result of a write, or an error once it has waited for too long.
    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.unread = None;
            return written;
        }
        let unread = self.unread.get_or_insert_with(|| Box::pin(sleep(UNREAD)));
        unread.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for WriteTimeout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for WriteTimeout {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.socket).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.socket).poll_write_vectored(context, slices);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.socket).poll_shutdown(context)
    }
}
