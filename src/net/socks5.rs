//! The dialer `socks5`: through a SOCKS5 proxy (RFC 1928) that is a Tor: the system's tor, Tails', Whonix'.
//!
//! Names go to the proxy as they are; nothing here resolves any. The username and password (RFC 1929) are the
//! [`Isolation`]'s, by which Tor keeps circuits apart. Only that method is offered, so a proxy that would not look at
//! them refuses instead of mixing circuits in silence. (The libraries that were looked at offer "no authentication"
//! beside it.)

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::isolation::Isolation;
use crate::limits::PROXY_GREETING_TIMEOUT_MS;
use crate::wire::address::ServerAddress;

const VERSION: u8 = 5;
const USERNAME_PASSWORD: u8 = 2;
/// The version of the exchange of username and password, RFC 1929.
const CREDENTIALS_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Where the proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxy(pub SocketAddr);

/// What was given as a proxy is none.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no proxy: write socks5://ADDRESS:PORT with a numeric address, for example socks5://127.0.0.1:9050")]
pub struct NoProxy(String);

/// Going through the proxy failed. All of them are temporary, as far as a client can know.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// The proxy is not there.
    #[error("the proxy {0} does not answer ({1}): is Tor running there?")]
    Unreachable(Proxy, io::Error),
    /// It broke off.
    #[error("the proxy {0} broke off: {1}")]
    Broken(Proxy, io::Error),
    /// It is something else.
    #[error("what answers at {0} is no SOCKS5 proxy. Tor's own has port 9050, that of Tor Browser 9150")]
    NotSocks(Proxy),
    /// It would not keep circuits apart.
    #[error("the proxy {0} takes no username and password, by which Tor would keep circuits apart")]
    NoIsolation(Proxy),
    /// It refused our credentials.
    #[error("the proxy {0} refused a fresh username and password: is it a Tor?")]
    Refused(Proxy),
    /// It did not get through to the server.
    #[error("through the proxy {0}: {1}")]
    Failed(Proxy, Reply),
}

/// Why a proxy did not get through: RFC 1928, section 6, and what Tor adds for onion services (proposal 304).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply(pub u8);

impl fmt::Display for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            0x01 => "general failure (Tor may not be connected yet)",
            0x02 => "not allowed by the proxy's rules",
            0x03 => "network unreachable",
            0x04 => "host unreachable: no such name, or no way there",
            0x05 => "connection refused",
            0x06 => "no answer in time",
            0x07 => "the proxy cannot connect",
            0x08 => "the proxy does not take this kind of address",
            0xf0 => "the onion service's descriptor is not there: it is offline, or there is none",
            0xf1 => "the onion service's descriptor is invalid",
            0xf2 => "the onion service did not answer at its introduction points",
            0xf3 => "the rendezvous with the onion service failed",
            0xf4 => "the onion service wants an authorization that we do not have",
            0xf5 => "the onion service refuses our authorization",
            0xf6 => "this is no onion address",
            0xf7 => "the introduction to the onion service timed out",
            code => return write!(formatter, "reply code {code}"),
        })
    }
}

impl Proxy {
    /// Has the proxy connect to `server`.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub async fn connect(self, server: &ServerAddress, isolation: &Isolation) -> Result<TcpStream, ProxyError> {
        // A proxy is near: its own machine, or the next.
        let patience = Duration::from_millis(PROXY_GREETING_TIMEOUT_MS);
        let connected = timeout(patience, TcpStream::connect(self.0)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let mut stream = connected.map_err(|error| ProxyError::Unreachable(self, error))?;
        stream.set_nodelay(true).map_err(|error| ProxyError::Broken(self, error))?;
        // What is no proxy often waits for more.
        let greeted = timeout(patience, self.greet(&mut stream, isolation)).await;
        greeted.unwrap_or(Err(ProxyError::NotSocks(self)))?;
        self.ask(&mut stream, server).await?;
        Ok(stream)
    }

    /// Agrees on the method, and tells who asks: the proxy answers this by itself, without a network.
    async fn greet<S>(self, stream: &mut S, isolation: &Isolation) -> Result<(), ProxyError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let broken = |error| ProxyError::Broken(self, error);
        stream.write_all(&[VERSION, 1, USERNAME_PASSWORD]).await.map_err(broken)?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.map_err(broken)?;
        match answer {
            [VERSION, USERNAME_PASSWORD] => {}
            [VERSION, _] => return Err(ProxyError::NoIsolation(self)),
            _ => return Err(ProxyError::NotSocks(self)),
        }

        stream.write_all(&credentials(isolation)).await.map_err(broken)?;
        stream.read_exact(&mut answer).await.map_err(broken)?;
        match answer {
            [CREDENTIALS_VERSION, 0] => {}
            [CREDENTIALS_VERSION, _] => return Err(ProxyError::Refused(self)),
            _ => return Err(ProxyError::NotSocks(self)),
        }
        Ok(())
    }

    /// Asks for the connection. The answer is read to its end and no byte further: what follows belongs to the server.
    async fn ask<S>(self, stream: &mut S, server: &ServerAddress) -> Result<(), ProxyError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let broken = |error| ProxyError::Broken(self, error);
        stream.write_all(&request(server)).await.map_err(broken)?;
        let mut head = [0; 4];
        stream.read_exact(&mut head).await.map_err(broken)?;
        let [version, reply, _, kind] = head;
        if version != VERSION {
            return Err(ProxyError::NotSocks(self));
        }
        if reply != 0 {
            return Err(ProxyError::Failed(self, Reply(reply)));
        }
        // The address that the proxy is bound to, which says nothing to us, and its port.
        let address_bytes = match kind {
            IPV4 => 4,
            IPV6 => 16,
            NAME => usize::from(stream.read_u8().await.map_err(broken)?),
            _ => return Err(ProxyError::NotSocks(self)),
        };
        let mut bound = [0; u8::MAX as usize + 2];
        stream.read_exact(&mut bound[..address_bytes + 2]).await.map_err(broken)?;
        Ok(())
    }
}

fn credentials(isolation: &Isolation) -> Vec<u8> {
    let (username, password) = isolation.credentials();
    let mut message = vec![CREDENTIALS_VERSION];
    for word in [username, password] {
        message.push(u8::try_from(word.len()).expect("32 hex digits"));
        message.extend_from_slice(word.as_bytes());
    }
    message
}

fn request(server: &ServerAddress) -> Vec<u8> {
    let mut message = vec![VERSION, CONNECT, 0];
    match server.host().parse() {
        Ok(IpAddr::V4(address)) => {
            message.push(IPV4);
            message.extend_from_slice(&address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            message.push(IPV6);
            message.extend_from_slice(&address.octets());
        }
        Err(_) => {
            message.extend_from_slice(&[NAME, u8::try_from(server.host().len()).expect("a host is short")]);
            message.extend_from_slice(server.host().as_bytes());
        }
    }
    message.extend_from_slice(&server.port().to_be_bytes());
    message
}

impl FromStr for Proxy {
    type Err = NoProxy;

    fn from_str(text: &str) -> Result<Self, NoProxy> {
        // A name would have to be resolved here, and that is a leak.
        let address = text.strip_prefix("socks5://").and_then(|rest| rest.trim_end_matches('/').parse().ok());
        address.filter(|address: &SocketAddr| address.port() != 0).map(Self).ok_or_else(|| NoProxy(text.to_owned()))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "socks5://{}", self.0)
    }
}

#[cfg(test)]
mod tests;
