//! How a session ages: when its chains began, whether they were answered, and since when another one has taken its
//! place.

use super::rank::{self, PeerChain};
use super::session::Session;
use crate::limits::SESSION_RETIRED_S;
use crate::wire::control::Rank;

impl Session {
    /// Where it stands among several with the same peer.
    pub fn rank(&self) -> Rank {
        Rank { generation: self.state.generation, opening: self.state.opening }
    }

    /// Something was sealed in it.
    pub fn sealed(&mut self, now_s: u64) {
        let sending = &mut self.state.sending;
        if sending.since == 0 {
            sending.since = now_s.max(1);
        }
    }

    /// Whether our chain has gone unanswered for so long that nothing more is sealed in it.
    pub fn is_over(&self, now_s: u64) -> bool {
        let sending = &self.state.sending;
        rank::is_over(sending.counter, sending.since, now_s)
    }

    /// Nothing more is sealed in our chain, as if it had gone unanswered for long: what began it was given up.
    pub fn end_chain(&mut self) {
        self.state.sending.since = 1;
    }

    /// The peer's server has something of our chain. True if that was not known before.
    pub fn accepted(&mut self, now_s: u64) -> bool {
        let sending = &mut self.state.sending;
        let first = sending.accepted == 0 && sending.since > 0;
        if first {
            sending.accepted = now_s.max(1);
        }
        first
    }

    /// Whether anything of the peer's was received in it.
    pub fn has_received(&self) -> bool {
        !self.state.receiving.is_empty()
    }

    /// The peer's open chain began with a message that says when it was written. It cannot have begun before what it
    /// answers was sealed, whatever it says.
    pub fn begun(&mut self, written_s: u64, answers_s: u64) {
        if let Some(chain) = self.state.receiving.last_mut() {
            chain.since = written_s.max(answers_s).max(1);
        }
    }

    /// When our chain's first message was sealed; 0 if there is none.
    pub fn sending_since(&self) -> u64 {
        self.state.sending.since
    }

    /// The peer's open chain; none where nothing was received.
    pub fn peer_chain(&self) -> Option<PeerChain> {
        let chain = self.state.receiving.last()?;
        let answered_s = self.state.sending.accepted;
        Some(PeerChain { envelopes: chain.counter, since_s: chain.since, answered_s })
    }

    /// A higher session is known: this one only receives, for a while.
    pub fn retire(&mut self, now_s: u64) {
        if self.state.retired == 0 {
            self.state.retired = now_s.max(1);
        }
    }

    /// Whether that while is over.
    pub fn is_spent(&self, now_s: u64) -> bool {
        let retired = self.state.retired;
        retired > 0 && now_s >= retired.saturating_add(SESSION_RETIRED_S)
    }
}
