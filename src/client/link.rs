//! One connection to a home server, ours or somebody's, as requests and what comes back.
//!
//! A task of its own reads frames, because a read that is given up half-way would lose its place; everything else may
//! wait for several things at once.

use std::time::Duration;

use rand_core::OsRng;
use thiserror::Error;
use tokio::io::{WriteHalf, split};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::crypto::dh::SecretKey;
use crate::handshake::HandshakeError;
use crate::limits::{PROTOCOL_VERSION, REPLY_TIMEOUT_MS};
use crate::net::connection::{self, ConnectionError, FrameReader, FrameWriter};
use crate::net::dialer::{DialError, Dialer, Stream};
use crate::net::isolation::Isolation;
use crate::wire::address::ServerAddress;
use crate::wire::reply::{Refusal, Reply, ServerMessage};
use crate::wire::request::{Command, Request};

/// Frames read ahead of whoever handles them: a few, so that a slow disk slows the server down.
const READ_AHEAD: usize = 4;

/// Why a link ended, or was not made.
#[derive(Debug, Error)]
pub enum LinkError {
    /// No stream.
    #[error("{0}")]
    Dial(#[from] DialError),
    /// The connection ended, or its handshake failed.
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    /// The server refused something that a link cannot do without.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The server answered out of turn.
    #[error("the server answered another question than was asked")]
    OutOfTurn,
    /// No answer came.
    #[error("the server does not answer any more")]
    Silent,
}

impl LinkError {
    /// Whether a person must hear of it: somebody else answers at the server's address.
    pub fn is_impostor(&self) -> bool {
        matches!(self, Self::Connection(ConnectionError::Handshake(HandshakeError::WrongServer)))
    }
}

/// A connection after its handshake.
pub struct Link {
    writer: FrameWriter<WriteHalf<Box<dyn Stream>>>,
    incoming: mpsc::Receiver<Result<ServerMessage, ConnectionError>>,
    reader: JoinHandle<()>,
    next_id: u64,
}

impl Link {
    /// Connects to `server` as `key`, on a circuit of `isolation`.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn open(
        dialer: &Dialer,
        isolation: &Isolation,
        server: &ServerAddress,
        key: SecretKey,
    ) -> Result<Self, LinkError> {
        let stream = dialer.dial(server, isolation).await?;
        let (reader, writer) = connection::connect(split(stream), *server.key(), key, &mut OsRng).await?;
        let (sender, incoming) = mpsc::channel(READ_AHEAD);
        let reader = tokio::spawn(read_all(reader, sender));
        Ok(Self { writer, incoming, reader, next_id: 1 })
    }

    /// Sends a request and hands out its id. The first one carries the protocol version.
    ///
    /// # Errors
    /// [`LinkError::Connection`].
    pub async fn send(&mut self, command: Command) -> Result<u64, LinkError> {
        let id = self.next_id;
        self.next_id += 1;
        let version = if id == 1 { PROTOCOL_VERSION } else { 0 };
        self.writer.write(&Request { id, version, command }.to_bytes()).await?;
        Ok(id)
    }

    /// What the server says next. Safe to give up waiting for.
    ///
    /// # Errors
    /// [`LinkError::Connection`] when the connection ended.
    pub async fn next(&mut self) -> Result<ServerMessage, LinkError> {
        match self.incoming.recv().await {
            Some(message) => Ok(message?),
            None => Err(ConnectionError::Closed.into()),
        }
    }

    /// The reply to the oldest request, on a link that subscribed to nothing.
    ///
    /// # Errors
    /// [`LinkError::OutOfTurn`] for anything else, [`LinkError::Silent`] if nothing comes.
    pub async fn reply(&mut self, id: u64) -> Result<Result<Reply, Refusal>, LinkError> {
        let waited = tokio::time::timeout(Duration::from_millis(REPLY_TIMEOUT_MS), self.next()).await;
        match waited.map_err(|_| LinkError::Silent)?? {
            ServerMessage::Reply { id: answered, outcome } if answered == id => Ok(outcome),
            _ => Err(LinkError::OutOfTurn),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read_all<R: tokio::io::AsyncRead + Unpin>(
    mut reader: FrameReader<R>,
    sender: mpsc::Sender<Result<ServerMessage, ConnectionError>>,
) {
    loop {
        let message = match reader.read().await {
            Ok(body) => ServerMessage::from_bytes(&body).map_err(ConnectionError::from),
            Err(error) => Err(error),
        };
        let ended = message.is_err();
        if sender.send(message).await.is_err() || ended {
            return;
        }
    }
}
