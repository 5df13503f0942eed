//! How long this run has listened to our mailbox. What may be waiting there comes before conclusions that are drawn from
//! silence.

use crate::clock::Timestamp;
use crate::limits::{MAILBOX_DRAINED_MS, MAILBOX_QUIET_MS, MAILBOX_QUIET_WAIT_MS, PRESENCE_STEP_MAX_MS, RECONNECT_MS};

/// What this run has seen of its home connection. Times are added up in small steps, so that neither a sleeping machine
/// nor a clock that is set counts as listening.
#[derive(Debug, Default)]
pub struct Presence {
    last: Option<Timestamp>,
    is_connected: bool,
    /// Connected, all in all.
    connected_ms: u64,
    /// In this state, connected or not.
    state_ms: u64,
    /// Since the last envelope came, or the connection, or went.
    quiet_ms: u64,
    /// This connection is given up for another.
    reconnects: bool,
}

impl Presence {
    /// Time has passed, with or without a home connection.
    pub fn pass(&mut self, is_connected: bool, now: Timestamp) {
        if self.is_connected != is_connected {
            // What is pushed after our own reconnecting was seen before: else somebody who has us do that again and again would
            // keep conclusions from us for ever.
            let is_same = self.reconnects && (self.is_connected || self.quiet_ms < RECONNECT_MS);
            if !is_same {
                self.state_ms = 0;
            }
            self.reconnects &= !is_connected;
            (self.is_connected, self.quiet_ms) = (is_connected, 0);
        }
        let step = self.last.replace(now).map_or(0, |last| now.millis_since(last).min(PRESENCE_STEP_MAX_MS));
        self.state_ms += step;
        self.quiet_ms += step;
        if self.is_connected {
            self.connected_ms += step;
        }
    }

    /// We give this connection up for another, so that the mailbox is pushed again. Its end is no change.
    pub fn reconnects(&mut self) {
        self.reconnects = self.is_connected;
    }

    /// An envelope came.
    pub fn heard(&mut self) {
        self.quiet_ms = 0;
    }

    /// Whether an answer that we do not have is not among what is being pushed just now: the mailbox has come to rest, or
    /// we have waited for that long enough.
    pub fn has_settled(&self) -> bool {
        self.state_ms >= MAILBOX_QUIET_WAIT_MS || (self.is_connected && self.quiet_ms >= MAILBOX_QUIET_MS)
    }

    /// Whether everything that waited in the mailbox while we were away has been seen.
    pub fn has_drained(&self) -> bool {
        self.connected_ms >= MAILBOX_DRAINED_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(presence: &mut Presence, is_connected: bool, seconds: u64) {
        for _ in 0..seconds {
            let last = presence.last.unwrap_or_default();
            presence.pass(is_connected, Timestamp::from_micros(last.micros() + 1_000_000));
        }
    }

    #[test]
    fn silence_counts_once_the_mailbox_rests() {
        let mut presence = Presence::default();
        after(&mut presence, false, 60);
        assert!(!presence.has_settled(), "not connected");
        after(&mut presence, true, 29);
        presence.heard();
        after(&mut presence, true, 29);
        assert!(!presence.has_settled(), "envelopes come");
        after(&mut presence, true, 1);
        assert!(presence.has_settled() && !presence.has_drained());
        after(&mut presence, false, 1);
        assert!(!presence.has_settled());
        after(&mut presence, false, 3_600);
        assert!(presence.has_settled(), "nobody waits for ever");
    }

    #[test]
    fn who_has_us_reconnect_again_and_again_and_writes_all_the_time_delays_conclusions_by_an_hour() {
        let mut presence = Presence::default();
        let round = |presence: &mut Presence, away| {
            (0..3).for_each(|_| {
                after(presence, true, 20);
                presence.heard();
            });
            presence.reconnects();
            after(presence, false, away);
        };
        (0..55).for_each(|_| round(&mut presence, 5));
        assert!(!presence.has_settled());
        after(&mut presence, true, 27);
        assert!(presence.has_settled());
        // Away for longer than that takes: what came meanwhile was not seen.
        round(&mut presence, RECONNECT_MS / 1_000 + 1);
        after(&mut presence, true, 29);
        assert!(!presence.has_settled());
        after(&mut presence, true, 1);
        assert!(presence.has_settled());
    }

    #[test]
    fn a_sleeping_machine_and_a_clock_that_jumps_do_not_listen() {
        let mut presence = Presence::default();
        presence.pass(true, Timestamp::from_micros(1));
        presence.pass(true, Timestamp::from_micros(1_000_000_000_000_000));
        presence.pass(true, Timestamp::from_micros(1_000_000));
        assert!(!presence.has_drained() && !presence.has_settled());
        after(&mut presence, true, 3_600);
        assert!(presence.has_drained());
    }
}
