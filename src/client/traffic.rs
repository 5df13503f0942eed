//! When envelopes leave: at once, or after a random delay where a message goes to several people. What that hides is in
//! `docs/threat-model.md`.

use std::time::Duration;

use crate::limits::FANOUT_DELAY_MS;
use crate::net::dialer::Way;

/// What the settings say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The longest of the random delays that the recipients of a message to several get.
    pub fanout_delay: Duration,
}

impl Traffic {
    /// Where nothing is set. Servers see the address of a direct connection: a delay would hide nothing from them.
    pub fn by_default(way: &Way) -> Self {
        let delay_ms = if *way == Way::Direct { 0 } else { FANOUT_DELAY_MS };
        Self { fanout_delay: Duration::from_millis(delay_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_direct_connection_delays_nothing_by_default() {
        assert!(Traffic::by_default(&Way::Direct).fanout_delay.is_zero());
        for way in [Way::Tor, "socks5://127.0.0.1:9050".parse().unwrap()] {
            assert_eq!(Traffic::by_default(&way).fanout_delay, Duration::from_secs(10));
        }
    }
}
