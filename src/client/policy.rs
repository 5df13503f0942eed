//! What a person's settings say of messages: whether they are acknowledged, for how long they are tried, how large they may
//! be, and how long they are kept. `chatterbox.toml` says it for the account, `conversations/X/settings.toml` for one
//! conversation.

use std::time::Duration;

use crate::limits::{ACKNOWLEDGE_DELAY_MS, RECEIVE_LIMIT_BYTES, RETRY_PERIOD_MS, SEND_LIMIT_BYTES};
use crate::net::dialer::Way;

/// What the settings of the account say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether our program tells others that their messages are on our disk.
    pub acknowledge: bool,
    /// The longest of the random waits before it does.
    pub acknowledge_delay: Duration,
    /// How long a message is tried before it counts as failed.
    pub retry_period: Duration,
    /// The largest content that is sent, bytes.
    pub send_limit: u64,
    /// The largest content that is taken, bytes.
    pub receive_limit: u64,
    /// The age at which messages are erased; none where they are kept.
    pub expire: Option<Duration>,
}

impl Policy {
    /// Where nothing is set. Servers see the address of a direct connection: a delay would hide nothing from them.
    pub fn by_default(way: &Way) -> Self {
        let delay_ms = if *way == Way::Direct { 0 } else { ACKNOWLEDGE_DELAY_MS };
        Self {
            acknowledge: true,
            acknowledge_delay: Duration::from_millis(delay_ms),
            retry_period: Duration::from_millis(RETRY_PERIOD_MS),
            send_limit: SEND_LIMIT_BYTES,
            receive_limit: RECEIVE_LIMIT_BYTES,
            expire: None,
        }
    }
}
