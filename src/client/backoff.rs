//! How long to wait before another try: twice as long each time, with jitter, so that a server that comes back does
//! not meet all its clients in one instant.

use std::time::Duration;

use rand_core::RngCore;

use crate::limits::{CIRCUIT_RETRY_MAX_MS, RECONNECT_DELAY_MAX_MS, RECONNECT_DELAY_MIN_MS};
use crate::net::dialer::Dialer;

/// Counts failures in a row.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    failures: u32,
    max_ms: u64,
}

impl Default for Backoff {
    /// Back within a minute of what kept us away.
    fn default() -> Self {
        Self { failures: 0, max_ms: RECONNECT_DELAY_MAX_MS }
    }
}

impl Backoff {
    /// For connections to somebody else's server, by this dialer.
    pub fn foreign(dialer: &Dialer) -> Self {
        let max_ms = if dialer.builds_circuits() { CIRCUIT_RETRY_MAX_MS } else { RECONNECT_DELAY_MAX_MS };
        Self { failures: 0, max_ms }
    }

    /// The wait after one more failure: a random time between half of the full wait and all of it.
    pub fn failed(&mut self, rng: &mut impl RngCore) -> Duration {
        let doubled = RECONNECT_DELAY_MIN_MS.saturating_mul(1 << self.failures.min(20));
        let full = doubled.min(self.max_ms);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(full / 2 + rng.next_u64() % (full / 2 + 1))
    }

    /// Whether the last try did not work.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// It worked.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::OsRng;

    #[test]
    fn waits_grow_to_the_bound_and_start_over_after_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..40).map(|_| backoff.failed(&mut OsRng).as_millis()).collect();
        assert!(waits[0] <= u128::from(RECONNECT_DELAY_MIN_MS));
        assert!(waits[39] >= u128::from(RECONNECT_DELAY_MAX_MS / 2));
        assert!(waits.iter().all(|wait| *wait <= u128::from(RECONNECT_DELAY_MAX_MS)));
        backoff.succeeded();
        assert!(backoff.failed(&mut OsRng).as_millis() <= u128::from(RECONNECT_DELAY_MIN_MS));
    }
}
