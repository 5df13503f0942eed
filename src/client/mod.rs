//! The client: from the outbox to the recipients' servers, and from our own server to `conversations/`.
//!
//! ```text
//! outbox/ -> outbox, directory -> send ------+-> pending -> journal -> conversations/, keys/, journal/spool/
//! home server -> home -> receive ------------+                |
//!                                                   spool -> courier -> recipients' servers
//! ```
//!
//! One thread, the engine, owns all state and touches the disk; tasks around it carry frames. Events flow in through
//! one bounded queue; what leaves the machine leaves after the transaction that explains it is on disk.

pub mod account;
pub mod blocked;
#[cfg(feature = "daemon")]
mod cancelled;
#[cfg(feature = "daemon")]
mod cancelling;
pub mod contacts;
#[cfg(feature = "daemon")]
mod control;
pub mod delivery;
pub mod dropbox;
pub mod error_file;
pub mod gap_file;
pub mod hook_file;
pub mod metadata;
pub mod people;
pub mod policy;
pub mod progress;
pub mod root;
pub mod state;
pub mod status;
#[cfg(feature = "daemon")]
pub mod status_file;
pub mod traffic;

#[cfg(feature = "daemon")]
mod acknowledging;
#[cfg(feature = "daemon")]
mod alerts;
#[cfg(feature = "daemon")]
mod arriving;
#[cfg(feature = "daemon")]
mod assembling;
#[cfg(feature = "daemon")]
mod author;
#[cfg(feature = "daemon")]
mod backoff;
#[cfg(feature = "daemon")]
mod catching_up;
#[cfg(feature = "daemon")]
mod circuit;
#[cfg(feature = "daemon")]
mod commit;
#[cfg(feature = "daemon")]
mod conversation;
#[cfg(feature = "daemon")]
mod conversation_settings;
#[cfg(feature = "daemon")]
mod copying;
#[cfg(all(test, feature = "daemon"))]
mod costly;
#[cfg(feature = "daemon")]
mod counter;
#[cfg(feature = "daemon")]
mod courier;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
mod daemon_error;
#[cfg(feature = "daemon")]
mod daily;
#[cfg(feature = "daemon")]
mod directory;
#[cfg(feature = "daemon")]
mod dropbox_files;
#[cfg(feature = "daemon")]
mod dropbox_room;
#[cfg(feature = "daemon")]
mod dropboxes;
#[cfg(feature = "daemon")]
mod dropped;
#[cfg(feature = "daemon")]
mod engine;
#[cfg(feature = "daemon")]
mod errands;
#[cfg(feature = "daemon")]
mod event;
#[cfg(feature = "daemon")]
mod finding;
#[cfg(feature = "daemon")]
mod forks;
#[cfg(feature = "daemon")]
mod gaps;
#[cfg(feature = "daemon")]
mod giving_up;
#[cfg(feature = "daemon")]
mod home;
#[cfg(feature = "daemon")]
mod home_queue;
#[cfg(feature = "daemon")]
mod hook_runner;
#[cfg(feature = "daemon")]
mod hooks;
#[cfg(feature = "daemon")]
mod identity;
#[cfg(feature = "daemon")]
mod judge;
#[cfg(feature = "daemon")]
mod known;
#[cfg(feature = "daemon")]
mod large;
#[cfg(feature = "daemon")]
mod letting_go;
#[cfg(feature = "daemon")]
mod line;
#[cfg(feature = "daemon")]
mod link;
#[cfg(feature = "daemon")]
mod look;
#[cfg(feature = "daemon")]
mod membership;
#[cfg(feature = "daemon")]
mod missing;
#[cfg(feature = "daemon")]
mod opened;
#[cfg(feature = "daemon")]
mod opening;
#[cfg(feature = "daemon")]
mod outbox;
#[cfg(feature = "daemon")]
mod outcome;
#[cfg(feature = "daemon")]
mod pace;
#[cfg(feature = "daemon")]
mod parts;
#[cfg(feature = "daemon")]
mod parts_left;
#[cfg(feature = "daemon")]
mod pending;
#[cfg(feature = "daemon")]
mod places;
#[cfg(feature = "daemon")]
mod prekeys;
#[cfg(feature = "daemon")]
mod presence;
#[cfg(feature = "daemon")]
mod queueing;
#[cfg(feature = "daemon")]
mod receive;
#[cfg(feature = "daemon")]
mod received;
#[cfg(all(test, feature = "daemon"))]
mod recorder;
#[cfg(feature = "daemon")]
mod recovery;
#[cfg(feature = "daemon")]
mod renewing;
#[cfg(feature = "daemon")]
mod reporting;
#[cfg(feature = "daemon")]
mod requests;
#[cfg(feature = "daemon")]
mod resend;
#[cfg(feature = "daemon")]
mod retrying;
#[cfg(feature = "daemon")]
mod room;
#[cfg(all(test, feature = "daemon"))]
mod schedules;
#[cfg(feature = "daemon")]
mod send;
#[cfg(feature = "daemon")]
mod sent;
#[cfg(feature = "daemon")]
pub mod sessions;
#[cfg(all(test, feature = "daemon"))]
mod simulation;
#[cfg(feature = "daemon")]
mod slots;
#[cfg(feature = "daemon")]
mod spool;
#[cfg(feature = "daemon")]
mod standing;
#[cfg(feature = "daemon")]
mod steady;
#[cfg(feature = "daemon")]
mod sweeping;
#[cfg(feature = "daemon")]
mod tags;
#[cfg(feature = "daemon")]
mod taking;
#[cfg(feature = "daemon")]
mod ticket;
#[cfg(feature = "daemon")]
mod tidying;
#[cfg(feature = "daemon")]
mod transcripts;
#[cfg(feature = "daemon")]
pub mod trials;
#[cfg(feature = "daemon")]
mod unconfirmed;
#[cfg(feature = "daemon")]
mod unopened;
#[cfg(feature = "daemon")]
mod unsent;
#[cfg(feature = "daemon")]
mod watching;
#[cfg(feature = "daemon")]
mod withdrawing;
#[cfg(feature = "daemon")]
mod withdrawn;
#[cfg(feature = "daemon")]
mod worker;
