//! Sockets: dialers that open a stream, doors that take one, and connections that carry frames over it.
//!
//! | module | what |
//! |---|---|
//! | [`dialer`] | how a stream to a server is opened, by one of the three ways |
//! | [`isolation`] | which streams may share a circuit |
//! | [`direct`] | TCP from this machine |
//! | [`socks5`] | through a proxy, which is somebody's Tor |
//! | [`tor`] | Tor in this process (feature `tor`): circuits of our own, and onion services |
//! | [`incoming`] | streams that others open to us |
//! | [`connection`] | the handshake and the frames on a stream (design, section 6) |

pub mod connection;
pub mod dialer;
pub mod direct;
pub mod incoming;
pub mod isolation;
pub mod socks5;
#[cfg(feature = "tor")]
pub mod tor;
