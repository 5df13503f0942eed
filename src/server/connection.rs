//! One connection: the handshake, then a reader, the session and a writer in one task, which all end together.
//!
//! ```text
//! socket -> read -> requests (1) -> session -> frames (SERVER_WRITE_QUEUE_MAX) -> write -> socket
//! ```
//!
//! Both queues are bounded and every step waits for the next: a peer that does not read is not read from either, and is
//! gone after `WRITE_TIMEOUT_MS`. An idle connection holds no frame at all.

use std::sync::Arc;

use rand_core::OsRng;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::bounds::Bounds;
use super::session::{Incoming, Session};
use super::store::Store;
use crate::crypto::dh::SecretKey;
use crate::limits::{PROTOCOL_VERSION, SERVER_WRITE_QUEUE_MAX};
use crate::net::connection::{ConnectionError, FrameReader, FrameWriter, accept};
use crate::wire::identity::AccountId;
use crate::wire::reply::{Refusal, ServerMessage};
use crate::wire::request::{Request, RequestHead};

/// What the reader collects of a frame's start in one system call: the varint of its length. The rest goes straight
/// where it belongs.
const READ_AHEAD_BYTES: usize = 16;

/// True once the server stops.
pub type Stopping = watch::Receiver<bool>;

/// Serves one connection until it ends, whatever ends it.
pub async fn serve<S, R, W>(
    (reader, writer): (R, W),
    key: SecretKey,
    store: Arc<S>,
    bounds: Bounds,
    mut stopping: Stopping,
) where
    S: Store,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let stream = (BufReader::with_capacity(READ_AHEAD_BYTES, reader), writer);
    let mut rng = OsRng;
    let shaken = tokio::select! {
        shaken = timeout(bounds.handshake, accept(stream, key, &mut rng)) => shaken,
        () = stopped(&mut stopping) => return,
    };
    let (client, reader, writer) = match shaken.unwrap_or(Err(ConnectionError::Stalled)) {
        Ok(accepted) => accepted,
        Err(error) => return tracing::debug!(cause = %error, "a handshake failed"),
    };

    let (requests_sender, requests) = mpsc::channel(1);
    let (frames_sender, frames) = mpsc::channel(SERVER_WRITE_QUEUE_MAX);
    let session = Session::new(store, AccountId(client), frames_sender);
    let reading = async {
        let cause = read(reader, requests_sender, bounds, stopping).await;
        tracing::debug!(%cause, "a connection is read no further");
        // The session finds its requests ended, and ends once it has answered them.
        std::future::pending::<()>().await;
    };
    let mut writing = std::pin::pin!(write(writer, frames));
    tokio::select! {
        () = &mut writing => return,
        () = session.run(requests) => {}
        () = reading => {}
    }
    // With the session its sender is gone: the writer writes what is queued, and closes.
    writing.await;
}

/// Reads requests until there is a reason not to, and says which.
async fn read<R: AsyncRead + Unpin>(
    mut reader: FrameReader<R>,
    requests: mpsc::Sender<Incoming>,
    bounds: Bounds,
    mut stopping: Stopping,
) -> ConnectionError {
    let mut first = true;
    loop {
        // A frame read half-way when the server stops is lost with its connection: it was not acknowledged.
        let frame = tokio::select! {
            frame = timeout(bounds.idle, reader.read()) => frame,
            () = stopped(&mut stopping) => return ConnectionError::Closed,
        };
        let body = match frame {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => return error,
            Err(_) => return ConnectionError::Stalled,
        };
        let (incoming, last) = parse(&body, first);
        if let Some(incoming) = incoming
            && requests.send(incoming).await.is_err()
        {
            return ConnectionError::Closed;
        }
        if let Some(error) = last {
            return error;
        }
        first = false;
    }
}

/// A frame's body as a request, and why it is the last one, if it is.
fn parse(body: &[u8], first: bool) -> (Option<Incoming>, Option<ConnectionError>) {
    let malformed = match RequestHead::from_bytes(body) {
        // Before the command, which a client of another version may have made up.
        Ok(head) if first && head.version != PROTOCOL_VERSION => {
            let refused = Incoming { id: head.id, command: Err(Refusal::Version) };
            return (Some(refused), Some(ConnectionError::Closed));
        }
        Ok(head) => match Request::from_bytes(body) {
            Ok(request) => return (Some(Incoming { id: request.id, command: Ok(request.command) }), None),
            // Id 0 is what a frame without an id looks like.
            Err(_) if head.id != 0 => {
                return (Some(Incoming { id: head.id, command: Err(Refusal::Malformed) }), None);
            }
            Err(malformed) => malformed,
        },
        Err(malformed) => malformed,
    };
    (None, Some(malformed.into()))
}

/// Writes frames until there are no more to come, then says goodbye; or until the peer does not take them.
async fn write<W: AsyncWrite + Unpin>(mut writer: FrameWriter<W>, mut frames: mpsc::Receiver<ServerMessage>) {
    while let Some(message) = frames.recv().await {
        if let Err(error) = writer.write(&message.to_bytes()).await {
            return tracing::debug!(cause = %error, "a connection takes no more frames");
        }
    }
    writer.close().await;
}

/// Waits until the server stops. A server that is gone has stopped.
async fn stopped(stopping: &mut Stopping) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

#[cfg(test)]
mod tests;
