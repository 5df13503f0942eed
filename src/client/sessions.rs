//! All sessions, in memory and by peer; their files are written by whoever commits a transaction.
//!
//! An envelope finds its session through its tag, in one look-up however many contacts there are. Where no tag fits
//! (far disorder), the header keys of all sessions are tried, within a budget.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::finding::Found;
use super::state::{self, StateError};
use super::tags::Tags;
use super::trials::{Budget, Hints, Tried};
use crate::disk::system::Disk;
use crate::envelope::{self, BodyError};
use crate::limits::{BATCH_BYTES_MAX, CHAIN_JUMP_MAX, SESSIONS_PER_PEER_MAX, SKIPPED_KEYS_MAX, STRANGER_JUMP_MAX};
use crate::ratchet::{self, BadPeerKey, ChainAt, OpeningKeys, Refused, Session, rank};
use crate::wire::control::Rank;
use crate::wire::envelope::Envelope;
use crate::wire::identity::{ConversationId, Fingerprint, Identity};
use crate::wire::prekey::SignedPrekey;
use crate::wire::session::{Standing, sessions_from_bytes, sessions_to_bytes};
use crate::wire::state::{AccountKeys, PrekeySecret};

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    pub(super) by_peer: BTreeMap<Fingerprint, Vec<Session>>,
    /// What is known of a peer's sessions besides themselves; nobody stands here of whom nothing is.
    pub(super) standings: HashMap<Fingerprint, Standing>,
    /// Peers who told us of a higher session than is here.
    pub(super) outranked: BTreeSet<Fingerprint>,
    pub(super) tags: Tags,
    pub(super) budget: Budget,
    /// With whom there is a session since what waits for one was last tried.
    added: BTreeSet<Fingerprint>,
    pub(super) dirty: BTreeSet<Fingerprint>,
    /// What finding and opening envelopes has cost so far that no other budget covers.
    pub(super) steps: u64,
}

/// What a caller has taken from an envelope.
pub trait Taken {
    /// When its author says to have written it, seconds since 1970.
    fn written_s(&self) -> Option<u64> {
        None
    }

    /// The highest session that its author knows, if it says so in answer to an opening.
    fn names(&self) -> Option<Rank> {
        None
    }
}

/// For a caller who only wants to know that it opens.
impl Taken for () {}

/// An opening that was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// The new session.
    pub rank: Rank,
    /// The highest session, where that is above the new one: its name is to be told to the peer in the new one.
    pub answer: Option<Rank>,
    /// There were sessions with this peer already, and nothing that we know of made it open another.
    pub is_unexplained: bool,
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
    /// Its session, which is with this peer, is its own, but it is not as the peer made it, and will never be: it was damaged
    /// or forged on its way, or the peer's program is faulty.
    #[error("it was damaged or forged")]
    Damaged(Fingerprint),
    /// It jumps over more messages of its session, which is with this peer, than it may: in any case; or for one that is not taken
    /// now; or for a peer who is nobody to us, then without a look at it.
    #[error("it jumps too far ahead")]
    TooFar {
        /// Who has sealed it.
        peer: Fingerprint,
        /// Whether they are somebody to us.
        may_jump: bool,
    },
    /// Its body is not its author's.
    #[error("its body is refused: {0}")]
    Body(#[from] BodyError),
    /// The caller, who saw the payload, does not take it now.
    #[error("it is not taken now: {0}")]
    NotNow(&'static str),
    /// The same of a part of a conversation that its author, a contact, has not introduced yet.
    #[error("its conversation was not introduced yet")]
    Early(ConversationId),
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
            let (states, standing) =
                sessions_from_bytes(&state::read(disk, &path)?).map_err(|error| StateError::malformed(&path, error))?;
            if standing != Standing::default() {
                sessions.standings.insert(peer, standing);
            }
            let loaded: Vec<Session> = states.into_iter().map(Session::new).collect();
            sessions.tags.keep_up(&peer, &loaded);
            sessions.by_peer.insert(peer, loaded);
            sessions.note_outranked(&peer);
        }
        Ok(sessions)
    }

    /// The peers whose sessions changed since they were last taken, each with its file's new content: empty where nothing
    /// is left of them.
    pub fn take_dirty(&mut self) -> Vec<(Fingerprint, Zeroizing<Vec<u8>>)> {
        let dirty = std::mem::take(&mut self.dirty);
        let content = |peer: Fingerprint| {
            let sessions = self.by_peer.get(&peer).map_or(&[][..], Vec::as_slice);
            (peer, sessions_to_bytes(sessions.iter().map(Session::state), &self.standing(&peer)))
        };
        dirty.into_iter().map(content).collect()
    }

    /// Erases all sessions: what they hold was lost, or is known to be old.
    pub fn erase_all(&mut self) {
        self.dirty.extend(self.by_peer.keys().copied());
        self.by_peer.clear();
        self.standings.clear();
        self.outranked.clear();
        self.tags = Tags::default();
        self.added.clear();
    }

    /// What [`Sessions::take_dirty`] would write, about.
    pub fn dirty_bytes(&self) -> usize {
        self.dirty.iter().filter_map(|peer| self.by_peer.get(peer)).map(|sessions| bytes_of(sessions)).sum()
    }

    /// Seals `payload` in the highest session. None if there is no session, or its chain is over.
    ///
    /// # Errors
    /// [`envelope::TooLong`].
    pub fn seal(
        &mut self,
        ours: &AccountKeys,
        peer: &Fingerprint,
        payload: &[u8],
        now_s: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Result<Option<Envelope>, envelope::TooLong> {
        match self.highest(peer).filter(|_| self.is_usable(peer, now_s)) {
            Some(rank) => self.seal_in(ours, peer, rank, payload, now_s, rng),
            None => Ok(None),
        }
    }

    /// Seals `payload` in the session named, whether it is the highest or not. None if it is not here.
    ///
    /// # Errors
    /// [`envelope::TooLong`].
    pub fn seal_in(
        &mut self,
        ours: &AccountKeys,
        peer: &Fingerprint,
        rank: Rank,
        payload: &[u8],
        now_s: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Result<Option<Envelope>, envelope::TooLong> {
        let mut sessions = self.by_peer.get_mut(peer).into_iter().flatten();
        let Some(session) = sessions.find(|session| session.rank() == rank) else { return Ok(None) };
        let sealing = session.send(&ours.identity(), rng);
        session.sealed(now_s);
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
        let generation = rank::generation(&self.standing(&fingerprint), self.highest(&fingerprint), now_micros);
        let now_s = now_micros / 1_000_000;
        let (mut session, sealing) = ratchet::open(ours, *peer, prekey, generation, now_s, rng)?;
        session.sealed(now_s);
        let sealed = envelope::seal(sealing, payload, rng).expect("payloads are measured when they are made");
        self.add(fingerprint, session, now_s);
        Ok(sealed)
    }

    /// With whom sessions were added since this was last asked: what opened in none before may open in theirs.
    pub fn take_added(&mut self) -> Vec<Fingerprint> {
        std::mem::take(&mut self.added).into_iter().collect()
    }

    /// What it has cost so far, in steps of a chain, to look for envelopes where they probably belong, and to come to their keys. It
    /// counts on from wherever it stands.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Erases what sessions keep for messages that are late beyond the bound: of as many peers as one batch takes. The rest goes
    /// with the next looks, which do not find these again.
    pub fn expire(&mut self, now_s: u64) {
        let mut bytes = self.dirty_bytes();
        for (peer, sessions) in &mut self.by_peer {
            if bytes > BATCH_BYTES_MAX {
                return;
            }
            // All of them, also behind the first that has something to erase.
            let expired = sessions.iter_mut().filter_map(|session| session.expire(now_s).then_some(())).count();
            if expired > 0 && self.dirty.insert(*peer) {
                bytes += bytes_of(sessions);
            }
        }
    }

    /// Opens an envelope in a standing session: one that its tag leads to, one with those who were `added`, or one that a trial
    /// finds, which goes on from where it stopped. `take` sees the author and the payload after they were checked, and
    /// decides whether to take it; only then the session moves on.
    ///
    /// A peer who jumps far ahead makes that dear, and what is not taken would be as dear each time that it is looked at: it is not
    /// to come again.
    ///
    /// # Errors
    /// [`NotOpened`]; the session is as before.
    pub fn open<T: Taken>(
        &mut self,
        ours: &AccountKeys,
        envelope: &Envelope,
        hints: Hints<'_>,
        now_s: u64,
        rng: &mut impl CryptoRngCore,
        take: impl FnOnce(&Identity, &[u8]) -> Result<T, NotOpened>,
    ) -> Result<T, NotOpened> {
        let found = self.find(envelope, hints.added, hints.tried, now_s).map_err(NotOpened::NoSession)?;
        let Found { peer, place, at, header } = found;
        let session = self.by_peer.get_mut(&peer).and_then(|sessions| sessions.get_mut(place));
        let session = session.ok_or(NotOpened::NoSession(Tried::All))?;
        let jump = session.jump(at, &header);
        if jump > STRANGER_JUMP_MAX && !(hints.may_jump)(&peer) {
            return Err(NotOpened::TooFar { peer, may_jump: false });
        }
        if jump <= CHAIN_JUMP_MAX {
            self.steps = self.steps.wrapping_add(jump);
        }
        let is_far = usize::try_from(jump).map_or(true, |jump| jump > SKIPPED_KEYS_MAX);
        let answers_s = session.sending_since();
        let opened = session.receive(ours, at, &header, now_s, rng, |key, auth| {
            let body = envelope::open_body(envelope, key)?;
            take(&auth.sender, body.payload(envelope, auth, false)?)
        });
        let opened = opened.map_err(|error| match error {
            NotOpened::Refused(Refused::AlreadyUsed) => NotOpened::Repeated(peer),
            NotOpened::Body(_) | NotOpened::Refused(Refused::Inconsistent | Refused::BadKey(_)) => {
                NotOpened::Damaged(peer)
            }
            NotOpened::Refused(Refused::TooFarAhead) => NotOpened::TooFar { peer, may_jump: true },
            NotOpened::NotNow(_) | NotOpened::Early(_) if is_far => NotOpened::TooFar { peer, may_jump: true },
            error => error,
        })?;
        if at == ChainAt::Next {
            session.begun(opened.written_s().unwrap_or(now_s).min(now_s), answers_s);
        }
        let rank = session.rank();
        match opened.names() {
            Some(named) => self.heed(&peer, named, now_s),
            None => self.received_in(&peer, rank),
        }
        self.dirty.insert(peer);
        self.keep_up(&peer);
        Ok(opened)
    }

    /// Opens an opening with the prekey that its tag names, and adds the session.
    ///
    /// # Errors
    /// [`NotOpened`]; nothing has changed.
    pub fn accept<T: Taken>(
        &mut self,
        ours: &AccountKeys,
        prekey: &PrekeySecret,
        envelope: &Envelope,
        now_s: u64,
        rng: &mut impl CryptoRngCore,
        take: impl FnOnce(&Identity, &[u8]) -> Result<T, NotOpened>,
    ) -> Result<(T, Opened), NotOpened> {
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
        if !rank::is_plausible(opened.opening().generation, self.highest(&peer), now_s) {
            return Err(Refused::Inconsistent.into());
        }
        let payload = opened.payload(envelope, author.auth_key(), true)?;
        let taken = take(&author.auth_key().sender, payload)?;
        let mut session = author.accept(now_s, rng)?;
        let rank = session.rank();
        let opened_s = rank.generation / 1_000_000;
        session.begun(taken.written_s().unwrap_or(opened_s).min(now_s), 0);
        let opened_s = opened_s.max(taken.written_s().unwrap_or(0)).min(now_s);
        let is_unexplained = self.is_unexplained(&peer, rank, opened_s, now_s);
        self.received_in(&peer, rank);
        let answer = self.answer(&peer, rank, now_s);
        self.add(peer, session, now_s);
        Ok((taken, Opened { rank, answer, is_unexplained }))
    }

    /// Adds a session, and retires what is below the highest. Beyond the bound the lowest goes, but not the new one: its
    /// opener does not know yet that it is not the highest.
    fn add(&mut self, peer: Fingerprint, session: Session, now_s: u64) {
        let added = session.rank();
        let sessions = self.by_peer.entry(peer).or_default();
        sessions.push(session);
        let highest = sessions.iter().map(Session::rank).max();
        sessions.iter_mut().filter(|session| Some(session.rank()) < highest).for_each(|session| session.retire(now_s));
        if sessions.len() > SESSIONS_PER_PEER_MAX {
            let others = sessions.iter().enumerate().filter(|(_, session)| session.rank() != added);
            if let Some((place, _)) = others.min_by_key(|(_, session)| session.rank()) {
                let gone = sessions.remove(place);
                self.note_erased(&peer, &gone);
            }
        }
        self.note_outranked(&peer);
        self.dirty.insert(peer);
        self.added.insert(peer);
        self.keep_up(&peer);
    }

    pub(super) fn keep_up(&mut self, peer: &Fingerprint) {
        self.tags.keep_up(peer, self.by_peer.get(peer).map_or(&[][..], Vec::as_slice));
    }
}

/// What the file of these has, about.
fn bytes_of(sessions: &[Session]) -> usize {
    const SESSION_BYTES: usize = 2_500;
    const CHAIN_BYTES: usize = 256;
    const SKIPPED_BYTES: usize = 60;
    let chains = sessions.iter().flat_map(|session| &session.state().receiving);
    sessions.len() * SESSION_BYTES
        + chains.map(|chain| CHAIN_BYTES + chain.skipped.len() * SKIPPED_BYTES).sum::<usize>()
}
