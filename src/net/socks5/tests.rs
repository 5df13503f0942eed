//! Against proxies that are scripted byte for byte.

use super::*;
use crate::crypto::dh::PublicKey;
use rand_core::OsRng;
use tokio::io::duplex;

const PROXY: &str = "socks5://127.0.0.1:9050";

/// Converses with a proxy that answers with `answers`, and hands out what came of it and what the proxy heard.
async fn converse(host: &str, answers: &[&[u8]], isolation: &Isolation) -> (Result<(), ProxyError>, Vec<u8>) {
    let server = ServerAddress::new(host, 1984, PublicKey([1; 32])).unwrap();
    let (mut near, mut far) = duplex(4_096);
    far.write_all(&answers.concat()).await.unwrap();
    let outcome = converse_over(&mut near, &server, isolation).await;
    drop(near);
    let mut heard = Vec::new();
    far.read_to_end(&mut heard).await.unwrap();
    (outcome, heard)
}

async fn converse_over<S>(stream: &mut S, server: &ServerAddress, isolation: &Isolation) -> Result<(), ProxyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let proxy: Proxy = PROXY.parse().unwrap();
    proxy.greet(stream, isolation).await?;
    proxy.ask(stream, server).await
}

const ACCEPTS: &[u8] = &[5, 2, 1, 0];
const CONNECTED: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

#[tokio::test]
async fn the_proxy_hears_our_credentials_and_resolves_the_name() {
    let isolation = Isolation::fresh(&mut OsRng);
    let (username, password) = isolation.credentials();
    for (host, address) in [
        ("chat.example", [&[3, 12][..], b"chat.example"].concat()),
        ("10.1.2.3", vec![1, 10, 1, 2, 3]),
        ("[::1]", [&[4][..], &[0; 15], &[1]].concat()),
    ] {
        let (outcome, heard) = converse(host, &[ACCEPTS, CONNECTED], &isolation).await;
        outcome.unwrap();
        let expected = [
            &[5, 1, 2][..],
            &[1, 32],
            username.as_bytes(),
            &[32],
            password.as_bytes(),
            &[5, 1, 0],
            &address,
            &1984_u16.to_be_bytes(),
        ];
        assert_eq!(heard, expected.concat(), "{host}");
    }
}

#[tokio::test]
async fn bytes_behind_the_answer_are_left_to_the_server() {
    for bound in [&[1, 0, 0, 0, 0, 0, 0][..], &[4; 19], &[3, 2, b'a', b'b', 0, 0]] {
        let server = ServerAddress::new("chat.example", 1984, PublicKey([1; 32])).unwrap();
        let (mut near, mut far) = duplex(4_096);
        far.write_all(&[ACCEPTS, &[5, 0, 0], bound, b"hello"].concat()).await.unwrap();
        let isolation = Isolation::fresh(&mut OsRng);
        converse_over(&mut near, &server, &isolation).await.unwrap();
        let mut next = [0; 5];
        near.read_exact(&mut next).await.unwrap();
        assert_eq!(&next, b"hello");
    }
}

#[tokio::test]
async fn a_proxy_that_would_mix_circuits_hears_no_name() {
    let isolation = Isolation::fresh(&mut OsRng);
    for method in [0, 1, 0xff] {
        let (outcome, heard) = converse("chat.example", &[&[5, method], CONNECTED], &isolation).await;
        assert!(matches!(outcome, Err(ProxyError::NoIsolation(_))), "{method}");
        assert_eq!(heard, [5, 1, 2]);
    }
}

#[tokio::test]
async fn what_goes_wrong_is_said_with_the_proxy() {
    let isolation = Isolation::fresh(&mut OsRng);
    let cases: [(&[&[u8]], &str); 8] = [
        (&[b"HTTP/1.1 400"], "what answers at socks5://127.0.0.1:9050 is no SOCKS5 proxy"),
        (&[&[4, 0]], "is no SOCKS5 proxy"),
        (&[&[5, 2, 1, 1]], "refused a fresh username and password"),
        (&[ACCEPTS, &[5, 4, 0, 1]], "host unreachable: no such name"),
        (&[ACCEPTS, &[5, 0xf0, 0, 1]], "descriptor is not there"),
        (&[ACCEPTS, &[5, 99, 0, 1]], "reply code 99"),
        (&[ACCEPTS, &[5, 0, 0, 9]], "is no SOCKS5 proxy"),
        (&[ACCEPTS, &[4, 0, 0, 1]], "is no SOCKS5 proxy"),
    ];
    for (answers, text) in cases {
        // What the proxy says is all it says: there the stream is open still, and nothing more is waited for.
        let said = converse("chat.example", answers, &isolation).await.0.unwrap_err().to_string();
        assert!(said.contains(text) && said.contains(PROXY), "{said}");
    }
}

#[tokio::test]
async fn a_proxy_that_breaks_off_is_no_connection() {
    let isolation = Isolation::fresh(&mut OsRng);
    let whole = [ACCEPTS, CONNECTED].concat();
    let server = ServerAddress::new("chat.example", 1984, PublicKey([1; 32])).unwrap();
    for length in 0..whole.len() {
        let (mut near, mut far) = duplex(4_096);
        far.write_all(&whole[..length]).await.unwrap();
        far.shutdown().await.unwrap();
        let outcome = converse_over(&mut near, &server, &isolation).await;
        assert!(matches!(outcome, Err(ProxyError::Broken(..))), "{length}");
    }
}

#[test]
fn a_proxy_is_a_numeric_address_and_a_port() {
    for good in ["socks5://127.0.0.1:9050", "socks5://[::1]:9150", "socks5://10.152.152.10:9050"] {
        assert_eq!(good.parse::<Proxy>().unwrap().to_string(), good);
    }
    for bad in [
        "socks5://localhost:9050",
        "socks5://127.0.0.1",
        "127.0.0.1:9050",
        "socks5://127.0.0.1:0",
        "socks4://127.0.0.1:1",
    ] {
        assert!(bad.parse::<Proxy>().unwrap_err().to_string().contains(bad), "{bad}");
    }
}
