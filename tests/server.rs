//! The server as a process, spoken to over TCP: what it promises, what it refuses, and what survives `kill -9`.
//!
//! The claims include the nine server failures of the predecessor (`reference/predecessor-failures.md`); their numbers
//! stand beside the tests.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod server_support;

use std::collections::HashSet;
use std::io::{Read as _, Write as _};

use chatterbox::crypto::dh::{PublicKey, SecretKey};
use chatterbox::limits::{FRAME_BODY_BYTES_MAX, PREKEYS_REFILL_BELOW, SEALED_COUNTER_BYTES};
use chatterbox::wire::identity::AccountId;
use chatterbox::wire::prekey::PrekeyKind;
use chatterbox::wire::reply::{PrekeyCount, Push, Refusal, Reply};
use chatterbox::wire::request::Command;
use rand_core::OsRng;
use server_support::{Client, Server, envelope, number, one_time, prekey, program, until};
use tokio::net::TcpStream;

/// Somebody with an account.
async fn member(server: &Server) -> (SecretKey, Client) {
    let key = SecretKey::random(&mut OsRng);
    let mut client = Client::with_key(server, &key).await;
    assert_eq!(client.ask(Command::CreateAccount).await, Ok(Reply::Done));
    (key, client)
}

#[test]
fn init_prints_the_address_that_address_prints_and_each_misuse_has_its_exit_code() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("server");
    let directory = directory.to_str().unwrap();
    let codes = |arguments: &[&str]| program(arguments).status.code();
    assert_eq!(codes(&["run", directory]), Some(66));
    assert_eq!(codes(&["address", directory]), Some(66));
    assert_eq!(codes(&["init", directory, "--address", "nonsense"]), Some(65));
    let made = program(&["init", directory, "--address", "chat.example:1984"]);
    assert_eq!(made.status.code(), Some(0));
    let text = String::from_utf8(made.stdout.clone()).unwrap();
    let key = text.strip_prefix("chatterbox-server://chat.example:1984/").unwrap().trim_end();
    assert!(key.len() == 64 && key.bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
    assert_eq!(program(&["address", directory]).stdout, made.stdout);
    assert_eq!(codes(&["init", directory, "--address", "chat.example:1984"]), Some(73));
    assert_eq!(program(&["address", directory]).stdout, made.stdout, "the second init changed nothing");
    assert_eq!(codes(&["init", directory]), Some(64));
    assert_eq!(codes(&["--help"]), Some(0));
}

/// Failure 8.
#[tokio::test]
async fn an_occupied_port_and_an_occupied_directory_are_reported() {
    let server = Server::start();
    let other = tempfile::tempdir().unwrap();
    let directory = other.path().join("server");
    let directory = directory.to_str().unwrap();
    assert!(program(&["init", directory, "--address", "localhost:1984"]).status.success());
    let occupied = program(&["run", directory, "--listen", &server.at().to_string()]);
    assert_eq!(occupied.status.code(), Some(69));
    assert!(String::from_utf8(occupied.stderr).unwrap().contains("Another program has this port"));
    let second = program(&["run", server.directory().to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(75));
    assert!(String::from_utf8(second.stderr).unwrap().contains("another process is using it"));
    member(&server).await;
}

#[tokio::test]
async fn an_envelope_is_delivered_listed_fetched_and_deleted() {
    let server = Server::start();
    let (_, mut bob) = member(&server).await;
    let mut alice = Client::new(&server).await;
    alice.deliver_all(bob.account(), 0..3).await;
    alice.deliver_all(bob.account(), 0..3).await;
    let entries = bob.list().await;
    let hashes: Vec<_> = entries.iter().map(|entry| entry.sha256).collect();
    assert_eq!(hashes, [0, 1, 2].map(|number| envelope(number).sha256()), "second copies are dropped");
    match bob.ask(Command::FetchEnvelope(entries[1].id)).await {
        Ok(Reply::Envelope(stored)) => assert_eq!(number(&stored.envelope), 1),
        other => panic!("{other:?}"),
    }
    let delete = Command::DeleteEnvelopes(vec![entries[1].id, 4711]);
    assert_eq!(bob.ask(delete.clone()).await, Ok(Reply::Done));
    assert_eq!(bob.ask(delete).await, Ok(Reply::Done), "deletes are idempotent");
    assert_eq!(bob.ask(Command::FetchEnvelope(entries[1].id)).await, Err(Refusal::NoEnvelope));
    assert_eq!(bob.list().await, [entries[0], entries[2]]);
}

/// Failure 7.
#[tokio::test]
async fn without_an_account_nothing_is_stored_and_nothing_is_told() {
    let server = Server::start();
    let mut client = Client::new(&server).await;
    let nobody = AccountId(PublicKey([9; 32]));
    for command in [
        Command::Deliver { account: nobody, envelope: envelope(1) },
        Command::TakePrekey(nobody),
        Command::DeleteAccount,
        Command::ListEnvelopes { after: 0, limit: 1 },
        Command::FetchEnvelope(1),
        Command::DeleteEnvelopes(vec![1]),
        Command::UploadPrekeys { prekeys: one_time(0..1), replace: true },
        Command::CountPrekeys,
        Command::ReadCounter,
        Command::WriteCounter(vec![0; SEALED_COUNTER_BYTES]),
        Command::Subscribe { after: 0 },
    ] {
        assert_eq!(client.ask(command).await, Err(Refusal::NoAccount));
    }
    assert_eq!(client.ask(Command::Ping).await, Ok(Reply::Done));
    assert_eq!(client.ask(Command::CreateAccount).await, Ok(Reply::Done));
    assert_eq!(client.ask(Command::CreateAccount).await, Ok(Reply::Done));
    assert_eq!(client.ask(Command::Subscribe { after: 0 }).await, Ok(Reply::Done));
    assert_eq!(client.ask(Command::DeleteAccount).await, Ok(Reply::Done));
    assert_eq!(client.ask(Command::CountPrekeys).await, Err(Refusal::NoAccount));
}

#[tokio::test]
async fn everything_acknowledged_survives_kill_9() {
    let mut server = Server::start();
    let (key, mut bob) = member(&server).await;
    let account = bob.account();
    bob.upload(one_time(0..60)).await;
    bob.upload(vec![prekey(200, PrekeyKind::LastResort)]).await;
    assert_eq!(bob.ask(Command::WriteCounter(vec![3; SEALED_COUNTER_BYTES])).await, Ok(Reply::Done));
    let mut alice = Client::new(&server).await;
    for expected in 0..5 {
        assert_eq!(alice.take(account).await.unwrap().id, [expected; 16]);
    }
    alice.deliver_all(account, 0..100).await;
    let before = bob.list().await;
    let deleted = before[..10].iter().map(|entry| entry.id).collect();
    assert_eq!(bob.ask(Command::DeleteEnvelopes(deleted)).await, Ok(Reply::Done));

    server.restart();

    let mut bob = Client::with_key(&server, &key).await;
    assert_eq!(bob.list().await, before[10..]);
    assert_eq!(bob.ask(Command::ReadCounter).await, Ok(Reply::Counter(Some(vec![3; SEALED_COUNTER_BYTES]))));
    let count = bob.count().await;
    assert_eq!((count.one_time, count.last_resort_expires.is_some()), (55, true));
    let mut alice = Client::new(&server).await;
    assert_eq!(alice.take(account).await.unwrap().id, [5; 16]);
    alice.deliver_all(account, 100..101).await;
    assert!(bob.list().await.last().unwrap().id > before.last().unwrap().id);
    assert_eq!(bob.ask(Command::Subscribe { after: before[98].id }).await, Ok(Reply::Done));
    assert_eq!((bob.pushed_number().await, bob.pushed_number().await), (99, 100));
}

#[tokio::test]
async fn deliveries_acknowledged_before_a_kill_in_their_midst_are_there_in_order() {
    let mut server = Server::start();
    let (key, bob) = member(&server).await;
    let account = bob.account();
    let mut alice = Client::new(&server).await;
    let mut acknowledged = 0;
    for number in 0..96 {
        alice.send(Command::Deliver { account, envelope: envelope(number) }).await.unwrap();
        if number >= 31 {
            assert_eq!(alice.reply().await.unwrap().1, Ok(Reply::Done));
            acknowledged += 1;
        }
    }
    server.kill();
    while alice.reply().await.is_ok() {
        acknowledged += 1;
    }
    server.restart_after_kill();
    let mut bob = Client::with_key(&server, &key).await;
    let listed: Vec<_> = bob.list().await.iter().map(|entry| entry.sha256).collect();
    assert!(listed.len() >= acknowledged, "{} of {acknowledged}", listed.len());
    let expected: Vec<_> = (0..listed.len() as u64).map(|number| envelope(number).sha256()).collect();
    assert_eq!(listed, expected);
}

/// Failure 8.
#[tokio::test]
async fn two_who_take_prekeys_at_once_never_get_the_same_one_not_across_kill_9_either() {
    let mut server = Server::start();
    let (_, mut bob) = member(&server).await;
    let account = bob.account();
    bob.upload(one_time(0..200)).await;
    let mut seen = HashSet::new();
    for round in 0..2 {
        let mut takers = [Client::new(&server).await, Client::new(&server).await];
        for _ in 0..40 {
            let [one, other] = &mut takers;
            let (one, other) = tokio::join!(one.take(account), other.take(account));
            assert!(seen.insert(one.unwrap().id) & seen.insert(other.unwrap().id), "handed out twice");
        }
        if round == 0 {
            // With requests under way: what was taken but never told is lost, and not handed out again.
            for taker in &mut takers {
                for _ in 0..8 {
                    taker.send(Command::TakePrekey(account)).await.unwrap();
                }
            }
            server.kill();
            for taker in &mut takers {
                while let Ok((_, Ok(Reply::Prekey(prekey)))) = taker.reply().await {
                    assert!(seen.insert(prekey.id), "handed out twice");
                }
            }
            server.restart_after_kill();
        }
    }
}

/// Failure 6.
#[tokio::test]
async fn when_prekeys_run_out_the_last_resort_serves_and_the_owner_hears_of_it() {
    let server = Server::start();
    let (_, mut bob) = member(&server).await;
    let mut alice = Client::new(&server).await;
    assert_eq!(alice.take(bob.account()).await, Err(Refusal::NoPrekey));
    let enough = u8::try_from(PREKEYS_REFILL_BELOW).unwrap();
    bob.upload(one_time(0..enough + 1)).await;
    let last_resort = prekey(200, PrekeyKind::LastResort);
    bob.upload(vec![last_resort.clone()]).await;
    assert_eq!(bob.ask(Command::Subscribe { after: 0 }).await, Ok(Reply::Done));
    alice.take(bob.account()).await.unwrap();
    alice.take(bob.account()).await.unwrap();
    let left = |one_time| Push::Prekeys(PrekeyCount { one_time, last_resort_expires: Some(last_resort.expires) });
    assert_eq!(bob.push().await, left(u32::from(enough) - 1), "the first take left enough");
    for _ in 0..enough - 1 {
        assert_eq!(alice.take(bob.account()).await.unwrap().kind, PrekeyKind::OneTime);
    }
    for _ in 0..3 {
        assert_eq!(alice.take(bob.account()).await, Ok(last_resort.clone()));
    }
    while bob.push().await != left(0) {}
    bob.upload(one_time(100..101)).await;
    assert_eq!(alice.take(bob.account()).await.unwrap().id, [100; 16]);
}

/// Failure 5.
#[tokio::test]
async fn a_mailbox_of_600_envelopes_is_read_completely() {
    let server = Server::start();
    let (_, mut bob) = member(&server).await;
    let mut alice = Client::new(&server).await;
    alice.deliver_all(bob.account(), 0..600).await;
    let listed: Vec<_> = bob.list().await.iter().map(|entry| entry.sha256).collect();
    assert_eq!(listed, (0..600).map(|number| envelope(number).sha256()).collect::<Vec<_>>());
}

/// Failure 3.
#[tokio::test]
async fn a_burst_to_a_reader_that_does_not_read_arrives_whole_and_in_order_later() {
    let server = Server::start();
    let (_, mut bob) = member(&server).await;
    let mut alice = Client::new(&server).await;
    alice.deliver_all(bob.account(), 0..50).await;
    assert_eq!(bob.ask(Command::Subscribe { after: 0 }).await, Ok(Reply::Done));
    // More than all socket buffers hold: the push has to wait, and the deliveries must not.
    alice.deliver_all(bob.account(), 50..1_000).await;
    for expected in 0..1_000 {
        assert_eq!(bob.pushed_number().await, expected);
    }
    // The push is still alive, for one after the other and for a busy connection.
    for expected in 1_000..1_010 {
        alice.deliver_all(bob.account(), expected..expected + 1).await;
        assert_eq!(bob.ask(Command::Ping).await, Ok(Reply::Done));
        assert_eq!(bob.pushed_number().await, expected);
    }
}

#[tokio::test]
async fn a_second_subscription_replaces_the_first() {
    let server = Server::start();
    let (_, mut bob) = member(&server).await;
    let mut alice = Client::new(&server).await;
    assert_eq!(bob.ask(Command::Subscribe { after: 0 }).await, Ok(Reply::Done));
    alice.deliver_all(bob.account(), 0..2).await;
    assert_eq!((bob.pushed_number().await, bob.pushed_number().await), (0, 1));
    assert_eq!(bob.ask(Command::Subscribe { after: 0 }).await, Ok(Reply::Done));
    assert_eq!((bob.pushed_number().await, bob.pushed_number().await), (0, 1));
    alice.deliver_all(bob.account(), 2..4).await;
    assert_eq!((bob.pushed_number().await, bob.pushed_number().await), (2, 3), "once each");
    let entries = bob.list().await;
    assert_eq!(bob.ask(Command::Subscribe { after: entries[3].id }).await, Ok(Reply::Done));
    alice.deliver_all(bob.account(), 4..5).await;
    assert_eq!(bob.pushed_number().await, 4);
}

/// Failures 1 and 2.
#[tokio::test]
async fn garbage_ends_its_own_connection_and_nothing_else() {
    let mut server = Server::start();
    let (_, mut bob) = member(&server).await;
    // Instead of a handshake.
    for bytes in [&[0xff; 4_096][..], b"GET / HTTP/1.1\r\n\r\n", &[0; 32]] {
        let mut stream = std::net::TcpStream::connect(server.at()).unwrap();
        // The server may hang up before all of it is written, and in either way of closing.
        let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        let _ = stream.read_to_end(&mut Vec::new());
    }
    // Instead of a frame: an enormous length, the length 0, one byte more and one less than a frame has.
    for bytes in [&[0xff; 9][..], &[0], &[0x91, 0x82, 0x01], &[0x8f, 0x82, 0x01]] {
        let stream = std::net::TcpStream::connect(server.at()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut raw = stream.try_clone().unwrap();
        let stream = TcpStream::from_std(stream).unwrap();
        let mut client = Client::over(stream, &server, &SecretKey::random(&mut OsRng)).await.unwrap();
        assert_eq!(client.ask(Command::Ping).await, Ok(Reply::Done));
        raw.write_all(bytes).unwrap();
        client.closed().await;
    }
    // Inside a frame: nothing, no protobuf, a protobuf length of 2^63, and a full body of zeros.
    let length = [0x62, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    for body in [&[][..], &[0xff; 100], &length, &[0; FRAME_BODY_BYTES_MAX]] {
        let mut client = Client::new(&server).await;
        client.send_raw(body).await;
        client.closed().await;
    }
    assert_eq!(bob.ask(Command::Ping).await, Ok(Reply::Done));
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(!log.contains("panic"), "{log}");
}

/// Failure 4.
#[tokio::test]
async fn connections_that_close_give_their_descriptors_back() {
    let server = Server::start();
    let (_, mut bob) = member(&server).await;
    let base = server.descriptors();
    for batch in 0..6 {
        let mut clients = Vec::new();
        for _ in 0..50 {
            clients.push(Client::new(&server).await);
        }
        for (position, client) in clients.iter_mut().enumerate() {
            // Some never say a word, some are subscribed when they go.
            if position % 3 == 0 {
                client.send(Command::CreateAccount).await.unwrap();
                client.send(Command::Subscribe { after: 0 }).await.unwrap();
            }
            if position % 3 == 1 {
                assert_eq!(client.ask(Command::Ping).await, Ok(Reply::Done));
            }
        }
        assert!(server.descriptors() >= base + 50, "batch {batch}");
        drop(clients);
        // RocksDB may have opened a file of its own meanwhile.
        until("descriptors come back", || server.descriptors() <= base + 8).await;
    }
    assert_eq!(bob.ask(Command::Ping).await, Ok(Reply::Done));
}

/// Failure 4.
#[tokio::test]
async fn at_the_descriptor_limit_connections_are_closed_and_service_comes_back() {
    let server = Server::start_with(Some(200));
    let (_, mut bob) = member(&server).await;
    let mut streams = Vec::new();
    for _ in 0..300 {
        streams.push(TcpStream::connect(server.at()).await.unwrap());
    }
    let mut late = streams.pop().unwrap();
    assert!(matches!(tokio::io::AsyncReadExt::read(&mut late, &mut [0]).await, Ok(0) | Err(_)), "closed at once");
    assert_eq!(bob.ask(Command::Ping).await, Ok(Reply::Done));
    let key = SecretKey::random(&mut OsRng);
    drop(streams);
    loop {
        // Until the server has noticed that the others are gone.
        let stream = TcpStream::connect(server.at()).await.unwrap();
        if let Ok(mut client) = Client::over(stream, &server, &key).await {
            assert_eq!(client.ask(Command::CreateAccount).await, Ok(Reply::Done));
            break;
        }
    }
}

/// Failure 9: a stalled handshake and a silent peer are timed in `src/server/connection/tests.rs`.
#[tokio::test]
async fn a_peer_that_stalls_holds_nobody_up() {
    let server = Server::start();
    let stalled = std::net::TcpStream::connect(server.at()).unwrap();
    let (_, mut bob) = member(&server).await;
    let mut alice = Client::new(&server).await;
    alice.deliver_all(bob.account(), 0..10).await;
    assert_eq!(bob.list().await.len(), 10);
    drop(stalled);
}

#[tokio::test]
async fn sigterm_ends_connections_and_exits_0_and_the_log_tells_nothing_about_anybody() {
    let mut server = Server::start();
    let (key, mut bob) = member(&server).await;
    let mut alice = Client::new(&server).await;
    assert_eq!(bob.ask(Command::Subscribe { after: 0 }).await, Ok(Reply::Done));
    alice.deliver_all(bob.account(), 0..3).await;
    assert_eq!(bob.pushed_number().await, 0);
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    bob.closed().await;
    alice.closed().await;
    let hex = data_encoding::HEXLOWER.encode(&key.public().0);
    assert!(log.contains("listening on 127.0.0.1:") && log.contains("stopped"));
    // It listens where its address does not lead, and says so.
    assert!(log.contains("clients come to localhost:1984: unless something forwards them to 127.0.0.1:"), "{log}");
    assert!(!log.contains(&hex[..8]) && log.matches("127.0.0.1").count() == 2, "{log}");
}
