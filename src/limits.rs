//! Every size, count and wait that a stranger or a busy day could otherwise stretch, each with the reason for its
//! number. Sizes are bytes, times say their unit in the name.

// ---- The wire (design, sections 4 and 6) ----

/// An envelope, always. Fixed by the design: one size hides what is inside.
pub const ENVELOPE_BYTES: usize = 16_384;

/// The plaintext of every frame after the handshake. Fixed by the design: an envelope and 256 bytes for the request
/// around it.
pub const FRAME_BYTES: usize = 16_640;

/// What Poly1305 adds to every box.
pub const BOX_OVERHEAD_BYTES: usize = 16;

/// The body of a request, reply or push inside its frame: what remains after the two bytes of its length.
pub const FRAME_BODY_BYTES_MAX: usize = FRAME_BYTES - 2;

/// The protocol version that the first request of a connection names.
pub const PROTOCOL_VERSION: u32 = 1;

// ---- Connections ----

/// The whole handshake, both ways. Three flights over Tor take a few seconds at worst; a peer that needs longer is
/// stalling and holds a descriptor.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 30_000;

/// Opening a TCP connection or a circuit.
pub const CONNECT_TIMEOUT_MS: u64 = 60_000;

/// How often a client says something on its home connection, so that both sides find out about a dead path.
pub const PING_INTERVAL_MS: u64 = 45_000;

/// How often a client on a standing connection has its prekeys counted: expiry is a matter of days.
pub const PREKEY_COUNT_INTERVAL_MS: u64 = 3_600_000;

/// How long a client waits for any reply: a disk sync under load and a slow circuit fit, a dead path does not.
pub const REPLY_TIMEOUT_MS: u64 = 60_000;

/// How long the server keeps a connection on which nothing arrives: three missed pings.
pub const IDLE_TIMEOUT_MS: u64 = 180_000;

/// How long one frame may take to leave. A reader slower than 16 KiB in this time is as good as gone.
pub const WRITE_TIMEOUT_MS: u64 = 120_000;

/// How long a connection to somebody else's server is kept for the same recipient after its last use.
pub const FOREIGN_IDLE_MS: u64 = 20_000;

/// First wait after a lost connection; doubles from there.
pub const RECONNECT_DELAY_MIN_MS: u64 = 200;

/// Longest wait between two tries to connect: a server that came back is noticed within a minute.
pub const RECONNECT_DELAY_MAX_MS: u64 = 60_000;

/// Requests under way on one connection before the first is answered. Enough to fill one group commit; the memory it
/// can pin on the server is this many frames.
pub const PIPELINE_MAX: usize = 32;

// ---- The ratchet (design, section 5) ----

/// Skipped message keys kept in one session; beyond it the oldest go. A thousand is the design's least; twice that is
/// a burst in full disorder, at 80 bytes each.
pub const SKIPPED_KEYS_MAX: usize = 2_000;

/// Chains of the peer that a session keeps because messages of them are missing. Each costs one trial when a tag does
/// not tell; a peer that steps so often without its messages arriving has lost them.
pub const RECEIVING_CHAINS_MAX: usize = 32;

/// How far one message may jump ahead in its chain. Fixed by the design: 65,536 HMACs are 50 ms of work.
pub const CHAIN_JUMP_MAX: u64 = 65_536;

/// How many tags ahead of the last message a session announces in the peer's open chain, at most; at least it is half as
/// many: the disorder in which an envelope is still found without trial decryption.
pub const TAG_WINDOW: u64 = 64;

/// How many tags of the peer's next chain a session announces. A chain seldom begins with more lost than this, and the
/// tags of 10,000 sessions are held in memory.
pub const NEXT_TAG_WINDOW: u64 = 16;

/// Headers that are tried in a second for envelopes whose tag no session expects: 3 us each, a twentieth of a core.
pub const TRIALS_PER_SECOND_MAX: usize = 16_384;

/// How long the seed of a message that was jumped over is kept: what a server still holds after this is late beyond any
/// retry, and a thief of this disk should not read it.
pub const SKIPPED_KEY_LIFETIME_S: u64 = 30 * 86_400;

/// Sessions kept with one peer; the lowest generations go first. Two arise when both start at once; a few more cover
/// restarts.
pub const SESSIONS_PER_PEER_MAX: usize = 8;

/// How long a session still receives after a higher one was known: what was sealed in it meanwhile has arrived by then, or
/// lies with a courier whose sender is away.
pub const SESSION_RETIRED_S: u64 = 30 * 86_400;

/// Peers whose spent sessions are erased in one look: a batch stays small, and the next look comes within a minute.
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

/// How long we wait for that, or for a connection: a mailbox that never rests and a server that is gone must not keep
/// messages here.
pub const MAILBOX_QUIET_WAIT_MS: u64 = 3_600_000;

// ---- Prekeys (design, section 5) ----

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

/// One serialized signed prekey. Today some 1,400 bytes, most of them its ML-KEM-768 key.
pub const PREKEY_BYTES_MAX: usize = 2_048;

// ---- Messages (design, section 4) ----

/// Content of one message until parts arrive: an envelope less its header and the message's own fields, and a
/// profile beside it.
pub const CONTENT_BYTES_MAX: usize = 10_240;

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

// ---- The directory (design, section 2) ----

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

/// Connections to other people's servers open at the same time.
pub const COURIERS_MAX: usize = 64;

/// The journal is checkpointed when it has grown to this size. Replay reads it whole.
pub const JOURNAL_CHECKPOINT_BYTES: u64 = 8 * 1024 * 1024;

/// One journal record: a batch of the engine at its largest.
pub const JOURNAL_RECORD_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Zero-filled space a fresh log starts with: what is written between two checkpoints, and one ordinary batch more, so
/// that appending seldom has to grow the file.
pub const JOURNAL_LOG_BYTES: u64 = JOURNAL_CHECKPOINT_BYTES + 1024 * 1024;

/// Numbered names (`-2`, `-3`, …) tried for a file whose name is taken. Nobody has this many by accident.
pub const NAME_TRIES_MAX: u32 = 10_000;

/// Tries to get the root's lock while only somebody's look at it stands in the way, which takes microseconds.
pub const LOCK_TRIES_MAX: u32 = 1_000;

/// Looks for an outbox file that was renamed, or whose directory was, just before it was to go or to be marked. Nobody
/// renames faster than this for long.
pub const TAKE_TRIES_MAX: u32 = 16;

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

/// Envelopes of strangers left at our server for want of room in `requests/`, between two connections. Beyond it they
/// are given up with an alert: a mailbox full of strangers would keep friends out.
pub const REQUESTS_LEFT_MAX: usize = 256;

/// Messages kept of one stranger.
pub const REQUEST_MESSAGES_MAX: usize = 100;

/// Envelopes that nothing opened, kept to be tried again: 4 MiB.
pub const UNOPENED_MAX: usize = 256;

/// How long such an envelope is kept before it is given up.
pub const UNOPENED_LIFETIME_S: u64 = 14 * 86_400;

/// How long the hash of a received envelope is remembered: the server's retention and the sender's retries, doubled.
pub const RECEIVED_HASH_LIFETIME_S: u64 = 90 * 86_400;

// ---- Recovery (design, section 5) ----

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

/// Messages that one file of what was sent remembers: at their longest names 6 MB.
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

// ---- The home server (design, section 7) ----

/// Connections at one time. Each holds a descriptor and some 50 kB.
pub const SERVER_CONNECTIONS_MAX: usize = 4_096;

/// Envelopes in one mailbox: 256 MiB. A sender is told that the mailbox is full.
pub const MAILBOX_ENVELOPES_MAX: u64 = 16_384;

/// Accounts on one server while it has no registration tokens.
pub const ACCOUNTS_MAX: u64 = 100_000;

/// Entries in one reply to `list`: 40 bytes each, well inside a frame.
pub const LIST_PAGE_MAX: usize = 256;

/// Envelope ids in one `delete`.
pub const DELETE_IDS_MAX: usize = 1_024;

/// The sealed counter record of section 5, fixed in size.
pub const SEALED_COUNTER_BYTES: usize = 256;

/// Operations that one group commit of the server takes together.
pub const STORE_BATCH_MAX: usize = 512;

/// Operations that wait for a group commit before callers have to wait: a few batches.
pub const STORE_QUEUE_MAX: usize = 2_048;

/// Frames that wait for one connection's writer. Four keep the socket busy while the next is fetched; more would only
/// pin memory for a slow reader.
pub const SERVER_WRITE_QUEUE_MAX: usize = 4;

/// Envelopes that a push holds in memory at a time: as many as the writer's queue takes.
pub const PUSH_PAGE_MAX: usize = 4;

/// How long a server that was told to stop waits for the requests under way: a few disk syncs and slow sockets, and
/// well inside the 90 s that service managers grant.
pub const SERVER_STOP_MS: u64 = 10_000;

/// How long the server waits after `accept` failed, at the descriptor limit for example, before it tries again.
pub const ACCEPT_RETRY_MS: u64 = 100;

/// Descriptors the server needs besides its connections: RocksDB's files, its own sockets and pipes.
pub const SERVER_SPARE_DESCRIPTORS: u64 = 512;

/// The server's file with its key and address: two short lines and a comment.
pub const SERVER_FILE_BYTES_MAX: u64 = 4_096;

/// Threads on which the server reads from disk. Reads are short; more threads would only queue at the same disk.
pub const STORE_READERS_MAX: usize = 8;

/// Table files that RocksDB keeps open.
pub const STORE_FILES_MAX: i32 = 256;

/// What RocksDB collects in memory before it writes tables, all column families together.
pub const STORE_BUFFER_BYTES: usize = 64 * 1024 * 1024;

/// RocksDB's cache of table blocks.
pub const STORE_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// The write-ahead log, after which RocksDB writes tables: bounds the disk and the time that a start after a crash
/// takes.
pub const STORE_LOG_BYTES_MAX: u64 = 256 * 1024 * 1024;
