//! The ratchet (design, section 5).

/// Skipped message keys kept in one session; beyond it the oldest go. A thousand is the design's least; twice that is
/// a burst in full disorder, at 80 bytes each.
pub const SKIPPED_KEYS_MAX: usize = 2_000;

/// Chains of the peer that a session keeps because messages of them are missing. Each costs one trial when a tag does
/// not tell; a peer that steps so often without its messages arriving has lost them.
pub const RECEIVING_CHAINS_MAX: usize = 32;

/// How many messages one may jump over, in the chain that its author has closed and in its own together. Fixed by the design: 65,536
/// steps of a chain are 50 ms of work.
pub const CHAIN_JUMP_MAX: u64 = 65_536;

/// The same for somebody who is neither a contact nor takes part in an accepted conversation of ours, or is blocked: 1.5 ms, before
/// it is known what they say. As many as one session keeps keys of: what a stranger has under way that may come to anything, what a
/// request takes and what stays at our server for want of room there, is a fifth of it.
pub const STRANGER_JUMP_MAX: u64 = SKIPPED_KEYS_MAX as u64;

/// How many tags ahead of the last message a session announces in the peer's open chain, at most; at least it is half as
/// many: the disorder in which an envelope is still found without trial decryption.
pub const TAG_WINDOW: u64 = 64;

/// How many tags of the peer's next chain a session announces. A chain seldom begins with more lost than this, and the
/// tags of 10,000 sessions are held in memory.
pub const NEXT_TAG_WINDOW: u64 = 16;

/// Headers that are tried in a second for envelopes whose tag no session expects: 3 us each, a twentieth of a core.
pub const TRIALS_PER_SECOND_MAX: usize = 16_384;

/// What the trial of a header costs, in steps of a chain.
pub const TRIAL_STEPS: u64 = 4;

/// Steps of chains that go in a second into envelopes that were kept and are tried again, but for those of the last one: 50 ms, a
/// twentieth of a core.
pub const RETRIED_STEPS_PER_SECOND_MAX: u64 = 65_536;

/// What each of them counts at least: as much as an opening, which takes some key agreements. All that are kept have their turn in a
/// second where nobody makes them dear.
pub const RETRIED_STEPS_EACH: u64 = RETRIED_STEPS_PER_SECOND_MAX / super::UNOPENED_MAX as u64;

/// How long the seed of a message that was jumped over is kept: what a server still holds after this is late beyond any
/// retry, and a thief of this disk should not read it.
pub const SKIPPED_KEY_LIFETIME_S: u64 = 30 * 86_400;

/// Sessions kept with one peer; the lowest generations go first. Two arise when both start at once; a few more cover
/// restarts.
pub const SESSIONS_PER_PEER_MAX: usize = 8;

/// How long a session still receives after a higher one was known: what was sealed in it meanwhile has arrived by then, or
/// lies with a courier whose sender is away.
pub const SESSION_RETIRED_S: u64 = 30 * 86_400;

/// Peers whose spent sessions are erased in one look, and no more than a batch takes: the next look comes within a minute.
pub const SESSIONS_SWEPT_MAX: usize = 64;

/// Envelopes that we seal in one chain without an answer. Fixed by the design: a thief of the state reads no further.
pub const CHAIN_ENVELOPES_MAX: u64 = 10_000;

/// How long after its first message a chain goes on without an answer. Fixed by the design, as above.
pub const CHAIN_LIFETIME_S: u64 = 7 * 86_400;

/// From here on a peer's unanswered chain may have been over for the peer: the rest is on its way.
pub const CHAIN_EXCUSED_ENVELOPES: u64 = 9_000;

/// The same by age: clocks differ, and answers cross.
pub const CHAIN_EXCUSED_S: u64 = 6 * 86_400;

/// How far a generation from a peer may be above both our clock and the highest that we know, in microseconds: a hundred
/// years, for clocks that begin in 1970. An honest successor of what was taken is then always taken, and a peer who climbs
/// has thousands of openings to go before there is none.
pub const GENERATION_JUMP_MAX: u64 = 100 * 365 * 86_400 * 1_000_000;

/// How long we wait for a session that a peer names and that we have asked for, before we open another above it: longer
/// than servers take to deliver, unless they do it on purpose.
pub const ANNOUNCED_WAIT_S: u64 = 3_600;

/// How long no envelope must have come from our mailbox before a chain counts as unanswered: the answer may be among what
/// is being pushed.
pub const MAILBOX_QUIET_MS: u64 = 30_000;

/// How long we are away at most when we give up a connection to our server for another on purpose: Tor may need some circuits for
/// it.
pub const RECONNECT_MS: u64 = 120_000;

/// How long we wait for that, or for a connection: a mailbox that never rests and a server that is gone must not keep
/// messages here.
pub const MAILBOX_QUIET_WAIT_MS: u64 = 3_600_000;
