//! Messages (design, section 4).

/// Content that travels in one envelope, beside the message's own fields, its transcript and a profile. What is larger goes
/// in parts.
pub const CONTENT_BYTES_MAX: usize = 10_240;

/// Content of one part. With everything else that a first part may have at its largest (a file name of 255 bytes, a
/// profile, what is seen of 19 others) it fits an envelope.
pub const PART_BYTES: u64 = 11_264;

/// Content of a message that is sent, where nothing else is set: 64 MiB are 5,958 envelopes.
pub const SEND_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// Content of a message that is taken, where nothing else is set.
pub const RECEIVE_LIMIT_BYTES: u64 = 256 * 1024 * 1024;

/// The largest of both that can be set: what is noted of 762,601 parts, one bit each, is 93 KiB.
pub const LARGE_CONTENT_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

/// Parts of large contents that stand in one recipient's queue at a time: as many as keep a connection busy, and what a small
/// message waits behind at most.
pub const LARGE_AHEAD: usize = 8;

/// Large contents that are on their way at a time; of each there is a copy on the disk.
pub const LARGE_CONTENTS_MAX: usize = 256;

/// Those of them that are for one recipient, whose server may be away: others have room beside them.
pub const LARGE_PER_RECIPIENT_MAX: usize = 64;

/// Those of one recipient beyond which nothing large is copied that they ask for again: somebody may ask for all of two weeks.
pub const LARGE_AGAIN_MAX: usize = 4;

/// What is copied, hashed or overwritten of a large file before anything else has its turn: some 30 ms.
pub const LARGE_TURN_BYTES: u64 = 16 * 1024 * 1024;

/// How long nothing is copied after the disk was too full for it.
pub const COPY_RETRY_S: u32 = 30;

/// The longest random wait before messages are acknowledged, where nothing else is set: what is acknowledged and when says to
/// a server that watches two mailboxes who talks to whom, and the less the more is waited.
pub const ACKNOWLEDGE_DELAY_MS: u64 = 10_000;

/// How many refused messages one alert names.
pub const REFUSED_NAMED_MAX: usize = 8;

/// Into how many parts the retry period is divided to see that an acknowledgement is missing: it is after one of them, and, the
/// message having been sent again, after two more.
pub const UNCONFIRMED_FRACTION: u64 = 8;

/// How often a message is sent again because its acknowledgement is missing: one time of three is left for those who ask for it.
pub const UNCONFIRMED_RESENT_MAX: u32 = 2;

/// How long somebody is heard who has not acknowledged something before that counts as missing, or for a shorter part of the
/// retry period: twice the longest delay that they may have set.
pub const UNCONFIRMED_HEARD_MS: u64 = 2 * ACKNOWLEDGE_DELAY_MAX_MS;

/// Of them, those of one recipient.
pub const UNCONFIRMED_PEER_MAX: usize = 32;

/// What is sent again so at one time.
pub const UNCONFIRMED_MAX: usize = 256;

/// The longest that can be set.
pub const ACKNOWLEDGE_DELAY_MAX_MS: u64 = 3_600_000;

/// How long a message is tried, where nothing else is set: a week, so that a server may be away over a holiday.
pub const RETRY_PERIOD_MS: u64 = 7 * 86_400_000;

/// The shortest and the longest that can be set. What was sent is remembered for 14 days, so that whatever is acknowledged
/// late is still known.
pub const RETRY_PERIOD_MIN_MS: u64 = 1_000;
/// The longest.
pub const RETRY_PERIOD_MAX_MS: u64 = 13 * 86_400_000;

/// How long a run must go on before it gives anything up, and after the machine has slept as well: what has become too old
/// meanwhile was not tried meanwhile. As long as the longest wait between two tries.
pub const GIVE_UP_GRACE_MS: u64 = super::CIRCUIT_RETRY_MAX_MS;

/// Alerts that wait in memory until `alerts/` takes files: some 256 KiB, and more than a person reads.
pub const ALERTS_WAITING_MAX: usize = 256;

/// Files of `outbox/.cancel/` that are told of at a time because nothing can be taken back for them: more than anybody reads.
pub const CANCEL_ERRORS_MAX: usize = 64;

/// Messages of one recipient that are given up in one batch.
pub const GIVEN_UP_MAX: usize = 1_024;

/// The shortest age at which messages are erased that can be set.
pub const EXPIRE_MIN_MS: u64 = 60_000;
/// The longest: a hundred years.
pub const EXPIRE_MAX_MS: u64 = 100 * 365 * 86_400_000;

/// Messages that one note acknowledges: with each in a conversation of its own they fill two thirds of an envelope.
pub const NOTE_MESSAGES_MAX: usize = 256;

/// Messages that are to be acknowledged, of all authors together: 4 MiB of memory, and more than come in the 10 seconds that much of
/// one author waits at most. One beyond it is acknowledged if it comes again.
pub const ACKNOWLEDGEMENTS_OWED_MAX: usize = 65_536;

/// Gaps that one note asks for again.
pub const NOTE_MISSING_MAX: usize = 64;

/// Participants of a conversation: their profiles, at their largest, fill an introduction envelope.
pub const PARTICIPANTS_MAX: usize = 20;

/// A subject, in bytes of UTF-8. It becomes part of a directory's name.
pub const SUBJECT_BYTES_MAX: usize = 200;

/// A sender's file name that travels with a message: what every Linux filesystem can hold.
pub const FILE_NAME_BYTES_MAX: usize = 255;

/// The host of a server's address: the longest DNS name, and longer than any onion name.
pub const HOST_BYTES_MAX: usize = 253;

/// A serialized signed profile. The fields at their largest come to 560.
pub const PROFILE_BYTES_MAX: usize = 640;
