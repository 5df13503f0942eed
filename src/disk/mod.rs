//! The client's directory as a store: what it takes to put files there, take them away and survive a crash between
//! (design, sections 2 and 9). Linux only.
//!
//! | module | what it is for |
//! |---|---|
//! | [`system`], [`real`] | what is asked of a filesystem; asked of the kernel |
//! | [`open`] | reading a stranger's file without being led astray by links, FIFOs or sizes |
//! | [`lease`] | knowing that nobody has a file open for writing |
//! | [`lock`] | one daemon per root |
//! | [`atomic`] | files that are there whole or not at all |
//! | [`journal`] | several such changes that happen together |
//! | [`watch`] | hints that something changed |
//!
//! Everything here blocks: the daemons call it from threads of their own.

pub mod atomic;
pub mod journal;
pub mod lease;
pub mod lock;
pub mod open;
pub mod real;
#[cfg(test)]
pub mod simulated;
mod sys;
pub mod system;
pub mod watch;
#[cfg(test)]
pub mod watched;
