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
