//! Command lines, settings and reports: what the three programs are made of, so that each `main` only parses, builds
//! and runs.

pub mod failure;
pub mod process;
#[cfg(feature = "server")]
pub mod server;
