//! Somebody who speaks the protocol and need not keep its rules, with keys and a card of their own.

#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic)]

use std::fs;

use chatterbox::clock::Timestamp;
use chatterbox::crypto::dh::SecretKey;
use chatterbox::crypto::secret::Secret;
use chatterbox::crypto::sign::SigningKey;
use chatterbox::envelope;
use chatterbox::limits::PROTOCOL_VERSION;
use chatterbox::net::connection::{FrameReader, FrameWriter, connect};
use chatterbox::ratchet::{self, Session};
use chatterbox::wire::address::ServerAddress;
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::identity::{ConversationId, Fingerprint, MessageId, participants_hash};
use chatterbox::wire::payload::{Content, Introduction, Payload};
use chatterbox::wire::profile::{Profile, SignedProfile};
use chatterbox::wire::reply::{Refusal, Reply, ServerMessage};
use chatterbox::wire::request::{Command, Request};
use chatterbox::wire::state::AccountKeys;
use rand_core::OsRng;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use zeroize::Zeroizing;

use crate::support::{User, entries};

/// Somebody who makes their own envelopes.
pub struct Peer {
    pub keys: AccountKeys,
    pub profile: SignedProfile,
    reader: FrameReader<OwnedReadHalf>,
    writer: FrameWriter<OwnedWriteHalf>,
    next_id: u64,
    pub victim: SignedProfile,
    pub session: Option<Session>,
}

/// The keys of a new account.
pub fn account() -> AccountKeys {
    AccountKeys {
        signing: SigningKey::random(&mut OsRng),
        auth: SecretKey::random(&mut OsRng),
        transport: SecretKey::random(&mut OsRng),
    }
}

impl Peer {
    pub async fn new(name: &str, victim: &User) -> Self {
        victim.wait_for("prekeys at the server", || {
            let text = fs::read_to_string(victim.at("status")).ok()?;
            let line = text.lines().find(|line| line.starts_with("prekeys: "))?;
            (line != "prekeys: 0").then_some(())
        });
        let victim: SignedProfile = victim.card().parse().unwrap();
        let server: &ServerAddress = &victim.profile().server;
        let stream = TcpStream::connect((server.host(), server.port())).await.unwrap();
        let key = SecretKey::random(&mut OsRng);
        let (reader, writer) = connect(stream.into_split(), *server.key(), key, &mut OsRng).await.unwrap();
        let keys = account();
        let profile = Profile {
            name: name.into(),
            server: server.clone(),
            account: keys.account(),
            identity: keys.identity(),
            version: 1,
        };
        let profile = SignedProfile::sign(profile, &keys.signing).unwrap();
        Self { keys, profile, reader, writer, next_id: 1, victim, session: None }
    }

    pub async fn ask(&mut self, command: Command) -> Result<Reply, Refusal> {
        let id = self.next_id;
        self.next_id += 1;
        let request = Request { id, version: PROTOCOL_VERSION, command };
        self.writer.write(&request.to_bytes()).await.unwrap();
        match ServerMessage::from_bytes(&self.reader.read().await.unwrap()).unwrap() {
            ServerMessage::Reply { id: answered, outcome } if answered == id => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.profile.identity().fingerprint()
    }

    pub fn victim(&self) -> Fingerprint {
        self.victim.identity().fingerprint()
    }

    /// A payload of the conversation between just the two, as an honest client would make it.
    pub fn payload(&self, text: &str) -> Payload {
        let both = [self.fingerprint(), self.victim()];
        Payload {
            id: MessageId(*Secret::random(&mut OsRng).expose()),
            conversation: ConversationId::of_participants(&both),
            participants: participants_hash(&both),
            time: Timestamp::now(),
            // Of its own, so that nothing is missing before it and nothing contradicts it.
            incarnation: *Secret::random(&mut OsRng).expose(),
            counter: 1,
            introduction: Some(Introduction {
                subject: String::new(),
                created: Timestamp::now(),
                profiles: vec![self.profile.clone(), self.victim.clone()],
                salt: None,
            }),
            profile: None,
            resent: 0,
            transcript: None,
            part: None,
            content: Some(Content { file_name: Vec::new(), bytes: Zeroizing::new(text.as_bytes().to_vec()) }),
        }
    }

    pub async fn seal(&mut self, payload: &[u8]) -> Envelope {
        let sealing = match &mut self.session {
            Some(session) => session.send(&self.keys.identity(), &mut OsRng),
            None => {
                let account = self.victim.profile().account;
                let Ok(Reply::Prekey(prekey)) = self.ask(Command::TakePrekey(account)).await else { panic!() };
                prekey.verify(self.victim.identity()).unwrap();
                let now = Timestamp::now();
                let peer = *self.victim.identity();
                let (session, first) =
                    ratchet::open(&self.keys, peer, &prekey, now.micros(), now.seconds(), &mut OsRng).unwrap();
                self.session = Some(session);
                first
            }
        };
        envelope::seal(sealing, payload, &mut OsRng).unwrap()
    }

    pub async fn deliver(&mut self, envelope: Envelope) {
        let account = self.victim.profile().account;
        assert_eq!(self.ask(Command::Deliver { account, envelope }).await, Ok(Reply::Done));
    }

    pub async fn send(&mut self, payload: &Payload) {
        let envelope = self.seal(&payload.to_bytes()).await;
        self.deliver(envelope).await;
    }
}

pub fn wait_for_alert(user: &User, says: &str) -> String {
    user.wait_for(says, || {
        entries(&user.at("alerts"))
            .into_iter()
            .find_map(|path| fs::read_to_string(path).ok().filter(|text| text.contains(says)))
    })
}
