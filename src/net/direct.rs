//! The dialer `direct`: TCP from this machine, for tests and closed networks. Whoever watches the link sees which servers
//! it talks to. It is the only one that asks the system's resolver for names.

use std::io;
use std::net::IpAddr;

use tokio::net::TcpStream;

use crate::wire::address::ServerAddress;

/// Opens a TCP connection to `server`.
///
/// # Errors
/// What the system says.
pub async fn connect(server: &ServerAddress) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((server.host(), server.port())).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether a direct connection to `server` may leave this network: its host is a name other than `localhost`, or an
/// address that is not of this machine or a private network.
pub fn is_public(server: &ServerAddress) -> bool {
    match server.host().parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => !(address.is_loopback() || address.is_private() || address.is_link_local()),
        Ok(IpAddr::V6(address)) => {
            !(address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local())
        }
        Err(_) => server.host() != "localhost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::dh::PublicKey;

    #[test]
    fn what_stays_in_the_network_is_not_public_and_all_else_is() {
        let at = |host: &str| ServerAddress::new(host, 1984, PublicKey([1; 32])).unwrap();
        for host in ["127.0.0.1", "::1", "localhost", "10.1.2.3", "192.168.0.9", "172.16.0.1", "fd00::1", "fe80::1"] {
            assert!(!is_public(&at(host)), "{host}");
        }
        for host in ["chat.example", "9.9.9.9", "2620:fe::fe", "172.32.0.1", "localhost.example"] {
            assert!(is_public(&at(host)), "{host}");
        }
    }
}
