//! Transcripts, and what is missing in them (design, section 4).

/// Messages of one author in one conversation whose hashes and times are kept: 3 KiB, which is what each message of theirs
/// writes beside its own envelope. Who says what they have seen is rarely further behind; what is older is not compared.
pub const HELD_MESSAGES_MAX: usize = 64;

/// Gaps that are kept of one incarnation of an author in one conversation. Of more the oldest is given up, aloud.
pub const GAPS_MAX: usize = 64;

/// Ranges of what is missing that are kept of one incarnation because their author says that they will not come. Mostly a gap is one.
/// Of more, the lowest are missing again: so nothing is hidden by their number.
pub const WITHDRAWN_RANGES_MAX: usize = 64;

/// Ranges of what is missing that are kept of what one participant says to have of an incarnation. Of more, those nearest to each
/// other become one, with what is between them: so nothing is hidden by their number. Each has their own: with 20 of them they are
/// 5 KiB, and nobody's lies spoil what others say.
pub const CLAIMED_RANGES_MAX: usize = 16;

/// Incarnations of an author, behind the two that are kept, of which it is remembered that there were such: each is a loss of
/// state.
pub const FORMER_INCARNATIONS_MAX: usize = 8;

/// Conversations that we do not know, in which it is noted what one author wrote while they were blocked. It is they who can make
/// any number; honest ones open few to somebody who does not write back.
pub const UNSEEN_CONVERSATIONS_MAX: usize = 16;

/// How far behind an author's latest message the claims of others about them are believed: as far as one message may jump in a
/// session (`ratchet`). Who is more than that behind has lost their state, and a liar shows no larger gap.
pub const CLAIM_AHEAD_MAX: u64 = 65_536;

/// How long somebody's claim counts about what does not come: what an author has sent is kept that long to be sent again.
pub const CLAIM_LIFETIME_S: u64 = 14 * 86_400;

/// How long what somebody claims of an author is not asked for from the beginning again, however much more of it they claim: three
/// notes a day for each who tells.
pub const CLAIM_ASKED_ANEW_S: u64 = 86_400;

/// How long it is waited for what is missing before it is asked for, the first time, the second and the third. Messages to several
/// people leave within 10 seconds of each other where nothing else is set, and overtake each other anyway. What has not come after
/// three times is not there any more, or its author is away for long.
pub const GAP_WAITS_S: [u64; 3] = [30, 600, 7_200];

/// How long something is missing before a person is told: by then three times were asked, and a machine that sleeps at night was
/// on again.
pub const GAP_ALERT_S: u64 = 86_400;

/// The same of what comes in parts: as long as its author's client tries where nothing else is set (`RETRY_PERIOD_MS`). Large files over
/// slow lines take days; but somebody who sends a part now and then, and another content to others, must not keep that hidden by it.
pub const GAP_ALERT_IN_PARTS_S: u64 = 7 * 86_400;

/// Authors in conversations, of whom something is missing, that are looked at in a second: of a thousand each has its turn every two
/// seconds, and is asked after half a minute. Whoever tells of more that is missing makes it slower, and nothing larger.
pub const GAP_LOOKS_MAX: usize = 512;

/// How far apart the names' times of two messages are at least, for each that may still come between them: then it finds
/// its place there.
pub const GAP_ROOM_MICROS: u64 = 1;

/// The most room that is left for a gap, however many are missing by what its author says: nobody's names run far ahead of
/// the clock by that.
pub const GAP_ROOM_MAX_MICROS: u64 = 10_000;

/// How often one peer is heard that asks for what is missing. They ask each 30 seconds at most, for all that is due then.
pub const MISSING_INTERVAL_S: u64 = 10;

/// Messages that are to be sent again to those who lack them, in all: half a minute of envelopes for each of four people. Who
/// asks beyond that is not heard, and asks again. As many more may wait for room.
pub const MISSING_WAITING_MAX: usize = 8_192;

/// Peers whose question for what is missing is still to be answered by what of it will not come. An answer waits for a few seconds;
/// of more, who is not answered asks again.
pub const MISSING_ANSWERS_MAX: usize = 256;

/// Envelopes to one peer that wait, beyond which they are not told yet what will not come: their server may take nothing.
pub const WITHDRAWN_WAITING_MAX: usize = 64;

/// How often one peer is told in a day what will not come. A program asks three times for each gap, and for 64 of them at once.
pub const WITHDRAWN_NOTES_MAX: usize = 256;

/// Of those that wait for room how many are tried in a second, however many others have their turn: a quarter of what is sent then.
pub const MISSING_TRIES_MAX: usize = 16;

/// Size of `.gaps` that is read: more than 19 authors can make us write with names of any length.
pub const GAP_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
