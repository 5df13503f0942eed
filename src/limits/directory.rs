//! The directory (design, section 2).

/// A file in `contacts/`: a card is some 500 characters; more is not a card.
pub const CARD_FILE_BYTES_MAX: u64 = 4_096;

/// `metadata.toml` made by a person: 20 names of 255 bytes and a subject.
pub const METADATA_FILE_BYTES_MAX: u64 = 32_768;

/// Any state file of the daemon, as a guard against a damaged disk.
pub const STATE_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Content that `chatterbox show` prints; of a larger message it names the file. A terminal is no place for more.
pub const SHOWN_BYTES_MAX: u64 = 1024 * 1024;

/// The marks of `chatterbox verify`, 65 bytes each: those of 16,000 people.
pub const VERIFIED_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Newer profiles kept of people who are no contacts, but members of conversations: 10 MiB. A contact can bring in any
/// number of members; beyond this many, what is known of them is what their introductions said.
pub const KEPT_PROFILES_MAX: usize = 16_384;

/// Names of contacts of which it is remembered whose they were, those of cards that are gone included: a file of 1 MiB,
/// which is written when one changes.
pub const REMEMBERED_NAMES_MAX: usize = 16_384;

/// How much too large an input the command line reads to say how large it is, before it says only "more than".
pub const COUNTED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long a daemon runs, as far as `chatterbox wait` has seen, until an `.error` file that is older than what is waited for
/// counts: by then it has looked at both.
pub const OUTBOX_LOOK_MS: u64 = 3_000;

/// How often `chatterbox status --wait` looks although no event asked for it: the lock gives no event when its holder
/// dies.
pub const STATUS_POLL_MS: u64 = 1_000;

/// How long an empty file waits before it gets an `.error`.
pub const EMPTY_FILE_GRACE_MS: u64 = 60_000;

/// How long a file that takes no lease (another user's, or on a filesystem without them) must have been quiet.
pub const QUIET_FILE_MS: u64 = 2_000;

/// Lines of one kind in `status`: what a person can take in. The files themselves say the rest.
pub const STATUS_LINES_MAX: usize = 100;

/// Findings of one kind that `chatterbox doctor` lists; of more it says how many. What is wrong with the first twenty is
/// wrong with the rest.
pub const FINDINGS_LISTED_MAX: usize = 20;

/// How often a file that is open for writing is tried again.
pub const LEASE_RETRY_MS: u64 = 1_000;

/// Directories without an inotify watch that are looked at in a second: a look is a microsecond or two, so this is less
/// than a hundredth of a core.
pub const UNWATCHED_LOOKS_MAX: usize = 4_096;

/// How often the directory is read whole although no event asked for it.
pub const RESCAN_INTERVAL_MS: u64 = 60_000;

/// How often work that a full or read-only disk refused is tried again.
pub const DISK_RETRY_MS: u64 = 1_000;

/// Hints in flight from the watcher. When it is full the rest is replaced by one rescan.
pub const WATCH_QUEUE_MAX: usize = 65_536;

/// Events that wait for the engine: beyond it, connections are read no further.
pub const EVENT_QUEUE_MAX: usize = 256;

/// Events the engine handles before it commits them together. Bounds the memory and the length of one batch.
pub const BATCH_EVENTS_MAX: usize = 256;

/// What one batch of the engine may write, about: then it is committed before anything else is taken. Far below
/// [`JOURNAL_RECORD_BYTES_MAX`], so that the last event of a batch, however large, still fits.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Messages that waited for a session and are sealed in one batch: 1 MiB of envelopes.
pub const SEAL_BATCH_MAX: usize = 64;

/// Messages of one recipient whose envelopes stay in memory while they wait: twice what a courier is handed. The others
/// are read again when it is their turn, so that a server that is away for a week costs no memory.
pub const SPOOL_HELD_MAX: usize = 2 * COURIER_QUEUE_MAX;

/// Sealed envelopes of one recipient handed to its courier ahead of the server's answers.
pub const COURIER_QUEUE_MAX: usize = 32;

/// Connections to other people's servers that stand at the same time.
pub const COURIERS_MAX: usize = 64;

/// Those that are being opened. A server that never answers takes a place for a minute or two; so many at once are more
/// recipients than anybody writes to in that time.
pub const COURIERS_CONNECTING_MAX: usize = 256;

/// Of these, those to servers to which the last try failed: whatever their number, most places are left to others.
pub const COURIERS_RETRYING_MAX: usize = 64;

/// Of the connections that stand, those to such servers before they have answered anything. One that never does keeps its place for
/// a minute.
pub const COURIERS_DOUBTFUL_MAX: usize = 16;

/// The journal is checkpointed when it has grown to this size. Replay reads it whole.
pub const JOURNAL_CHECKPOINT_BYTES: u64 = 8 * 1024 * 1024;

/// One journal record: far more than a batch of the engine at its largest, since one beyond it stops the daemon, at every start again.
/// Memory and disk hold what a record has, not this.
pub const JOURNAL_RECORD_BYTES_MAX: u64 = 256 * 1024 * 1024;

// The last event of a batch has room many times over, and a record's length is four bytes on the disk.
const _: () =
    assert!(16 * BATCH_BYTES_MAX as u64 <= JOURNAL_RECORD_BYTES_MAX && JOURNAL_RECORD_BYTES_MAX <= u32::MAX as u64);

/// Zero-filled space a fresh log starts with: what is written between two checkpoints, and one ordinary batch more, so
/// that appending seldom has to grow the file.
pub const JOURNAL_LOG_BYTES: u64 = JOURNAL_CHECKPOINT_BYTES + 1024 * 1024;

/// Tries to get the root's lock at once while only somebody's look at it stands in the way, which takes microseconds.
pub const LOCK_TRIES_AT_ONCE: u32 = 100;

/// A daemon that starts tries that so often again: who looks has the lock, and perhaps not the processor.
pub const LOCK_TRIES_MAX: u32 = 1_000;

/// One that ends tries so often, to say why.
pub const LOCK_TRIES_AT_END: u32 = 100;

/// Between these.
pub const LOCK_RETRY_MS: u64 = 10;

/// Looks for an outbox file that was renamed, or whose directory was, just before it was to go or to be marked. Nobody
/// renames faster than this for long.
pub const TAKE_TRIES_MAX: u32 = 16;

/// A file of the outbox is read once more before it goes, up to this size: a tenth of a second.
pub const TAKE_HASHED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A journal's file at most: a log as it begins and two of the largest records, whose batch made it grow.
pub const JOURNAL_FILE_BYTES_MAX: u64 = JOURNAL_LOG_BYTES + 2 * JOURNAL_RECORD_BYTES_MAX + 1024 * 1024;

/// How long after the last commit the journal is checkpointed although it is small: secrets that served are overwritten
/// then, and a start finds nothing to replay.
pub const IDLE_CHECKPOINT_MS: u64 = 2_000;

/// How long a record may stand in the log though others keep coming: what served is overwritten then. A checkpoint costs
/// a few syncs, so this many seconds apart it is nothing.
pub const CHECKPOINT_AGE_MS: u64 = 30_000;

/// Longest wait between two starts on a disk that takes nothing: each try may write a log.
pub const START_RETRY_MAX_MS: u64 = 30_000;

/// Strangers whose first messages are kept in `requests/`.
pub const REQUESTS_MAX: usize = 100;

/// Conversations that strangers may open before any is accepted: two for each.
pub const REQUEST_CONVERSATIONS_MAX: usize = 200;

/// Of these, those that are remembered though a person has rejected all that was written in them: who wrote it may write
/// again. The rest of the room is for those who come.
pub const REJECTED_CONVERSATIONS_MAX: usize = 64;

/// Tries to erase a request into which messages come in the same moment: each batch of them takes chatterboxd a sync.
pub const REJECT_TRIES_MAX: u32 = 16;

/// Envelopes of strangers left at our server for want of room in `requests/`, between two connections. Beyond it they
/// are given up with an alert: a mailbox full of strangers would keep friends out.
pub const REQUESTS_LEFT_MAX: usize = 256;

/// Messages kept of one stranger: with each as long as one envelope holds, 1 MiB.
pub const REQUEST_MESSAGES_MAX: usize = 100;

/// Names under which a stranger's request is tried, where a person has made a file of one, or a directory that takes nothing.
pub const REQUEST_NAME_TRIES_MAX: u32 = 16;

/// Envelopes that nothing opened, kept to be tried again: 4 MiB.
pub const UNOPENED_MAX: usize = 256;

/// How long such an envelope is kept before it is given up.
pub const UNOPENED_LIFETIME_S: u64 = 14 * 86_400;

/// How long a hook may run: a notification or a mail takes a second, and what takes longer belongs into the background of
/// its own service.
pub const HOOK_TIMEOUT_MS: u64 = 30_000;

/// Hooks that run at the same time.
pub const HOOKS_RUNNING_MAX: usize = 4;

/// Hooks that wait to be run: some 1 MiB. Beyond it they are dropped and counted.
pub const HOOKS_QUEUE_MAX: usize = 1_024;

/// How long the hash of a received envelope is remembered: the server's retention and the sender's retries, doubled.
pub const RECEIVED_HASH_LIFETIME_S: u64 = 90 * 86_400;

/// Directories of conversations that are looked at in a second for what is to go: two system calls each, a thousandth of a core.
pub const TIDY_LOOKS_MAX: usize = 64;

/// The shortest time between two looks through all messages of one conversation: with 10,000 messages a look takes 20 ms.
pub const TIDY_INTERVAL_S: u64 = 10;

/// How soon a conversation is looked through again for a message whose way has not ended, which nothing in it shows.
pub const TIDY_AGAIN_S: u64 = 60;

/// How old the last change of a directory must be for another one to be seen by its time: kernels take that from a clock
/// that ticks, and some filesystems keep whole seconds.
pub const TIDY_SETTLED_MS: u64 = 2_000;

/// Files in `.delivery/` of one conversation that are read at a time after it could not be written: 20 ms. All of 10,000 messages
/// are brought up to date within minutes.
pub const CATCH_UP_FILES_MAX: usize = 512;

/// Messages that are erased in a second.
pub const ERASE_BATCH_MAX: usize = 64;

/// The same in bytes, or one message if that is larger: what is not large is overwritten at the next checkpoint, which holds
/// up everything else for as long.
pub const ERASE_BATCH_BYTES: u64 = 64 * 1024 * 1024;
