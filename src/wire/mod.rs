//! Every format that leaves this process, parsed once into domain types.
//!
//! `build.rs` compiles `proto/` into the private module `generated`. Nothing above this floor sees it: each file here
//! turns one kind of message into a type whose fields are checked (lengths, ranges, names), and back. What a parser
//! refuses it names by message and field, and never by content.

pub mod acknowledgements;
pub mod address;
pub mod arriving;
pub mod author;
pub mod control;
pub mod conversation;
pub mod counter;
pub mod dropped;
pub mod envelope;
pub mod frame;
pub mod header;
pub mod identity;
pub mod journal;
pub mod known;
pub mod large;
pub mod part;
pub mod payload;
pub mod prekey;
pub mod profile;
pub mod ranges;
pub mod recovery;
pub mod reply;
pub mod request;
pub mod sealing;
pub mod sent;
pub mod served;
pub mod session;
pub mod spool;
pub mod state;
pub mod transcript;

use thiserror::Error;

/// What prost generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    pub mod frame {
        include!(concat!(env!("OUT_DIR"), "/chatterbox.frame.rs"));
    }
    pub mod journal {
        include!(concat!(env!("OUT_DIR"), "/chatterbox.journal.rs"));
    }
    pub mod payload {
        include!(concat!(env!("OUT_DIR"), "/chatterbox.payload.rs"));
    }
    pub mod profile {
        include!(concat!(env!("OUT_DIR"), "/chatterbox.profile.rs"));
    }
    pub mod state {
        include!(concat!(env!("OUT_DIR"), "/chatterbox.state.rs"));
    }
}

/// Bytes that are not what they should be.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("malformed {what}: {problem}")]
pub struct Malformed {
    /// The message or field, as `docs/protocol.md` names it.
    pub what: &'static str,
    /// What is wrong with it; never its content.
    pub problem: &'static str,
}

impl Malformed {
    pub(crate) fn new(what: &'static str, problem: &'static str) -> Self {
        Self { what, problem }
    }
}

/// Parses a generated message.
fn decode<M: prost::Message + Default>(what: &'static str, bytes: &[u8]) -> Result<M, Malformed> {
    M::decode(bytes).map_err(|_| Malformed::new(what, "not the protobuf it should be"))
}

/// A field of exactly `N` bytes.
fn array<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| Malformed::new(what, "wrong length"))
}

/// A secret field of exactly `N` bytes; the message's own copy is wiped.
fn secret<const N: usize>(
    what: &'static str,
    mut bytes: Vec<u8>,
) -> Result<crate::crypto::secret::Secret<N>, Malformed> {
    let secret = crate::crypto::secret::Secret::from_slice(&bytes);
    zeroize::Zeroize::zeroize(&mut bytes);
    secret.ok_or(Malformed::new(what, "wrong length"))
}

/// A field of 16 bytes, or none.
fn salt(what: &'static str, bytes: &[u8]) -> Result<Option<[u8; 16]>, Malformed> {
    if bytes.is_empty() { Ok(None) } else { array(what, bytes).map(Some) }
}

/// A field that must be there.
fn required<T>(what: &'static str, field: Option<T>) -> Result<T, Malformed> {
    field.ok_or(Malformed::new(what, "missing"))
}
