//! The counts and waits of a running server: those of [`limits`](crate::limits), and others in tests, which have no
//! time to wait for a peer to stall.

use std::time::Duration;

use crate::limits::{HANDSHAKE_TIMEOUT_MS, IDLE_TIMEOUT_MS, SERVER_CONNECTIONS_MAX, SERVER_STOP_MS};

/// What a server grants its peers.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at one time.
    pub connections: usize,
    /// For the whole handshake. More than [`HANDSHAKE_TIMEOUT_MS`] has no effect.
    pub handshake: Duration,
    /// Between two frames, and for a frame to arrive.
    pub idle: Duration,
    /// For the requests under way when the server stops.
    pub stop: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: SERVER_CONNECTIONS_MAX,
            handshake: Duration::from_millis(HANDSHAKE_TIMEOUT_MS),
            idle: Duration::from_millis(IDLE_TIMEOUT_MS),
            stop: Duration::from_millis(SERVER_STOP_MS),
        }
    }
}
