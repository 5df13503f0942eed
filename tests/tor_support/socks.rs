//! A client of a SOCKS5 proxy (RFC 1928, 1929), to see what ours is measured by.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::support::DEADLINE;

/// A stream to a host and port, which the proxy resolves, with a user's name that is the password, too.
///
/// # Errors
/// What the proxy said: its code is in the text.
pub fn connect(proxy: SocketAddr, user: &str, host: &str, port: u16) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let sized = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    stream.write_all(&[5, 1, 2])?;
    expect(&mut stream, &[5, 2])?;
    stream.write_all(&[vec![1], sized(user), sized(user)].concat())?;
    expect(&mut stream, &[1, 0])?;
    stream.write_all(&[vec![5, 1, 0, 3], sized(host), port.to_be_bytes().to_vec()].concat())?;
    expect(&mut stream, &[5, 0, 0, 1])?;
    // The address that the exit connects from, which tor does not tell.
    stream.read_exact(&mut [0; 6])?;
    Ok(stream)
}

/// The same, again and again: a stream fails where its circuit was about to be closed.
pub fn connect_at_last(proxy: SocketAddr, user: &str, host: &str, port: u16) -> TcpStream {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match connect(proxy, user, host, port) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

fn expect(stream: &mut TcpStream, wanted: &[u8]) -> io::Result<()> {
    let mut found = vec![0; wanted.len()];
    stream.read_exact(&mut found)?;
    if found == wanted { Ok(()) } else { Err(io::Error::other(format!("{found:?} and not {wanted:?}"))) }
}
