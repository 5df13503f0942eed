//! A home server's address: `chatterbox-server://HOST:PORT/KEY` (design, section 6).

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER};

use super::Malformed;
use crate::crypto::dh::PublicKey;
use crate::limits::HOST_BYTES_MAX;

const SCHEME: &str = "chatterbox-server://";

/// Where a server is and which key proves that it is the one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    host: String,
    port: u16,
    key: PublicKey,
}

impl ServerAddress {
    /// From its parts.
    ///
    /// # Errors
    /// [`Malformed`] for an empty or overlong host, one with characters that no host has, or port 0.
    pub fn new(host: &str, port: u16, key: PublicKey) -> Result<Self, Malformed> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if inner.is_empty() || host.len() > HOST_BYTES_MAX || !inner.bytes().all(plain) {
            return Err(Malformed::new("server address", "not a host name or address"));
        }
        if inner.contains(':') && inner.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(Malformed::new("server address", "not a host name or address"));
        }
        if is_onion(inner) && !is_onion_name(inner) {
            return Err(Malformed::new("server address", "not a whole onion name: 56 letters and digits, then .onion"));
        }
        if is_onion_name(&format!("{inner}.onion")) && !inner.contains('.') {
            return Err(Malformed::new("server address", "this looks like an onion name without its .onion"));
        }
        if port == 0 {
            return Err(Malformed::new("server address", "port 0"));
        }
        Ok(Self { host: inner.to_ascii_lowercase(), port, key })
    }

    /// From `HOST:PORT` and a key; an IPv6 host stands in brackets.
    ///
    /// # Errors
    /// [`Malformed`] as [`ServerAddress::new`], or where there is no port.
    pub fn from_host_port(host_port: &str, key: PublicKey) -> Result<Self, Malformed> {
        let (host, port) =
            host_port.rsplit_once(':').ok_or(Malformed::new("server address", "no port; write HOST:PORT"))?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(Malformed::new("server address", "an IPv6 address stands in brackets"));
        }
        let port =
            port.parse().map_err(|_| Malformed::new("server address", "the port is not a number up to 65535"))?;
        Self::new(host, port, key)
    }

    /// The host, without brackets, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is an onion service, which only Tor reaches.
    pub fn is_onion(&self) -> bool {
        is_onion(&self.host)
    }

    /// The server's transport key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// `HOST:PORT`, for people.
    pub fn host_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn is_onion(host: &str) -> bool {
    host.trim_end_matches('.').to_ascii_lowercase().ends_with(".onion")
}

/// Whether the name has the form of a version 3 onion service (rend-spec-v3, section 6): 35 bytes in base32, the last of
/// which is the version. So a name that was cut off is found before Tor looks for it in vain.
fn is_onion_name(host: &str) -> bool {
    let host = host.to_ascii_uppercase();
    let label = host.strip_suffix(".ONION").and_then(|name| name.rsplit('.').next()).unwrap_or("");
    BASE32_NOPAD.decode(label.as_bytes()).is_ok_and(|bytes| bytes.len() == 35 && bytes[34] == 3)
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{SCHEME}{}/{}", self.host_port(), HEXLOWER.encode(&self.key.0))
    }
}

impl FromStr for ServerAddress {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let rest = text
            .trim()
            .strip_prefix(SCHEME)
            .ok_or(Malformed::new("server address", "does not start with chatterbox-server://"))?;
        let (host_port, key) =
            rest.split_once('/').ok_or(Malformed::new("server address", "no key; write HOST:PORT/KEY"))?;
        let key = HEXLOWER
            .decode(key.as_bytes())
            .ok()
            .and_then(|key| PublicKey::from_slice(&key))
            .ok_or(Malformed::new("server address", "the key is not 64 lowercase hex digits"))?;
        Self::from_host_port(host_port, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_written() {
        let key = "0123456789abcdef".repeat(4);
        let onion = format!("{}d.onion", "a".repeat(55));
        for host in ["127.0.0.1", "[::1]", "server.example", &onion] {
            let text = format!("chatterbox-server://{host}:1984/{key}");
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn each_fault_is_named() {
        let key = "0123456789abcdef".repeat(4);
        for (text, problem) in [
            (format!("http://host:1/{key}"), "does not start with chatterbox-server://"),
            ("chatterbox-server://host:1".into(), "no key; write HOST:PORT/KEY"),
            (format!("chatterbox-server://host:1/{}", key.to_uppercase()), "the key is not 64 lowercase hex digits"),
            (format!("chatterbox-server://host/{key}"), "no port; write HOST:PORT"),
            (format!("chatterbox-server://host:0/{key}"), "port 0"),
            (format!("chatterbox-server://host:70000/{key}"), "the port is not a number up to 65535"),
            (format!("chatterbox-server://::1:70/{key}"), "an IPv6 address stands in brackets"),
            (format!("chatterbox-server://ho st:70/{key}"), "not a host name or address"),
            (format!("chatterbox-server://:70/{key}"), "not a host name or address"),
            (
                format!("chatterbox-server://{}d.onion:70/{key}", "a".repeat(54)),
                "not a whole onion name: 56 letters and digits, then .onion",
            ),
            (
                format!("chatterbox-server://{}d:70/{key}", "a".repeat(55)),
                "this looks like an onion name without its .onion",
            ),
            (
                format!("chatterbox-server://{}.onion:70/{key}", "a".repeat(56)),
                "not a whole onion name: 56 letters and digits, then .onion",
            ),
        ] {
            assert_eq!(text.parse::<ServerAddress>().unwrap_err().problem, problem, "{text}");
        }
    }
}
