//! Whether an envelope was written to a connection. Who carries it claims its ticket before the first byte, and the engine takes
//! the ticket back when it gives the message up: so it is known of each message that is given up or cancelled whether it can
//! have arrived, and one that was taken back in time never leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// It was written to no connection, or to those alone whose server has said that it does not take it.
const HELD: u8 = 0;

/// It was written once, and nothing was answered so far.
const WRITTEN: u8 = 1;

/// It was written, and whether the server took it will not be known: the connection ended before the answer.
const DOUBTFUL: u8 = 2;

/// Nobody may write it any more, and nobody has.
const WITHDRAWN: u8 = 3;

/// One envelope's ticket, shared by its queue and its courier.
#[derive(Clone, Debug)]
pub struct Ticket(Arc<AtomicU8>);

impl Ticket {
    /// Of an envelope that nobody has carried yet.
    pub fn new() -> Self {
        Self(Arc::new(AtomicU8::new(HELD)))
    }

    /// Of an envelope that a former run may have written.
    pub fn doubtful() -> Self {
        Self(Arc::new(AtomicU8::new(DOUBTFUL)))
    }

    /// The envelope is about to be written. False if it must not be any more. What was written before, and comes here again, was
    /// not answered.
    #[must_use]
    pub fn claim(&self) -> bool {
        self.change(|state| match state {
            HELD => Some(WRITTEN),
            WRITTEN => Some(DOUBTFUL),
            _ => None,
        }) != WITHDRAWN
    }

    /// The server has said that it does not take it. Where it was written before that, it may have taken it then.
    pub fn refused(&self) {
        self.change(|state| (state == WRITTEN).then_some(HELD));
    }

    /// From now on nobody writes it. True if nobody has: then it cannot arrive.
    pub fn withdraw(&self) -> bool {
        matches!(self.change(|state| (state == HELD).then_some(WITHDRAWN)), HELD | WITHDRAWN)
    }

    /// Hands out what it was before.
    fn change(&self, next: impl FnMut(u8) -> Option<u8>) -> u8 {
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).unwrap_or_else(|unchanged| unchanged)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_was_written_without_an_answer_may_have_arrived_and_what_was_refused_has_not() {
        let ticket = Ticket::new();
        assert!(ticket.claim());
        assert!(!ticket.withdraw(), "it is on its way");
        ticket.refused();
        assert!(ticket.withdraw() && ticket.withdraw());
        assert!(!ticket.claim(), "it was taken back");

        let ticket = Ticket::new();
        assert!(ticket.claim() && ticket.claim(), "its connection broke");
        ticket.refused();
        assert!(!ticket.withdraw(), "the server may have taken it the first time");

        let ticket = Ticket::doubtful();
        assert!(!ticket.withdraw());
        assert!(ticket.claim(), "it is tried again");
    }

    #[test]
    fn either_it_is_written_or_taken_back_in_time() {
        for _ in 0..1_000 {
            let ticket = Ticket::new();
            let carried = ticket.clone();
            let courier = thread::spawn(move || carried.claim());
            let is_in_time = ticket.withdraw();
            assert_ne!(courier.join().unwrap(), is_in_time);
        }
    }
}
