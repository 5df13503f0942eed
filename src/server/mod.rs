//! The home server (design, section 7): accounts, prekeys and mailboxes for people whose daemons are away.
//!
//! It is untrusted by design: it knows account ids and times, and holds ciphertext of one size. What it promises is
//! that a reply means durable, that a one-time prekey is handed out at most once, and that no cursor ever skips an
//! envelope. From the socket to the disk:
//!
//! | module | what |
//! |---|---|
//! | [`listener`] | accepts, bounds and ends connections |
//! | [`connection`] | one connection: frames in, frames out, and when it ends |
//! | `session` | its requests, answered in their order, with pushes between |
//! | [`bounds`] | the counts and waits of a running server |
//! | [`commands`] | what each request does, one a file |
//! | [`store`] | what is durable: a trait, RocksDB, and a twin in memory |
//! | [`directory`] | the server's own directory: its key and address |
//!
//! Nothing here logs an account, an address or a key.

pub mod bounds;
pub mod commands;
pub mod connection;
pub mod directory;
pub mod listener;
mod push;
mod session;
pub mod store;
