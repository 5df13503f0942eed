//! Large contents that arrive in parts.

/// Contents of one author that have come in part. A client sends a few at a time; what is noted of each is a file of a few
/// hundred bytes.
pub const ARRIVING_PER_AUTHOR_MAX: usize = 32;

/// Contents that have come in part, of all authors: with the largest that can be received where nothing else is set, 1 MiB of
/// memory.
pub const ARRIVING_MAX: usize = 256;

/// Contents of those among them who are no contacts: members of conversations of ours, whom anybody in it may have made up, and
/// strangers. The rest is for contacts.
pub const ARRIVING_OTHERS_MAX: usize = 128;

/// Contents of strangers among them.
pub const ARRIVING_STRANGERS_MAX: usize = 64;

/// What one author's contents may come to, in the largest that is received. Counted is what they say to be: so whatever was
/// begun has room to its end.
pub const ARRIVING_PER_AUTHOR_CONTENTS: u64 = 2;

/// How long a content makes no progress before what came of it is erased: its author has given up before that.
pub const ARRIVING_LIFETIME_S: u64 = 14 * 86_400;

/// How long a content makes no progress before it counts as missing, so that its author is asked for it again. Servers that are
/// away come back in minutes, and what is here is not lost by it.
pub const ARRIVING_STALLS_S: u64 = 3_600;

/// Bytes of parts in one batch: small enough that the copies of it which recording takes stay below 8 MiB.
pub const PARTS_BATCH_BYTES: usize = 1024 * 1024;

/// Bytes that are hashed before anything else has its turn: a fiftieth of a second, in a debug build a tenth.
pub const HASHED_AT_ONCE_BYTES: u64 = 4 * 1024 * 1024;

/// Parts of one author left at our server, between two connections, for want of room here. Their keys are kept by the session,
/// which keeps 2,000. Beyond it their contents are refused: a mailbox full of them would keep others out.
pub const PARTS_LEFT_PER_AUTHOR_MAX: usize = 1_024;

/// The same of all authors: half of a mailbox.
pub const PARTS_LEFT_MAX: usize = 8_192;

/// How often parts that were left in the mailbox are looked at for one that can be taken, and the mailbox is pushed again for it, at
/// most.
pub const PARTS_LEFT_RETRY_S: u64 = 60;

/// The same where that brings little, time after time: a mailbox full of them is 128 MiB.
pub const PARTS_LEFT_RETRY_MAX_S: u64 = 3_600;

/// Free space that parts leave on the disk: whichever is less, this, or this share of the whole.
pub const DISK_RESERVE_BYTES: u64 = 256 * 1024 * 1024;
/// In hundredths.
pub const DISK_RESERVE_PERCENT: u64 = 5;

/// Content in parts that is taken of somebody we hold no card of. It counts in their request as the messages that it would
/// fill.
pub const STRANGER_CONTENT_BYTES_MAX: u64 = 1024 * 1024;

/// Notes to one peer that wait, beyond which they are told no more that something was refused.
pub const REFUSALS_WAITING_MAX: usize = 64;

/// Contents that one author takes back in a day before anything of them is here: as many as a client has on their way at a time.
/// 40 bytes are kept of each for 90 days, which come to 1 MiB. Of one beyond it parts may come that nothing completes.
pub const CANCELLED_UNBEGUN_MAX: usize = 256;
