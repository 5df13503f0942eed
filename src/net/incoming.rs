//! Streams that others open to us, whatever carries them.
//!
//! A door hands them out one after the other, as a `futures` stream, and is closed by dropping it. What it has handed out
//! goes on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::limits::ACCEPT_RETRY_MS;

/// Where streams come in.
pub type Door = BoxStream<'static, Incoming>;

/// A stream that somebody opened to us, in two halves.
pub struct Incoming {
    /// What they send.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What they get.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Kept until the connection has ended: by it the door knows what it still has out.
    pub held: Arc<()>,
}

impl Incoming {
    /// From the halves of a stream that its door does not count.
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self { reader: Box::new(reader), writer: Box::new(writer), held: Arc::new(()) }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Incoming")
    }
}

/// The door of a TCP port. It never ends.
pub fn tcp(listener: TcpListener) -> Door {
    unfold(listener, |listener| async move { Some((accept(&listener).await, listener)) }).boxed()
}

async fn accept(listener: &TcpListener) -> Incoming {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // A frame is written whole: nothing is gained by waiting for more. Where it cannot be set, all works but
                // slower.
                let _ = stream.set_nodelay(true);
                let (reader, writer) = stream.into_split();
                return Incoming::new(reader, writer);
            }
            Err(error) => {
                // Without a descriptor for it the connection stays in the kernel's queue and `accept` fails at once
                // again: waiting lets others close, and keeps this from spinning.
                tracing::warn!(cause = %error, "accepting a connection failed; trying again");
                sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
            }
        }
    }
}
