//! Whether an envelope was written to a connection. Who carries it claims its ticket before the first byte, and the engine takes
//! the ticket back when it gives the message up: so it is known of each message that is given up or cancelled whether it can
//! have arrived, and one that was taken back in time never leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Nobody has written it.
const HELD: u8 = 0;

/// It was written once, and nothing was answered so far.
const WRITTEN: u8 = 1;

/// It was written, and the server has said each time that it does not take it.
const REFUSED: u8 = 2;

/// It was written, and whether the server took it will not be known: the connection ended before the answer, or the server cannot
/// tell.
const DOUBTFUL: u8 = 3;

/// Added to what it was: nobody writes it any more.
const WITHDRAWN: u8 = 4;

/// What had become of an envelope when it was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nobody has ever written it.
    Never,
    /// Its server has said that it did not take it, which may be a lie.
    InVain,
    /// Its server may have it.
    Perhaps,
}

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

    /// The envelope is about to be written. False if it must not be any more. What was written before, and comes here again without
    /// a refusal, was not answered.
    #[must_use]
    pub fn claim(&self) -> bool {
        self.change(|state| match state {
            HELD | REFUSED => Some(WRITTEN),
            WRITTEN => Some(DOUBTFUL),
            _ => None,
        }) < WITHDRAWN
    }

    /// The server has said that it does not take it. Where it was written before that, it may have taken it then.
    pub fn refused(&self) {
        self.change(|state| match state {
            WRITTEN => Some(REFUSED),
            _ if state == WRITTEN | WITHDRAWN => Some(REFUSED | WITHDRAWN),
            _ => None,
        });
    }

    /// The server has said that it cannot tell whether it has it.
    pub fn unsettled(&self) {
        self.change(|state| (state & !WITHDRAWN == WRITTEN).then_some(DOUBTFUL | (state & WITHDRAWN)));
    }

    /// What is known of it holds no more: this state is an old one.
    pub fn doubt(&self) {
        self.change(|state| Some(DOUBTFUL | (state & WITHDRAWN)));
    }

    /// From now on nobody writes it. Says what had become of it.
    pub fn withdraw(&self) -> Left {
        match self.change(|state| Some(state | WITHDRAWN)) & !WITHDRAWN {
            HELD => Left::Never,
            REFUSED => Left::InVain,
            _ => Left::Perhaps,
        }
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
    fn what_was_written_without_an_answer_may_have_arrived_and_what_was_refused_has_not_by_its_servers_word() {
        let ticket = Ticket::new();
        assert!(ticket.claim());
        ticket.refused();
        assert!(ticket.claim(), "it is tried again");
        ticket.refused();
        assert_eq!([ticket.withdraw(), ticket.withdraw()], [Left::InVain; 2]);
        assert!(!ticket.claim(), "it was taken back");

        let ticket = Ticket::new();
        assert!(ticket.claim());
        assert_eq!(ticket.withdraw(), Left::Perhaps, "it is on its way");
        assert!(!ticket.claim(), "but not once more");
        ticket.refused();
        assert_eq!(ticket.withdraw(), Left::InVain);

        let ticket = Ticket::new();
        assert!(ticket.claim() && ticket.claim(), "its connection broke");
        ticket.refused();
        assert_eq!(ticket.withdraw(), Left::Perhaps, "the server may have taken it the first time");

        let ticket = Ticket::new();
        assert!(ticket.claim());
        ticket.unsettled();
        assert!(ticket.claim());
        ticket.refused();
        assert_eq!(ticket.withdraw(), Left::Perhaps, "the first copy may come out of the server's log");

        let ticket = Ticket::doubtful();
        assert!(ticket.claim(), "it is tried again");
        assert_eq!(ticket.withdraw(), Left::Perhaps);
        assert_eq!(Ticket::new().withdraw(), Left::Never);

        let ticket = Ticket::new();
        ticket.doubt();
        assert!(ticket.claim());
        assert_eq!(ticket.withdraw(), Left::Perhaps);
        ticket.doubt();
        assert!(!ticket.claim(), "it was taken back all the same");
    }

    #[test]
    fn either_it_is_written_or_taken_back_in_time() {
        for _ in 0..1_000 {
            let ticket = Ticket::new();
            let carried = ticket.clone();
            let courier = thread::spawn(move || carried.claim());
            let is_in_time = ticket.withdraw() == Left::Never;
            assert_ne!(courier.join().unwrap(), is_in_time);
        }
    }
}
