//! Chatterbox: private messaging whose interface is the filesystem.
//!
//! A message is a file. Dropping it into `outbox/` sends it; what arrives stands under `conversations/`. This crate
//! is one library with three thin programs on top (`chatterbox`, `chatterboxd`, `chatterbox-server`).
//!
//! The library is built in floors. A module uses only the floors below it, never a sibling; `tests/floors.rs` reads
//! the imports and fails where that is broken. From the ground up:
//!
//! | floor | modules | knows of |
//! |---|---|---|
//! | 0 | [`limits`] [`clock`] [`name`] | nothing |
//! | 1 | [`crypto`] | keys that wipe themselves |
//! | 2 | [`wire`] | every format, parsed once |
//! | 3 | [`ratchet`] [`envelope`] [`handshake`] | protocol state, no I/O, no clock |
//! | 4 | [`disk`] [`net`] | files and sockets |
//! | 5 | [`client`] [`server`] | the two daemons |
//! | 6 | [`app`] | command lines, settings, reports |

pub mod app;
pub mod client;
pub mod clock;
pub mod crypto;
pub mod disk;
pub mod envelope;
pub mod handshake;
pub mod limits;
pub mod name;
pub mod net;
pub mod ratchet;
#[cfg(feature = "server")]
pub mod server;
pub mod wire;
