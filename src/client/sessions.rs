//! All sessions, in memory and by peer; their files are written by whoever commits a transaction.
//!
//! An envelope finds its session through its tag, in one look-up however many contacts there are. Where no tag fits
//! (far disorder), the header keys of all sessions are tried, within a budget.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::finding::Found;
use super::state::{self, StateError};
use super::tags::Tags;
use super::trials::{Budget, Tried};
use crate::disk::system::Disk;
use crate::envelope::{self, BodyError};
use crate::limits::SESSIONS_PER_PEER_MAX;
use crate::ratchet::{self, BadPeerKey, OpeningKeys, Refused, Session};
use crate::wire::envelope::Envelope;
use crate::wire::identity::{Fingerprint, Identity};
use crate::wire::prekey::SignedPrekey;
use crate::wire::session::{sessions_from_bytes, sessions_to_bytes};
use crate::wire::state::{AccountKeys, PrekeySecret};

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    pub(super) by_peer: BTreeMap<Fingerprint, Vec<Session>>,
    pub(super) tags: Tags,
    pub(super) budget: Budget,
    /// With whom there is a session since what waits for one was last tried.
    added: BTreeSet<Fingerprint>,
    dirty: BTreeSet<Fingerprint>,
}

/// Why an envelope yields nothing, as far as its session can tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// No session has its header key, as far as they were tried.
    #[error("no session opens it")]
    NoSession(Tried),
    /// Its session refuses it.
    #[error("its session refuses it: {0}")]
    Refused(#[from] Refused),
    /// Its session, which is with this peer, has used its key, or given it up.
    #[error("its key was used, or given up")]
    Repeated(Fingerprint),
    /// Its body is not its author's.
    #[error("its body is refused: {0}")]
    Body(#[from] BodyError),
    /// The caller, who saw the payload, does not take it now.
    #[error("it is not taken now: {0}")]
    NotNow(&'static str),
}

impl Sessions {
    /// Reads `keys/sessions/`.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(disk: &dyn Disk, directory: &Path) -> Result<Self, StateError> {
        let mut sessions = Self::default();
        for (path, name) in state::files(disk, directory)? {
            let Some(peer) = Fingerprint::from_hex(&name) else { continue };
            let states =
                sessions_from_bytes(&state::read(disk, &path)?).map_err(|error| StateError::malformed(&path, error))?;
            let loaded: Vec<Session> = states.into_iter().map(Session::new).collect();
            sessions.tags.keep_up(&peer, &loaded);
            sessions.by_peer.insert(peer, loaded);
        }
        Ok(sessions)
    }

    /// The peers whose sessions changed since they were last taken, each with its file's new content: none where no
    /// session is left.
    pub fn take_dirty(&mut self) -> Vec<(Fingerprint, Zeroizing<Vec<u8>>)> {
        let dirty = std::mem::take(&mut self.dirty);
        let content = |peer: Fingerprint| {
            let sessions = self.by_peer.get(&peer).map_or(&[][..], Vec::as_slice);
            (peer, sessions_to_bytes(sessions.iter().map(Session::state)))
        };
        dirty.into_iter().map(content).collect()
    }

    /// Erases all sessions: what they hold was lost, or is known to be old.
    pub fn erase_all(&mut self) {
        self.dirty.extend(self.by_peer.keys().copied());
        self.by_peer.clear();
        self.tags = Tags::default();
        self.added.clear();
    }

    /// What [`Sessions::take_dirty`] would write, about.
    pub fn dirty_bytes(&self) -> usize {
        const SESSION_BYTES: usize = 2_500;
        const SKIPPED_BYTES: usize = 60;
        let sessions = self.dirty.iter().filter_map(|peer| self.by_peer.get(peer)).flatten();
        let size = |session: &Session| {
            let skipped: usize = session.state().receiving.iter().map(|chain| chain.skipped.len()).sum();
            SESSION_BYTES + skipped * SKIPPED_BYTES
        };
        sessions.map(size).sum()
    }

    /// Whether there is a session to send in.
    pub fn has(&self, peer: &Fingerprint) -> bool {
        self.by_peer.get(peer).is_some_and(|sessions| !sessions.is_empty())
    }

    /// Seals `payload` in the session of the highest generation. None if there is no session.
    ///
    /// # Errors
    /// [`envelope::TooLong`].
    pub fn seal(
        &mut self,
        ours: &AccountKeys,
        peer: &Fingerprint,
        payload: &[u8],
        rng: &mut impl CryptoRngCore,
    ) -> Result<Option<Envelope>, envelope::TooLong> {
        let sessions = self.by_peer.entry(*peer).or_default();
        let newest = sessions.iter_mut().max_by(|left, right| {
            let by_opening = right.opening_hash().cmp(left.opening_hash());
            left.generation().cmp(&right.generation()).then(by_opening)
        });
        let Some(session) = newest else { return Ok(None) };
        let sealing = session.send(&ours.identity(), rng);
        self.dirty.insert(*peer);
        envelope::seal(sealing, payload, rng).map(Some)
    }

    /// Opens a session through a prekey that was checked, and seals its first message.
    ///
    /// # Errors
    /// [`BadPeerKey`] if the prekey is a trap. A payload too long is a fault of the caller's, who has measured it.
    pub fn open_and_seal(
        &mut self,
        ours: &AccountKeys,
        peer: &Identity,
        prekey: &SignedPrekey,
        payload: &[u8],
        now_micros: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Result<Envelope, BadPeerKey> {
        let fingerprint = peer.fingerprint();
        let known = self.by_peer.get(&fingerprint).into_iter().flatten().map(Session::generation).max();
        let generation = now_micros.max(known.map_or(0, |highest| highest.saturating_add(1)));
        let (session, sealing) = ratchet::open(ours, *peer, prekey, generation, now_micros / 1_000_000, rng)?;
        let sealed = envelope::seal(sealing, payload, rng).expect("payloads are measured when they are made");
        self.add(fingerprint, session);
        Ok(sealed)
    }

    /// With whom sessions were added since this was last asked: what opened in none before may open in theirs.
    pub fn take_added(&mut self) -> Vec<Fingerprint> {
        std::mem::take(&mut self.added).into_iter().collect()
    }

    /// Erases what sessions keep for messages that are late beyond the bound.
    pub fn expire(&mut self, now_s: u64) {
        for (peer, sessions) in &mut self.by_peer {
            // All of them, also behind the first that has something to erase.
            let expired = sessions.iter_mut().filter_map(|session| session.expire(now_s).then_some(())).count();
            if expired > 0 {
                self.dirty.insert(*peer);
            }
        }
    }

    /// Opens an envelope in a standing session: one that its tag leads to, one with `added`, or one that a trial finds,
    /// which goes on from `tried`. `take` sees the author and the payload after they were checked, and
    /// decides whether to take it; only then the session moves on.
    ///
    /// # Errors
    /// [`NotOpened`]; the session is as before.
    pub fn open<T>(
        &mut self,
        ours: &AccountKeys,
        envelope: &Envelope,
        (added, tried): (&[Fingerprint], Tried),
        now_s: u64,
        rng: &mut impl CryptoRngCore,
        take: impl FnOnce(&Identity, &[u8]) -> Result<T, NotOpened>,
    ) -> Result<T, NotOpened> {
        let found = self.find(envelope, added, tried, now_s).map_err(NotOpened::NoSession)?;
        let Found { peer, place, at, header } = found;
        let session = self.by_peer.get_mut(&peer).and_then(|sessions| sessions.get_mut(place));
        let session = session.ok_or(NotOpened::NoSession(Tried::All))?;
        let opened = session.receive(ours, at, &header, now_s, rng, |key, auth| {
            let body = envelope::open_body(envelope, key)?;
            take(&auth.sender, body.payload(envelope, auth, false)?)
        });
        let opened = opened.map_err(|error| match error {
            NotOpened::Refused(Refused::AlreadyUsed) => NotOpened::Repeated(peer),
            error => error,
        })?;
        self.dirty.insert(peer);
        self.keep_up(&peer);
        Ok(opened)
    }

    /// Opens an opening with the prekey that its tag names, and adds the session.
    ///
    /// # Errors
    /// [`NotOpened`]; nothing has changed.
    pub fn accept<T>(
        &mut self,
        ours: &AccountKeys,
        prekey: &PrekeySecret,
        envelope: &Envelope,
        now_s: u64,
        rng: &mut impl CryptoRngCore,
        take: impl FnOnce(&Identity, &[u8]) -> Result<T, NotOpened>,
    ) -> Result<T, NotOpened> {
        let keys = OpeningKeys::derive(ours, prekey, envelope::ephemeral(envelope))?;
        let header = envelope::open_header(envelope, keys.header_key()).ok_or(NotOpened::NoSession(Tried::All))?;
        let hash = keys.opening_hash();
        let (key, body) = keys.body(&header)?;
        let opened = envelope::open_body(envelope, key)?;
        let author = body.author(opened.opening())?;
        let peer = author.auth_key().sender.fingerprint();
        let mut known = self.by_peer.get(&peer).into_iter().flatten();
        if known.any(|session| *session.opening_hash() == hash) {
            return Err(Refused::AlreadyUsed.into());
        }
        let payload = opened.payload(envelope, author.auth_key(), true)?;
        let taken = take(&author.auth_key().sender, payload)?;
        let session = author.accept(now_s, rng)?;
        self.add(session.peer().fingerprint(), session);
        Ok(taken)
    }

    fn add(&mut self, peer: Fingerprint, session: Session) {
        let sessions = self.by_peer.entry(peer).or_default();
        sessions.push(session);
        if sessions.len() > SESSIONS_PER_PEER_MAX {
            let lowest = sessions.iter().enumerate().min_by_key(|(_, session)| session.generation());
            if let Some(place) = lowest.map(|(place, _)| place) {
                sessions.remove(place);
            }
        }
        self.dirty.insert(peer);
        self.added.insert(peer);
        self.keep_up(&peer);
    }

    fn keep_up(&mut self, peer: &Fingerprint) {
        self.tags.keep_up(peer, self.by_peer.get(peer).map_or(&[][..], Vec::as_slice));
    }
}
