//! How a stream to a server is opened (design, section 6).

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use super::direct;
use super::isolation::Isolation;
use super::socks5::{NoProxy, Proxy, ProxyError};
#[cfg(feature = "tor")]
use super::tor;
use crate::limits::{CIRCUIT_TIMEOUT_MS, CONNECT_TIMEOUT_MS};
use crate::wire::address::ServerAddress;

/// A stream of bytes to a server, whatever carries it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The way streams are opened, as the settings name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Tor in this process.
    Tor,
    /// A Tor that runs already.
    Socks5(Proxy),
    /// TCP from this machine: for tests and closed networks. Whoever watches the link sees who talks to whom.
    Direct,
}

/// What a dialer is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The way.
    pub way: Way,
    /// Where Tor in this process keeps what it knows of the network; it is made, mode 0700.
    pub tor_directory: PathBuf,
    /// Arti's configuration of a Tor network other than the public one, which is for tests.
    pub private_tor_network: Option<PathBuf>,
    /// Streams are opened by a schedule: Tor in this process builds no circuits but theirs.
    pub is_scheduled: bool,
}

/// Opens streams. Clones share what they hold.
#[derive(Clone, Debug)]
pub enum Dialer {
    /// [`Way::Tor`].
    #[cfg(feature = "tor")]
    Tor(tor::Tor),
    /// [`Way::Socks5`].
    Socks5(Proxy),
    /// [`Way::Direct`].
    Direct,
}

/// How far a dialer is that cannot dial at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Streams can be opened.
    pub is_ready: bool,
    /// What to tell a person: how far it is, and what is in its way.
    pub text: String,
}

/// Opening a stream failed. All of these are temporary, as far as a client can know.
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
    /// Through the proxy it did not work.
    #[error("connecting to {server}: {source}")]
    Proxy {
        /// `HOST:PORT`.
        server: String,
        /// What the proxy said.
        source: ProxyError,
    },
    /// Through Tor it did not work.
    #[error("connecting to {server} through Tor: {cause}")]
    Tor {
        /// `HOST:PORT`.
        server: String,
        /// What arti said.
        cause: String,
    },
    /// Without Tor there is no way to an onion service.
    #[error("{server} is an onion service, which the dialer direct cannot reach: set dialer = \"tor\" or a proxy")]
    Onion {
        /// `HOST:PORT`.
        server: String,
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
    /// Makes the dialer of a plan. Tor begins to connect at once, and goes on trying by itself; needs a running tokio
    /// runtime then.
    ///
    /// # Errors
    /// [`NoTor`] where this program was built without it.
    pub fn start(plan: &Plan) -> Result<Self, NoTor> {
        match plan.way {
            #[cfg(feature = "tor")]
            Way::Tor => Ok(Self::Tor(tor::Tor::start(tor::Setup {
                directory: plan.tor_directory.clone(),
                private_network: plan.private_tor_network.clone(),
                is_scheduled: plan.is_scheduled,
            }))),
            #[cfg(not(feature = "tor"))]
            Way::Tor => Err(NoTor),
            Way::Socks5(proxy) => Ok(Self::Socks5(proxy)),
            Way::Direct => Ok(Self::Direct),
        }
    }

    /// How far it is, from now on; none where it can dial at once.
    pub fn progress(&self) -> Option<watch::Receiver<Progress>> {
        match self {
            #[cfg(feature = "tor")]
            Self::Tor(tor) => Some(tor.progress()),
            Self::Socks5(_) | Self::Direct => None,
        }
    }

    /// Whether streams can be opened, as far as it knows.
    pub fn is_ready(&self) -> bool {
        self.progress().is_none_or(|progress| progress.borrow().is_ready)
    }

    /// Whether opening a stream makes relays build a circuit, and an onion service's directories search.
    pub fn builds_circuits(&self) -> bool {
        !matches!(self, Self::Direct)
    }

    /// Waits until streams can be opened, however long that takes.
    pub async fn ready(&self) {
        if let Some(mut progress) = self.progress() {
            // It ends before that only with the process.
            let _ = progress.wait_for(|progress| progress.is_ready).await;
        }
    }

    /// Opens a stream to `server`, on a circuit that only streams of the same `isolation` use.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial(&self, server: &ServerAddress, isolation: &Isolation) -> Result<Box<dyn Stream>, DialError> {
        let wait_ms = match self {
            Self::Direct => CONNECT_TIMEOUT_MS,
            _ => CIRCUIT_TIMEOUT_MS,
        };
        let dialing = timeout(Duration::from_millis(wait_ms), self.connect(server, isolation)).await;
        dialing.unwrap_or_else(|_| Err(DialError::Timeout { server: server.host_port(), seconds: wait_ms / 1_000 }))
    }

    async fn connect(&self, server: &ServerAddress, isolation: &Isolation) -> Result<Box<dyn Stream>, DialError> {
        let name = || server.host_port();
        match self {
            #[cfg(feature = "tor")]
            Self::Tor(tor) => {
                let stream = tor.connect(server, isolation).await;
                Ok(Box::new(stream.map_err(|cause| DialError::Tor { server: name(), cause })?))
            }
            Self::Socks5(proxy) => {
                let stream = proxy.connect(server, isolation).await;
                Ok(Box::new(stream.map_err(|source| DialError::Proxy { server: name(), source })?))
            }
            // Asking the resolver for it would tell others which one.
            Self::Direct if server.is_onion() => Err(DialError::Onion { server: name() }),
            Self::Direct => {
                let stream = direct::connect(server).await;
                Ok(Box::new(stream.map_err(|source| DialError::Connect { server: name(), source })?))
            }
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tor => formatter.write_str("tor"),
            Self::Socks5(proxy) => proxy.fmt(formatter),
            Self::Direct => formatter.write_str("direct"),
        }
    }
}

/// This program was built without Tor.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the dialer is tor, and this program was built without it (the cargo feature `tor`)")]
pub struct NoTor;

/// What was named is no dialer.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UnknownWay {
    /// There is none of the name.
    #[error("there is no dialer called {0:?}; there are: tor, socks5://ADDRESS:PORT, direct (not private)")]
    Name(String),
    /// The proxy's address is none.
    #[error(transparent)]
    Proxy(#[from] NoProxy),
}

impl FromStr for Way {
    type Err = UnknownWay;

    fn from_str(text: &str) -> Result<Self, UnknownWay> {
        match text {
            "tor" => Ok(Self::Tor),
            "direct" => Ok(Self::Direct),
            proxy if proxy.starts_with("socks5") => Ok(Self::Socks5(proxy.parse()?)),
            other => Err(UnknownWay::Name(other.to_owned())),
        }
    }
}
