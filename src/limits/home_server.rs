//! The home server (design, section 7).

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

/// The port of an onion service, where nobody asks for another. It is not a port of the machine.
pub const ONION_PORT: u16 = 1984;

/// The file with the onion service's address: a line and a comment.
pub const ONION_FILE_BYTES_MAX: u64 = 4_096;

/// Streams of one circuit to the onion service at one time. A client has one, and for a moment a second, when it comes back
/// before the end of the first has arrived.
pub const ONION_CIRCUIT_STREAMS_MAX: u32 = 4;

/// Clients of the onion service that are being met at one time. For each a circuit of four or five relays is built, which
/// takes a second or two. Whoever asks for a meeting chooses the place, and it may be one where nobody answers: such a
/// client has a place here for [`ONION_ANSWER_TIMEOUT_MS`]. With sixty-eight of them in a second none is left for others;
/// introduction points let through about as many, and waiting costs nothing but memory.
pub const ONION_ANSWERS_MAX: usize = 1_024;

/// How long meeting a client may take: ten times what it mostly takes. Tor's own services wait 30 s, without a bound on how
/// many they meet. A client that was given up asks again, by other relays.
pub const ONION_ANSWER_TIMEOUT_MS: u64 = 15_000;

/// Circuits of the onion service at one time: one for each connection.
pub const ONION_CIRCUITS_MAX: usize = SERVER_CONNECTIONS_MAX;

/// How long a circuit without a stream is kept. A client opens its stream as soon as the circuit is there, and one that comes
/// back later makes another.
pub const ONION_CIRCUIT_IDLE_MS: u64 = 60_000;

/// Introductions in a second that each introduction point lets through (there are three): what Tor's own services take
/// where they limit them. After a restart 4,096 clients are let through within a minute; building their circuits keeps a core
/// busy for two or three.
pub const ONION_INTRODUCTIONS_PER_S: u32 = 25;

/// Introductions that an introduction point lets through at once.
pub const ONION_INTRODUCTIONS_BURST: u32 = 200;

/// How long an onion service may be hard to reach before the log says so. It is for a moment after every start, and whenever
/// one of its dozen directories does not answer.
pub const ONION_PATIENCE_MS: u64 = 180_000;
