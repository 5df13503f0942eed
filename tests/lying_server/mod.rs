//! A home server that keeps the protocol and none of its promises, as a test steers it: the library's own connections over a
//! store that lies, and a wire that damages what it carries.
//!
//! It runs in the test's process; the daemons are real ones, which know it by its address like any other.

#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic)]

pub mod store;
pub mod wire;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use chatterbox::crypto::dh::SecretKey;
use chatterbox::net::connection::accept;
use chatterbox::server::bounds::Bounds;
use chatterbox::server::connection::serve;
use chatterbox::wire::address::ServerAddress;
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::identity::AccountId;
use chatterbox::wire::request::Request;
use rand_core::OsRng;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use store::{Lies, LyingStore};
use wire::Damage;

/// What becomes of one connection.
pub enum Trick {
    /// It is served, over a wire that does this.
    Wire(Damage),
    /// Its first request, whose id is handed in, gets this body for an answer.
    Answer(fn(u64) -> Vec<u8>),
}

pub struct LyingServer {
    pub address: String,
    store: Arc<LyingStore>,
    shared: Arc<Shared>,
    runtime: Runtime,
    /// Dropping it stops the server.
    _stop: watch::Sender<bool>,
}

/// What the connections and the test both hold.
#[derive(Default)]
struct Shared {
    /// One for each connection that comes; those behind are served as they should be.
    tricks: Mutex<VecDeque<Trick>>,
    wire: wire::Recording,
}

impl LyingServer {
    /// Honest until told otherwise.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let key = SecretKey::random(&mut OsRng);
        let at = listener.local_addr().unwrap().to_string();
        let address = ServerAddress::from_host_port(&at, key.public()).unwrap().to_string();
        let store = Arc::new(LyingStore::default());
        let shared = Arc::new(Shared::default());
        let (stop, stopping) = watch::channel(false);
        let (of_task, with_task) = (Arc::clone(&store), Arc::clone(&shared));
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let trick = with_task.tricks.lock().unwrap().pop_front();
                let (key, store, stopping) = (key.clone(), Arc::clone(&of_task), stopping.clone());
                let shared = Arc::clone(&with_task);
                tokio::spawn(async move {
                    let damage = match trick {
                        Some(Trick::Answer(answer)) => return answer_once(stream, key, answer).await,
                        Some(Trick::Wire(damage)) => Some(damage),
                        None => None,
                    };
                    let served = wire::through(stream, damage, &shared.wire);
                    serve(tokio::io::split(served), key, store, Bounds::default(), stopping).await;
                });
            }
        });
        Self { address, store, shared, runtime, _stop: stop }
    }

    /// Changes how it lies.
    pub fn lie<T>(&self, how: impl FnOnce(&mut Lies) -> T) -> T {
        self.store.lie(how)
    }

    /// Puts an envelope into a mailbox, past all lies.
    pub fn deliver(&self, account: AccountId, envelope: Envelope) {
        self.runtime.block_on(self.store.deliver_honestly(account, envelope));
    }

    /// How many envelopes lie in a mailbox.
    pub fn in_mailbox(&self, account: AccountId) -> usize {
        self.runtime.block_on(self.store.in_mailbox(account))
    }

    /// Plays these on the connections that come next, one on each.
    pub fn play(&self, tricks: impl IntoIterator<Item = Trick>) {
        self.shared.tricks.lock().unwrap().extend(tricks);
    }

    /// How many are still to be played.
    pub fn tricks_left(&self) -> usize {
        self.shared.tricks.lock().unwrap().len()
    }

    /// What each connection carried so far, to the server and to the client.
    pub fn carried(&self) -> Vec<[Vec<u8>; 2]> {
        self.shared.wire.lock().unwrap().clone()
    }
}

async fn answer_once(stream: TcpStream, key: SecretKey, answer: fn(u64) -> Vec<u8>) {
    let Ok((_, mut reader, mut writer)) = accept(stream.into_split(), key, &mut OsRng).await else { return };
    let Ok(body) = reader.read().await else { return };
    // What the client thinks of it shows in what it does next.
    let _ = writer.write(&answer(Request::from_bytes(&body).unwrap().id)).await;
    while reader.read().await.is_ok() {}
}
