//! Connections over a pipe, on the store in memory, with bounds short enough to be met.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::task::JoinHandle;

use super::*;
use crate::net::connection::connect;
use crate::server::store::memory::MemoryStore;
use crate::wire::reply::Reply;
use crate::wire::request::Command;

const SOON: Bounds = Bounds {
    connections: 1,
    handshake: Duration::from_millis(50),
    idle: Duration::from_millis(50),
    stop: Duration::from_secs(10),
};

struct Peer {
    reader: FrameReader<ReadHalf<DuplexStream>>,
    writer: FrameWriter<WriteHalf<DuplexStream>>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Peer {
    async fn connect(bounds: Bounds) -> Self {
        let (near, far) = duplex(1_024);
        let key = SecretKey::random(&mut OsRng);
        let public = key.public();
        let (stop, stopping) = watch::channel(false);
        let store = Arc::new(MemoryStore::default());
        let serving = tokio::spawn(serve(split(far), key, store, bounds, stopping));
        let (reader, writer) = connect(split(near), public, SecretKey::random(&mut OsRng), &mut OsRng).await.unwrap();
        Self { reader, writer, stop, serving }
    }

    async fn send(&mut self, id: u64, version: u32, command: Command) {
        self.writer.write(&Request { id, version, command }.to_bytes()).await.unwrap();
    }

    async fn receive(&mut self) -> ServerMessage {
        ServerMessage::from_bytes(&self.reader.read().await.unwrap()).unwrap()
    }

    async fn closed(mut self) {
        assert!(self.reader.read().await.is_err());
        self.serving.await.unwrap();
    }
}

fn refused(id: u64, refusal: Refusal) -> ServerMessage {
    ServerMessage::Reply { id, outcome: Err(refusal) }
}

fn done(id: u64) -> ServerMessage {
    ServerMessage::Reply { id, outcome: Ok(Reply::Done) }
}

#[tokio::test]
async fn a_peer_that_stalls_in_the_handshake_is_closed() {
    for sent in [&[][..], &[7; 31], &[7; 32], &[7; 60]] {
        let (mut near, far) = duplex(1_024);
        let (_stop, stopping) = watch::channel(false);
        let store = Arc::new(MemoryStore::default());
        let serving = tokio::spawn(serve(split(far), SecretKey::random(&mut OsRng), store, SOON, stopping));
        near.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_closed() {
    Peer::connect(SOON).await.closed().await;
}

#[tokio::test]
async fn another_version_is_told_so_and_closed() {
    let mut peer = Peer::connect(Bounds::default()).await;
    peer.send(5, PROTOCOL_VERSION + 1, Command::Ping).await;
    assert_eq!(peer.receive().await, refused(5, Refusal::Version));
    peer.closed().await;
}

#[tokio::test]
async fn a_malformed_request_is_refused_by_its_id_and_the_connection_goes_on() {
    let mut peer = Peer::connect(Bounds::default()).await;
    peer.send(1, PROTOCOL_VERSION, Command::Ping).await;
    // Id 9 and command 99, which this version does not know.
    peer.writer.write(&[0x08, 9, 0x9a, 0x06, 0]).await.unwrap();
    peer.send(10, 0, Command::Ping).await;
    assert_eq!(peer.receive().await, done(1));
    assert_eq!(peer.receive().await, refused(9, Refusal::Malformed));
    assert_eq!(peer.receive().await, done(10));
}

#[tokio::test]
async fn a_request_without_an_id_ends_the_connection() {
    // Empty; without an id; a protobuf length of 2^63; no protobuf at all.
    let huge = [0x08, 1, 0x62, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    for body in [&[][..], &[0x9a, 0x06, 0], &huge, &[0xff; 40]] {
        let mut peer = Peer::connect(Bounds::default()).await;
        peer.send(1, PROTOCOL_VERSION, Command::Ping).await;
        peer.writer.write(body).await.unwrap();
        assert_eq!(peer.receive().await, done(1));
        peer.closed().await;
    }
}

#[tokio::test]
async fn pipelined_requests_see_what_those_before_them_did() {
    let mut peer = Peer::connect(Bounds::default()).await;
    peer.send(1, PROTOCOL_VERSION, Command::CountPrekeys).await;
    peer.send(2, 0, Command::CreateAccount).await;
    peer.send(3, 0, Command::CountPrekeys).await;
    peer.send(4, 0, Command::Subscribe { after: 0 }).await;
    peer.send(5, 0, Command::DeleteAccount).await;
    peer.send(6, 0, Command::CountPrekeys).await;
    assert_eq!(peer.receive().await, refused(1, Refusal::NoAccount));
    assert_eq!(peer.receive().await, done(2));
    assert!(matches!(peer.receive().await, ServerMessage::Reply { id: 3, outcome: Ok(_) }));
    assert_eq!(peer.receive().await, done(4));
    assert_eq!(peer.receive().await, done(5));
    assert_eq!(peer.receive().await, refused(6, Refusal::NoAccount));
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_read_and_closes() {
    let mut peer = Peer::connect(Bounds::default()).await;
    peer.send(1, PROTOCOL_VERSION, Command::CreateAccount).await;
    assert_eq!(peer.receive().await, done(1));
    peer.stop.send_replace(true);
    peer.closed().await;
}
