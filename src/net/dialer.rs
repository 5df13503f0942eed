//! How a stream to a server is opened.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::CONNECT_TIMEOUT_MS;
use crate::wire::address::ServerAddress;

/// A stream of bytes to a server, whatever carries it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The way streams are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialer {
    /// TCP from this machine: for tests and closed networks. Whoever watches the link sees who talks to whom.
    Direct,
}

/// Opening a stream failed.
#[derive(Debug, Error)]
pub enum DialError {
    /// The connection was refused, or there is no way to the host.
    #[error("connecting to {server}: {source}")]
    Connect {
        /// `HOST:PORT`.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// No answer.
    #[error("connecting to {server}: no answer within {seconds} s")]
    Timeout {
        /// `HOST:PORT`.
        server: String,
        /// The wait.
        seconds: u64,
    },
}

impl Dialer {
    /// Opens a stream to `server`.
    ///
    /// # Errors
    /// [`DialError`]; all of them are temporary.
    pub async fn dial(self, server: &ServerAddress) -> Result<Box<dyn Stream>, DialError> {
        let name = || server.host_port();
        let connecting = match self {
            Self::Direct => TcpStream::connect((server.host(), server.port())),
        };
        let stream = timeout(Duration::from_millis(CONNECT_TIMEOUT_MS), connecting)
            .await
            .map_err(|_| DialError::Timeout { server: name(), seconds: CONNECT_TIMEOUT_MS / 1_000 })?
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| DialError::Connect { server: name(), source })?;
        Ok(Box::new(stream))
    }
}

impl fmt::Display for Dialer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => formatter.write_str("direct"),
        }
    }
}

/// A dialer that this version does not have.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("there is no dialer called {0:?}; this version has: direct (not private)")]
pub struct UnknownDialer(String);

impl FromStr for Dialer {
    type Err = UnknownDialer;

    fn from_str(text: &str) -> Result<Self, UnknownDialer> {
        match text {
            "direct" => Ok(Self::Direct),
            other => Err(UnknownDialer(other.to_owned())),
        }
    }
}
