//! Somebody with fixed keys, sessions and prekeys, who receives as the client does, without a disk.

use std::fmt;

use chatterbox::crypto::dh::SecretKey;
use chatterbox::crypto::sign::SigningKey;
use chatterbox::envelope::{self, BodyError};
use chatterbox::limits::{RECEIVING_CHAINS_MAX, SKIPPED_KEYS_MAX};
use chatterbox::ratchet::{OpeningKeys, Refused, Session};
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::prekey::PrekeyKind;
use chatterbox::wire::served::Served;
use chatterbox::wire::state::{AccountKeys, PrekeySecret, prekeys_to_bytes};

use super::rng::Rng;
use super::stored;

/// When all of it happens, in seconds.
pub const NOW: u64 = 1_800_000_000;

/// Why an envelope yields nothing.
#[derive(Debug)]
pub enum NotOpened {
    NoSession,
    Refused(Refused),
    Body(BodyError),
}

impl fmt::Display for NotOpened {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSession => formatter.write_str("no session opens it"),
            Self::Refused(refused) => refused.fmt(formatter),
            Self::Body(error) => error.fmt(formatter),
        }
    }
}

impl From<Refused> for NotOpened {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<BodyError> for NotOpened {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

pub fn account(seed: &str) -> AccountKeys {
    let rng = &mut Rng::new(seed.as_bytes());
    AccountKeys { signing: SigningKey::random(rng), auth: SecretKey::random(rng), transport: SecretKey::random(rng) }
}

#[derive(Clone)]
pub struct Receiver {
    pub keys: AccountKeys,
    pub prekeys: Vec<PrekeySecret>,
    pub sessions: Vec<Session>,
    pub rng: Rng,
}

impl Receiver {
    /// Opens an envelope, and checks what must hold whatever it is: a refused one changes nothing, an accepted one never
    /// opens again, and what is kept stays within its bounds.
    pub fn receive(&mut self, envelope: &Envelope) -> Result<Vec<u8>, NotOpened> {
        let before = self.to_bytes();
        let outcome = self.open(envelope);
        let after = self.to_bytes();
        if let Err(error) = &outcome {
            assert!(before == after, "a refused envelope changed something: {error}");
            return outcome;
        }
        assert!(before != after, "an envelope was taken and left no trace");
        assert!(self.open(envelope).is_err(), "an envelope opened twice");
        assert!(self.to_bytes() == after, "a repeated envelope changed something");
        for session in &self.sessions {
            let chains = &session.state().receiving;
            assert!(chains.len() <= RECEIVING_CHAINS_MAX);
            assert!(chains.iter().rev().skip(1).all(|chain| chain.chain_key.is_none()), "two chains are open");
            assert!(chains.iter().map(|chain| chain.skipped.len()).sum::<usize>() <= SKIPPED_KEYS_MAX);
        }
        outcome
    }

    fn open(&mut self, envelope: &Envelope) -> Result<Vec<u8>, NotOpened> {
        let tag = envelope::tag(envelope);
        match self.prekeys.iter().position(|entry| entry.prekey.tag() == tag) {
            Some(place) => self.accept(place, envelope),
            None => self.open_standing(envelope),
        }
    }

    fn accept(&mut self, place: usize, envelope: &Envelope) -> Result<Vec<u8>, NotOpened> {
        let prekey = &self.prekeys[place];
        let keys = OpeningKeys::derive(&self.keys, prekey, envelope::ephemeral(envelope))?;
        let header = envelope::open_header(envelope, keys.header_key()).ok_or(NotOpened::NoSession)?;
        let hash = keys.opening_hash();
        let (key, body) = keys.body(&header)?;
        let opened = envelope::open_body(envelope, key)?;
        let author = body.author(opened.opening())?;
        if self.sessions.iter().any(|session| *session.opening_hash() == hash) {
            return Err(Refused::AlreadyUsed.into());
        }
        let payload = opened.payload(envelope, author.auth_key(), true)?.to_vec();
        let session = author.accept(NOW, &mut self.rng)?;
        self.sessions.push(session);
        if prekey.prekey.kind == PrekeyKind::OneTime {
            self.prekeys.remove(place);
        }
        Ok(payload)
    }

    fn open_standing(&mut self, envelope: &Envelope) -> Result<Vec<u8>, NotOpened> {
        let Self { keys, sessions, rng, .. } = self;
        for session in sessions {
            let found = session.header_keys().find_map(|(at, key)| Some((at, envelope::open_header(envelope, key)?)));
            let Some((at, header)) = found else { continue };
            return session.receive(keys, at, &header, NOW, rng, |key, auth| {
                let body = envelope::open_body(envelope, key)?;
                Ok(body.payload(envelope, auth, false)?.to_vec())
            });
        }
        Err(NotOpened::NoSession)
    }

    /// Stops and starts again: what is on disk is all there is.
    pub fn restart(&mut self) {
        let mut loaded = stored::parse(&self.sessions_to_bytes()).expect("what was written can be read");
        let loaded: Vec<Session> = stored::sessions(&mut loaded).drain(..).map(Session::new).collect();
        assert!(loaded == self.sessions, "a restart changed something");
        self.sessions = loaded;
    }

    fn sessions_to_bytes(&self) -> Vec<u8> {
        let states = self.sessions.iter().map(|session| session.state().clone());
        stored::serialize(&stored::with(states.collect()))
    }

    fn to_bytes(&self) -> (Vec<u8>, Vec<u8>) {
        (self.sessions_to_bytes(), prekeys_to_bytes(&self.prekeys, &Served::default()).to_vec())
    }
}
