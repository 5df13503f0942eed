//! Prekeys (design, section 5).

/// One-time prekeys an account keeps at its server.
pub const PREKEYS_TARGET: usize = 100;

/// Below this many the pool is refilled.
pub const PREKEYS_REFILL_BELOW: usize = 50;

/// One-time prekeys a server accepts for one account: two full pools, for the moment of a refill.
pub const PREKEYS_PER_ACCOUNT_MAX: usize = 200;

/// Secrets of one-time prekeys a client keeps. Somebody who takes prekeys without using them grows this; at the bound
/// the last-resort prekey serves until some expire.
pub const PREKEY_SECRETS_MAX: usize = 2_000;

/// How long a one-time prekey may be used after its making: 30 days.
pub const PREKEY_LIFETIME_S: u64 = 30 * 86_400;

/// How long after its expiry a one-time prekey still opens: a sender who took it in its last hour, and an envelope that
/// waited at the server meanwhile.
pub const PREKEY_GRACE_S: u64 = 14 * 86_400;

/// One-time prekeys that served and are remembered, some 60 bytes each: forty days of a hundred new sessions a day. Beyond
/// it the oldest go, and what comes for them is an envelope that nothing opens.
pub const USED_PREKEYS_MAX: usize = 4_096;

/// How long a last-resort prekey may be used after its making: 10 days.
pub const LAST_RESORT_LIFETIME_S: u64 = 10 * 86_400;

/// When a last-resort prekey is replaced by a fresh one: halfway, so that one in a sender's hand is still good.
pub const LAST_RESORT_ROTATE_S: u64 = 5 * 86_400;

/// How long after its expiry a last-resort prekey still opens. Its secret dies 14 days after its making: it serves many, so
/// it is the one most worth stealing.
pub const LAST_RESORT_GRACE_S: u64 = 4 * 86_400;

/// Openings that one last-resort prekey serves, each remembered with 32 bytes: then it is replaced, and its secret erased
/// with this memory.
pub const LAST_RESORT_OPENINGS_MAX: usize = 4_096;

/// How long a run must have been connected before secrets are erased for their age: what waited in the mailbox for them
/// comes first.
pub const MAILBOX_DRAINED_MS: u64 = 3_600_000;

/// What passes for time that a daemon was there, between two events: a tick comes each second, and more has passed only
/// while the machine slept or its clock was set.
pub const PRESENCE_STEP_MAX_MS: u64 = 10_000;

/// What passes for time that went by between two ticks, where ages are counted in days: a busy machine may be late with one.
pub const CLOCK_STEP_MAX_MS: u64 = 60_000;

/// How long nothing is erased for its age after a longer step: a clock that was set wrongly by a program is put right by it soon.
pub const CLOCK_DOUBT_MS: u64 = 600_000;

/// A step beyond this is said, where it keeps something from being erased: a machine sleeps for days, or its clock is wrong.
pub const CLOCK_JUMP_LONG_MS: u64 = 86_400_000;

/// How long nothing is erased for its age then: long enough for a person to see it and put it right.
pub const CLOCK_DOUBT_LONG_MS: u64 = 6 * 3_600_000;

/// One serialized signed prekey. Today some 1,400 bytes, most of them its ML-KEM-768 key.
pub const PREKEY_BYTES_MAX: usize = 2_048;
