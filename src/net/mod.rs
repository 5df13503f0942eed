//! Sockets: dialers that open a stream, and connections that carry frames over one.
//!
//! | module | what |
//! |---|---|
//! | [`dialer`] | how a stream to a server is opened: `direct` today, `socks5` and `tor` beside it |
//! | [`connection`] | the handshake and the frames on a stream (design, section 6) |

pub mod connection;
pub mod dialer;
