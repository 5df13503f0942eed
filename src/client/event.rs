//! What the engine hears, and what it tells the tasks around it.

use std::collections::BTreeSet;

use super::hook_file::Hook;
use super::ticket::Ticket;
use crate::disk::watch::Hint;
use crate::wire::envelope::Envelope;
use crate::wire::identity::Fingerprint;
use crate::wire::prekey::SignedPrekey;
use crate::wire::profile::SignedProfile;
use crate::wire::reply::{PrekeyCount, StoredEnvelope};

/// Everything that happens to the engine, through one queue.
#[derive(Debug)]
pub enum Event {
    /// The directory may have changed.
    Hint(Hint),
    /// About once a second: time for what waits.
    Tick,
    /// What our server has in the place of our counter, on a connection that is about to stand.
    Counter(Option<Vec<u8>>),
    /// It has this number there now.
    CounterWritten(u64),
    /// How far Tor in this process is, and what is in its way.
    Tor(String),
    /// The home connection stands.
    Connected,
    /// It does not, and why.
    Disconnected(String),
    /// Our server says how many prekeys it holds of us.
    Prekeys {
        /// How many.
        count: PrekeyCount,
        /// Whether all that we uploaded is counted.
        after_upload: bool,
    },
    /// The same, in answer to [`HomeOrder::Count`].
    PrekeysCounted(PrekeyCount),
    /// An envelope from our mailbox.
    Envelope(StoredEnvelope),
    /// A recipient's server has a sealed message.
    Accepted {
        /// Whose.
        recipient: Fingerprint,
        /// Its place in the recipient's queue.
        sequence: u64,
    },
    /// A recipient's server handed out a prekey, not yet checked.
    Prekey {
        /// Whose.
        recipient: Fingerprint,
        /// The prekey.
        prekey: SignedPrekey,
    },
    /// A recipient's server has no prekey for us now.
    NoPrekey {
        /// Whose.
        recipient: Fingerprint,
        /// Why.
        reason: String,
    },
    /// A recipient's server cannot be reached or does not take a message now. It is tried again.
    Trouble {
        /// Whose.
        recipient: Fingerprint,
        /// Why.
        reason: String,
    },
    /// A hook has ended.
    HookEnded {
        /// Which.
        hook: Hook,
        /// What went wrong, if something did.
        problem: Option<String>,
    },
    /// The system would not run a hook.
    HookNotStarted {
        /// Which.
        hook: Hook,
        /// Why.
        problem: String,
    },
    /// The end.
    Stop,
}

/// What the engine asks of the home connection.
#[derive(Debug)]
pub enum HomeOrder {
    /// Delete these envelopes: what explains them is on disk.
    Delete(Vec<u64>),
    /// Upload these prekeys: their secrets are on disk.
    Upload {
        /// The prekeys.
        prekeys: Vec<SignedPrekey>,
        /// Whether they replace all that are there.
        replaces: bool,
    },
    /// Count our prekeys now.
    Count,
    /// Write this number in the counter's place, as this record: it is on disk.
    WriteCounter(u64, Vec<u8>),
    /// Begin anew: what was pushed may have been lost on its way to the disk.
    Reconnect,
}

/// What the engine asks of a courier.
#[derive(Debug)]
pub enum Errand {
    /// Deliver a sealed message.
    Deliver {
        /// Its place in the recipient's queue.
        sequence: u64,
        /// What the server gets.
        envelope: Envelope,
        /// It opens a session: nothing else leaves before it is accepted.
        alone: bool,
        /// To be claimed before it leaves.
        ticket: Ticket,
    },
    /// Take a prekey.
    TakePrekey,
    /// Nothing but to note where the recipient is now.
    NewProfile,
    /// These messages are done with: nothing but to let go of them, unless they are under way just now.
    LetGo {
        /// Their places in the recipient's queue.
        places: BTreeSet<u64>,
        /// Whether a prekey is still wanted.
        wants_prekey: bool,
    },
}

impl Errand {
    /// It is about to be done. False if it must not be any more.
    #[must_use]
    pub fn claim(&self) -> bool {
        match self {
            Self::Deliver { ticket, .. } => ticket.claim(),
            _ => true,
        }
    }
}

/// An errand with whom it is for.
#[derive(Debug)]
pub struct Order {
    /// Where they are, by their newest profile.
    pub recipient: SignedProfile,
    /// What to do.
    pub errand: Errand,
    /// Whether others are sent something at the same time: then it is done after a random delay.
    pub spreads: bool,
}
