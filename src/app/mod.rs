//! Command lines, settings and reports: what the three programs are made of, so that each `main` only parses, builds
//! and runs.

pub mod client;
#[cfg(feature = "daemon")]
pub mod daemon;
pub mod failure;
pub mod process;
pub mod root;
#[cfg(feature = "server")]
pub mod server;
pub mod settings;
