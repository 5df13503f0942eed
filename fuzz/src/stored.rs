//! The file of the sessions with one peer.

use chatterbox::wire::Malformed;
use chatterbox::wire::session::{SessionState, Standing, sessions_from_bytes, sessions_to_bytes};

/// What such a file says.
pub type Stored = (Vec<SessionState>, Standing);

pub fn parse(bytes: &[u8]) -> Result<Stored, Malformed> {
    sessions_from_bytes(bytes)
}

pub fn serialize(stored: &Stored) -> Vec<u8> {
    let (sessions, standing) = stored;
    sessions_to_bytes(sessions, standing).to_vec()
}

pub fn sessions(stored: &mut Stored) -> &mut Vec<SessionState> {
    &mut stored.0
}

/// A file with these sessions.
pub fn with(sessions: Vec<SessionState>) -> Stored {
    (sessions, Standing::default())
}
