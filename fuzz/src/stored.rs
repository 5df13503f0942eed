//! The file of the sessions with one peer.

use chatterbox::wire::Malformed;
use chatterbox::wire::session::{SessionState, sessions_from_bytes, sessions_to_bytes};

/// What such a file says.
pub type Stored = Vec<SessionState>;

pub fn parse(bytes: &[u8]) -> Result<Stored, Malformed> {
    sessions_from_bytes(bytes)
}

pub fn serialize(stored: &Stored) -> Vec<u8> {
    sessions_to_bytes(stored).to_vec()
}

pub fn sessions(stored: &mut Stored) -> &mut Vec<SessionState> {
    stored
}

/// A file with these sessions.
pub fn with(sessions: Vec<SessionState>) -> Stored {
    sessions
}
