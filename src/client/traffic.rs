//! When envelopes leave: at once, after a random delay where a message goes to several people, or in slots of a schedule
//! that does not depend on what there is to send. What each of these hides is in `docs/threat-model.md`.

use std::time::Duration;

use crate::limits::{FANOUT_DELAY_MS, SCHEDULE_MEAN_MS};
use crate::net::dialer::Way;

/// What the settings say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The longest of the random delays that the recipients of a message to several get. A schedule spreads them anyway.
    pub fanout_delay: Duration,
    /// Whether envelopes leave when there are any.
    pub schedule: Schedule,
}

/// What decides when something leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// Use does.
    #[default]
    Immediate,
    /// Slots do, whose intervals are exponentially distributed. Each is used, if need be for cover.
    Poisson {
        /// The mean of the intervals.
        mean: Duration,
    },
}

impl Traffic {
    /// Where nothing is set. Servers see the address of a direct connection: a delay would hide nothing from them.
    pub fn by_default(way: &Way) -> Self {
        let delay_ms = if *way == Way::Direct { 0 } else { FANOUT_DELAY_MS };
        Self { fanout_delay: Duration::from_millis(delay_ms), schedule: Schedule::Immediate }
    }
}

impl Schedule {
    /// The schedule of the settings with the mean that they leave out.
    pub fn poisson() -> Self {
        Self::Poisson { mean: Duration::from_millis(SCHEDULE_MEAN_MS) }
    }

    /// The mean between two slots, where there are slots.
    pub fn mean(&self) -> Option<Duration> {
        match self {
            Self::Immediate => None,
            Self::Poisson { mean } => Some(*mean),
        }
    }

    /// What `status` says of it; none where envelopes leave when there are any.
    pub fn describe(&self) -> Option<String> {
        let mean = humantime::format_duration(self.mean()?);
        Some(format!("poisson, one envelope each {mean} on average"))
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
