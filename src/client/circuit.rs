//! The circuit of one peer: which isolation its connections have, and when that changes.
//!
//! Each change is a new path through Tor, and who can cause changes can wait for one through relays of their own, which see
//! our guard. So a server that closes connections changes nothing, and one that refuses them little: [`CIRCUIT_CHANGES_MAX`]
//! at once, and one in [`CIRCUIT_CHANGE_MS`] then. Tor itself leaves a circuit after some ten minutes.

use std::time::Duration;

use rand_core::CryptoRngCore;
use tokio::time::Instant;

use super::link::LinkError;
use crate::limits::{CIRCUIT_CHANGE_MS, CIRCUIT_CHANGES_MAX};
use crate::net::isolation::Isolation;

/// What the connections to one peer share with nothing else.
#[derive(Debug)]
pub struct Circuit {
    isolation: Isolation,
    changes_left: u32,
    /// When the last of the changes that were made up for was.
    refilled: Instant,
}

impl Circuit {
    /// One that nothing has used.
    pub fn fresh(now: Instant, rng: &mut impl CryptoRngCore) -> Self {
        Self { isolation: Isolation::fresh(rng), changes_left: CIRCUIT_CHANGES_MAX, refilled: now }
    }

    /// What streams on it are opened with.
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// A connection failed. Where none came about it may have been the circuit's fault, the exit's for example: then it is
    /// another one from now on, unless that was the case too often.
    pub fn failed(&mut self, error: &LinkError, now: Instant, rng: &mut impl CryptoRngCore) {
        if !matches!(error, LinkError::Dial(_)) {
            return;
        }
        let change = Duration::from_millis(CIRCUIT_CHANGE_MS);
        while self.changes_left < CIRCUIT_CHANGES_MAX && now.duration_since(self.refilled) >= change {
            self.changes_left += 1;
            self.refilled += change;
        }
        if self.changes_left == CIRCUIT_CHANGES_MAX {
            self.refilled = now;
        }
        if self.changes_left > 0 {
            self.changes_left -= 1;
            self.isolation = Isolation::fresh(rng);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;
    use crate::net::connection::ConnectionError;
    use crate::net::dialer::DialError;

    fn refused() -> LinkError {
        LinkError::Dial(DialError::Timeout { server: "host:1".into(), seconds: 1 })
    }

    /// Whether this failure changes the circuit.
    fn changes(circuit: &mut Circuit, error: &LinkError, now: Instant) -> bool {
        let before = circuit.isolation().credentials().0.to_owned();
        circuit.failed(error, now, &mut OsRng);
        circuit.isolation().credentials().0 != before
    }

    #[test]
    fn a_server_that_closes_connections_changes_nothing_and_one_that_refuses_them_little() {
        let mut now = Instant::now();
        let mut circuit = Circuit::fresh(now, &mut OsRng);
        for _ in 0..100 {
            assert!(!changes(&mut circuit, &ConnectionError::Closed.into(), now));
        }
        let changed = (0..100).filter(|_| changes(&mut circuit, &refused(), now)).count();
        assert_eq!(changed, CIRCUIT_CHANGES_MAX as usize);
        let change = Duration::from_millis(CIRCUIT_CHANGE_MS);
        for (passed, expected) in [(change / 2, 0), (change / 2, 1), (change, 1), (change * 100, CIRCUIT_CHANGES_MAX)] {
            now += passed;
            let changed = (0..100).filter(|_| changes(&mut circuit, &refused(), now)).count();
            assert_eq!(changed, expected as usize, "after {passed:?}");
        }
    }
}
