//! Frames over a stream: the handshake's I/O, then boxes of one size, each behind the varint of its length (design,
//! section 6).
//!
//! Only two lengths are legal on the wire, that of a proof frame and that of an ordinary one. The length is compared
//! before a byte of the box is read or room for it is made: a stranger's number never sizes anything.

use std::io;
use std::time::Duration;

use rand_core::CryptoRngCore;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::crypto::dh::{PublicKey, SecretKey};
use crate::handshake::{AwaitingClientProof, AwaitingEphemeral, HandshakeError, Opener, PROOF_FRAME_BYTES, Sealer};
use crate::limits::{BOX_OVERHEAD_BYTES, FRAME_BYTES, HANDSHAKE_TIMEOUT_MS, WRITE_TIMEOUT_MS};
use crate::wire::Malformed;
use crate::wire::frame;

/// Why a connection ended.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The stream broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// The other side closed it, between frames.
    #[error("the other side closed the connection")]
    Closed,
    /// The handshake did not succeed.
    #[error("handshake: {0}")]
    Handshake(#[from] HandshakeError),
    /// The handshake or a write took too long.
    #[error("the other side stalled")]
    Stalled,
    /// A length on the wire other than that of a frame.
    #[error("the other side sent a frame of another size")]
    FrameSize,
    /// A frame's box did not open.
    #[error("a frame was forged or damaged")]
    Forged,
    /// A frame's content is not what it should be.
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

/// The half of a connection that frames arrive on.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    opener: Opener,
}

/// The half of a connection that frames leave on.
#[derive(Debug)]
pub struct FrameWriter<W> {
    stream: W,
    sealer: Sealer,
}

/// Performs the client's side within [`HANDSHAKE_TIMEOUT_MS`], and hands out both halves.
///
/// # Errors
/// [`ConnectionError`]; `Handshake(WrongServer)` is the one that a person must hear of.
pub async fn connect<R, W>(
    (mut reader, mut writer): (R, W),
    server: PublicKey,
    long_term: SecretKey,
    rng: &mut (impl CryptoRngCore + Send),
) -> Result<(FrameReader<R>, FrameWriter<W>), ConnectionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (awaiting, ephemeral) = AwaitingEphemeral::start(server, long_term, rng);
    let handshake = async move {
        writer.write_all(&ephemeral.0).await?;
        writer.flush().await?;
        let awaiting = awaiting.receive(read_key(&mut reader).await?)?;
        let proof = read_box(&mut reader, PROOF_FRAME_BYTES).await?;
        let (proof, sealer, opener) = awaiting.receive(&proof)?;
        write_box(&mut writer, &proof).await?;
        Ok((FrameReader { stream: reader, opener }, FrameWriter { stream: writer, sealer }))
    };
    timeout(Duration::from_millis(HANDSHAKE_TIMEOUT_MS), handshake).await.map_err(|_| ConnectionError::Stalled)?
}

/// Performs the server's side within [`HANDSHAKE_TIMEOUT_MS`], and hands out the client's key and both halves.
///
/// # Errors
/// [`ConnectionError`].
pub async fn accept<R, W>(
    (mut reader, mut writer): (R, W),
    long_term: SecretKey,
    rng: &mut (impl CryptoRngCore + Send),
) -> Result<(PublicKey, FrameReader<R>, FrameWriter<W>), ConnectionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let handshake = async move {
        let their_ephemeral = read_key(&mut reader).await?;
        let (awaiting, ephemeral, proof) = AwaitingClientProof::start(their_ephemeral, long_term, rng)?;
        writer.write_all(&ephemeral.0).await?;
        write_box(&mut writer, &proof).await?;
        let proof = read_box(&mut reader, PROOF_FRAME_BYTES).await?;
        let (shown, sealer, opener) = awaiting.receive(&proof)?;
        Ok((shown, FrameReader { stream: reader, opener }, FrameWriter { stream: writer, sealer }))
    };
    timeout(Duration::from_millis(HANDSHAKE_TIMEOUT_MS), handshake).await.map_err(|_| ConnectionError::Stalled)?
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// The body of the next frame. Not cancellation-safe: a connection whose read was dropped half-way is of no use.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`] where the stream ended between two frames, others where it did not.
    pub async fn read(&mut self) -> Result<Vec<u8>, ConnectionError> {
        let boxed = read_box(&mut self.stream, FRAME_BYTES).await?;
        let plaintext = self.opener.open(&boxed).map_err(|_| ConnectionError::Forged)?;
        Ok(frame::unpad(&plaintext)?.to_vec())
    }
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Sends `body` as one frame, within [`WRITE_TIMEOUT_MS`].
    ///
    /// # Errors
    /// [`ConnectionError::Malformed`] if the body is too long for a frame, others if the stream does not take it.
    pub async fn write(&mut self, body: &[u8]) -> Result<(), ConnectionError> {
        let boxed = self.sealer.seal(&frame::pad(body)?);
        timeout(Duration::from_millis(WRITE_TIMEOUT_MS), write_box(&mut self.stream, &boxed))
            .await
            .map_err(|_| ConnectionError::Stalled)?
    }

    /// Says goodbye to the other side.
    pub async fn close(mut self) {
        // Nothing depends on it: the other side finds out by itself.
        let _ = self.stream.shutdown().await;
    }
}

async fn read_key<R: AsyncRead + Unpin>(reader: &mut R) -> Result<PublicKey, ConnectionError> {
    let mut key = [0; 32];
    reader.read_exact(&mut key).await?;
    Ok(PublicKey(key))
}

/// Reads the box of a plaintext of `plaintext_bytes`.
async fn read_box<R: AsyncRead + Unpin>(reader: &mut R, plaintext_bytes: usize) -> Result<Vec<u8>, ConnectionError> {
    let box_bytes = plaintext_bytes + BOX_OVERHEAD_BYTES;
    for (position, expected) in varint(box_bytes).into_iter().enumerate() {
        let mut byte = [0];
        match reader.read_exact(&mut byte).await {
            Ok(_) => {}
            Err(error) if position == 0 && error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(ConnectionError::Closed);
            }
            Err(error) => return Err(error.into()),
        }
        if byte[0] != expected {
            return Err(ConnectionError::FrameSize);
        }
    }
    let mut boxed = vec![0; box_bytes];
    reader.read_exact(&mut boxed).await?;
    Ok(boxed)
}

async fn write_box<W: AsyncWrite + Unpin>(writer: &mut W, boxed: &[u8]) -> Result<(), ConnectionError> {
    let mut bytes = varint(boxed.len());
    bytes.extend_from_slice(boxed);
    writer.write_all(&bytes).await?;
    writer.flush().await?;
    Ok(())
}

/// Unsigned LEB128, shortest form.
fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits fit eight");
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::OsRng;
    use tokio::io::{duplex, split};

    async fn pair() -> (
        FrameReader<impl AsyncRead + Unpin>,
        FrameWriter<impl AsyncWrite + Unpin>,
        FrameReader<impl AsyncRead + Unpin>,
        FrameWriter<impl AsyncWrite + Unpin>,
    ) {
        let (near, far) = duplex(1024);
        let server = SecretKey::random(&mut OsRng);
        let expected = server.public();
        let (client, accepted) = tokio::join!(
            async { connect(split(near), expected, SecretKey::random(&mut OsRng), &mut OsRng).await.unwrap() },
            async { accept(split(far), server, &mut OsRng).await.unwrap() },
        );
        (client.0, client.1, accepted.1, accepted.2)
    }

    #[tokio::test]
    async fn frames_arrive_as_they_were_sent() {
        let (_, mut client_writer, mut server_reader, _server_writer) = pair().await;
        let (sent, received) = tokio::join!(client_writer.write(b"request"), server_reader.read());
        sent.unwrap();
        assert_eq!(received.unwrap(), b"request");
        client_writer.close().await;
        assert!(matches!(server_reader.read().await, Err(ConnectionError::Closed)));
    }

    #[tokio::test]
    async fn another_length_ends_the_connection_unread() {
        for bytes in [&[0x00][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0x90, 0x83, 0x01], &[0x90, 0x82, 0x81, 0x00]] {
            let (mut near, far) = duplex(64);
            near.write_all(bytes).await.unwrap();
            let read = read_box(&mut { far }, FRAME_BYTES).await;
            assert!(matches!(read, Err(ConnectionError::FrameSize)));
        }
    }

    #[test]
    fn varints_of_the_two_lengths() {
        assert_eq!(varint(PROOF_FRAME_BYTES + BOX_OVERHEAD_BYTES), [0x80, 0x01]);
        assert_eq!(varint(FRAME_BYTES + BOX_OVERHEAD_BYTES), [0x90, 0x82, 0x01]);
    }
}
