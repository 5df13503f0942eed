//! The wire between a client and the lying server: it keeps what it carries, and damages it where it is told to.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex, split};
use tokio::net::TcpStream;

/// Bytes of one frame on the wire, its length included.
pub const FRAME: usize = 3 + 16 + 16_640;

/// Bytes of the handshake that each side sends: its ephemeral key, and its proof behind two bytes of length.
pub const HANDSHAKE: usize = 32 + 2 + 128;

/// What each connection carried, to the server and to the client.
pub type Recording = Arc<Mutex<Vec<[Vec<u8>; 2]>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// A bit changes.
    Change,
    /// So many bytes are left out.
    LeaveOut(usize),
    /// So many bytes come twice.
    Repeat(usize),
    /// The connection ends.
    End,
}

/// One harm, behind so many bytes of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Damage {
    pub way: Way,
    pub at: usize,
    pub harm: Harm,
}

/// The server's end of a wire whose other end is `stream`.
pub fn through(stream: TcpStream, damage: Option<Damage>, recording: &Recording) -> DuplexStream {
    let (ours, theirs) = duplex(4 * FRAME);
    let number = {
        let mut recording = recording.lock().unwrap();
        recording.push(Default::default());
        recording.len() - 1
    };
    let (from_client, to_client) = stream.into_split();
    let (from_server, to_server) = split(ours);
    let of = |way| damage.filter(|damage| damage.way == way);
    let up = carry(from_client, to_server, of(Way::ToServer), Arc::clone(recording), number, 0);
    let down = carry(from_server, to_client, of(Way::ToClient), Arc::clone(recording), number, 1);
    tokio::spawn(async move {
        // The end of either direction is the end of both, as where a cable is cut.
        tokio::select! {
            () = up => {}
            () = down => {}
        }
    });
    theirs
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    damage: Option<Damage>,
    recording: Recording,
    number: usize,
    direction: usize,
) {
    let mut chunk = vec![0; FRAME];
    let (mut position, mut again) = (0, Vec::new());
    loop {
        let Ok(count @ 1..) = from.read(&mut chunk).await else { return };
        recording.lock().unwrap()[number][direction].extend_from_slice(&chunk[..count]);
        let mut out = Vec::with_capacity(count);
        let mut ends = false;
        for byte in &chunk[..count] {
            let into = damage.map(|damage| (damage.harm, position - damage.at.min(position), damage.at <= position));
            position += 1;
            match into {
                Some((Harm::Change, 0, true)) => out.push(byte ^ 1),
                Some((Harm::LeaveOut(length), into, true)) if into < length => {}
                Some((Harm::Repeat(length), into, true)) if into < length => {
                    out.push(*byte);
                    again.push(*byte);
                    if into + 1 == length {
                        out.append(&mut again);
                    }
                }
                Some((Harm::End, _, true)) => ends = true,
                _ => out.push(*byte),
            }
        }
        if to.write_all(&out).await.is_err() || to.flush().await.is_err() || ends {
            return;
        }
    }
}
