//! Recovery (design, section 5).

/// How long after the start messages wait unsealed for the counter at our home server. A connection takes seconds; a home
/// server that is away must not stop us from writing to others.
pub const COUNTER_WAIT_MS: u64 = 30_000;

/// How far the counter's number leaps after a loss of state: more than any future that was lost has written.
pub const COUNTER_LEAP: u64 = 1 << 32;

/// The highest number of the counter that is believed: a billion losses.
pub const COUNTER_MAX: u64 = 1 << 62;

/// The shortest time between two writes of the counter on a connection that stands.
pub const COUNTER_INTERVAL_MIN_MS: u64 = 60_000;

/// The longest. A backup younger than the last write restores unnoticed, so this is the most that can be lost so; and a
/// frame each few minutes is nothing beside the pings.
pub const COUNTER_INTERVAL_MAX_MS: u64 = 300_000;

/// What a state that was lost may have missed reaches back before its last sign of life by so much: clocks differ, and
/// envelopes wait on servers over a long weekend. A message too many costs an envelope.
pub const LOSS_MARGIN_S: u64 = 4 * 86_400;

/// How long after a loss of our own state it is gone on with: contacts that are added are told, lost directories are found
/// again. As long as others remember what they sent.
pub const RECOVERY_LIFETIME_S: u64 = SENT_LIFETIME_S;

/// The shortest time between two who are told of our loss; as much again is added at random. So 10,000 contacts take four
/// hours, and no server sees a burst of openings.
pub const TELL_INTERVAL_MS: u64 = 1_000;

/// For how long after a loss envelopes may still arrive that nobody can open, and nobody needs to hear of.
pub const UNOPENED_QUIET_S: u64 = 86_400;

/// Messages that are sealed anew in a second, for all who asked: 1 MiB of envelopes.
pub const RESEND_MAX: usize = 64;

/// Those who are looked after in that second. A look goes through all that was sent.
pub const RESEND_PEERS_MAX: usize = 16;

/// How often somebody is told again of a loss of ours, because they lack the session in which they were told.
pub const TOLD_AGAIN_MAX: u32 = 3;

/// How often one peer may ask again for what was sent. Who restores the wrong backup restores another one minutes later;
/// and each message is sealed anew three times at most, however often somebody asks.
pub const RESEND_INTERVAL_S: u64 = 600;

/// How long it is remembered what was sent, so that it can be sent again to somebody who lost their state.
pub const SENT_LIFETIME_S: u64 = 14 * 86_400;

/// Messages that one file of what was sent remembers: at their longest names, and with what is seen of 19 others, 16 MB.
pub const SENT_FILE_ENTRIES_MAX: usize = 8_192;

/// Such files; beyond it the oldest goes. 65,536 messages in two weeks are three a minute, day and night, and 20 MB of
/// memory.
pub const SENT_FILES_MAX: usize = 8;

/// How often one message is sealed anew for one recipient who asks for it again. Fixed by the design.
pub const RESENT_TIMES_MAX: u32 = 3;

/// `.delivery/` files of one conversation that are read, the newest first, when messages come that were sent again.
pub const RECALLED_FILES_MAX: usize = 16_384;

/// What is remembered of them in all: 16 MiB. Beyond it they are read anew.
pub const RECALLED_MAX: usize = 262_144;
