//! One party: sessions, prekeys and the memory of what was received, as the engine puts them together, without its disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rand_core::{CryptoRng, RngCore};

use crate::client::pending::Pending;
use crate::client::prekeys::{Found, Prekeys};
use crate::client::received::Received;
use crate::client::root;
use crate::client::sessions::{NotOpened, Opened, Sessions, Taken};
use crate::client::trials::{Hints, Tried};
use crate::crypto::dh::SecretKey;
use crate::crypto::hash::sha256;
use crate::crypto::sign::SigningKey;
use crate::disk::simulated::SimulatedDisk;
use crate::disk::system::Disk as _;
use crate::envelope;
use crate::ratchet::{self, Refused};
use crate::wire::control::Rank;
use crate::wire::envelope::Envelope;
use crate::wire::identity::{Fingerprint, Identity};
use crate::wire::journal::Step;
use crate::wire::prekey::{PrekeyKind, SignedPrekey};
use crate::wire::sealing::Tag;
use crate::wire::served::Served;
use crate::wire::session::sessions_to_bytes;
use crate::wire::state::{AccountKeys, PrekeySecret, prekeys_to_bytes};

/// One-time prekeys of each: few, so that they run out in some schedules.
const ONE_TIME: usize = 4;

/// Later than any schedule goes on: that prekeys expire is tested where they are.
const EXPIRES_S: u64 = 1 << 40;

/// What a commit leaves on the disk, by path.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Random bytes that a schedule draws again when it is tried again. Never rolled back: what is restored is a state, and not
/// the kernel's.
pub(in crate::client) struct Dice(u64);

impl Dice {
    pub(in crate::client) fn new(seed: u64) -> Self {
        Self(seed << 32)
    }
}

impl RngCore for Dice {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(32) {
            self.0 += 1;
            part.copy_from_slice(&sha256(&[b"dice", &self.0.to_le_bytes()])[..part.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Dice {}

/// What an envelope says: a message, or a note that names its author's highest session, or one that only opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Text {
    pub(super) number: u32,
    pub(super) written_s: u64,
    pub(super) names: Option<Rank>,
}

impl Text {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = [&self.number.to_le_bytes()[..], &self.written_s.to_le_bytes()].concat();
        if let Some(rank) = self.names {
            bytes.extend(rank.generation.to_le_bytes());
            bytes.extend(rank.opening);
        }
        // Of every length up to an envelope's, so that the padding is tried as well.
        let filler = usize::try_from(self.number).unwrap() * 977 % (envelope::PAYLOAD_BYTES_MAX - bytes.len());
        [vec![u8::from(self.names.is_some())], bytes, vec![self.number.to_le_bytes()[0]; filler]].concat()
    }

    fn parse(bytes: &[u8]) -> Self {
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let rank = || Rank { generation: long(13), opening: bytes[21..53].try_into().unwrap() };
        let text = Self {
            number: u32::from_le_bytes(bytes[1..5].try_into().unwrap()),
            written_s: long(5),
            names: (bytes[0] == 1).then(rank),
        };
        assert!(text.to_bytes() == bytes, "the content of {text:?} has changed");
        text
    }
}

impl Taken for (Fingerprint, Text) {
    fn written_s(&self) -> Option<u64> {
        self.1.names.is_none().then_some(self.1.written_s)
    }

    fn names(&self) -> Option<Rank> {
        self.1.names
    }
}

/// What became of an envelope.
#[derive(Debug)]
pub(super) enum Became {
    /// Exactly this one was here before.
    Known,
    Opened(Fingerprint, Text, Option<Opened>),
    /// Nothing opens it yet. How far it was tried.
    Kept(Tried),
    /// A key that was used, or an opening that was served.
    Repeated,
    /// Its one-time prekey has served another opening.
    Taken,
    /// Its session is known, and it does not fit.
    Damaged,
}

pub(super) struct Party {
    pub(super) keys: AccountKeys,
    pub(super) sessions: Sessions,
    pub(super) prekeys: Prekeys,
    received: Received,
    pending: Pending,
    /// What the next commit would leave on the disk.
    pub(super) files: Files,
    pub(super) kept: Vec<(Envelope, Tried)>,
}

/// The accounts of three, and each one's first prekeys: made once, since all schedules may begin alike.
fn accounts() -> &'static [AccountKeys; 3] {
    static ACCOUNTS: OnceLock<[AccountKeys; 3]> = OnceLock::new();
    ACCOUNTS.get_or_init(|| {
        let mut dice = Dice::new(1);
        std::array::from_fn(|_| AccountKeys {
            signing: SigningKey::random(&mut dice),
            auth: SecretKey::random(&mut dice),
            transport: SecretKey::random(&mut dice),
        })
    })
}

/// Fresh prekeys, as a file and as our server gets them: a few of one use, and one of last resort.
fn fresh_prekeys(keys: &AccountKeys, dice: &mut Dice) -> (Vec<u8>, Vec<SignedPrekey>) {
    let kinds = [PrekeyKind::OneTime; ONE_TIME].into_iter().chain([PrekeyKind::LastResort]);
    let secrets: Vec<_> = kinds.map(|kind| PrekeySecret::random(kind, EXPIRES_S, keys, dice)).collect();
    let file = prekeys_to_bytes(&secrets, &Served::default()).to_vec();
    (file, secrets.into_iter().map(|secret| secret.prekey).collect())
}

impl Party {
    /// One of the three, with the prekeys that its server gets.
    pub(super) fn new(place: usize) -> (Self, Vec<SignedPrekey>) {
        static PREKEYS: OnceLock<Vec<(Vec<u8>, Vec<SignedPrekey>)>> = OnceLock::new();
        let prekeys = PREKEYS.get_or_init(|| {
            let mut dice = Dice::new(2);
            accounts().iter().map(|keys| fresh_prekeys(keys, &mut dice)).collect()
        });
        let (file, published) = prekeys[place].clone();
        let files = Files::from([(root::prekeys_file(), file)]);
        (Self::load(accounts()[place].clone(), &files, Vec::new()), published)
    }

    /// As a start finds it.
    pub(super) fn load(keys: AccountKeys, files: &Files, kept: Vec<(Envelope, Tried)>) -> Self {
        let top = Path::new("/root");
        let disk = SimulatedDisk::with_directory(top);
        for directory in ["keys", "keys/sessions"] {
            disk.make_directory(&top.join(directory)).unwrap();
        }
        files.iter().for_each(|(path, bytes)| disk.write_file(&top.join(path), bytes, false));
        Self {
            keys,
            sessions: Sessions::load(&disk, &top.join("keys/sessions")).unwrap(),
            prekeys: Prekeys::load(&disk, &top.join(root::prekeys_file())).unwrap(),
            received: Received::load(&disk, &top.join("keys")).unwrap(),
            pending: Pending::default(),
            files: files.clone(),
            kept,
        }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.keys.identity().fingerprint()
    }

    /// Puts what changed where the next commit will find it. True if anything did.
    pub(super) fn collect(&mut self) -> bool {
        let mut changed = false;
        let sessions = self.sessions.take_dirty().into_iter();
        let mut puts: Vec<_> = sessions.map(|(peer, bytes)| (root::sessions_file(&peer), bytes.to_vec())).collect();
        puts.extend(self.prekeys.take_dirty().map(|bytes| (root::prekeys_file(), bytes.to_vec())));
        for (path, bytes) in puts {
            changed = true;
            match bytes.is_empty() {
                true => drop(self.files.remove(&path)),
                false => drop(self.files.insert(path, bytes)),
            }
        }
        for step in self.pending.take_steps().steps {
            changed = true;
            let Step::Append { path, offset, bytes } = step else { panic!("another step than expected") };
            let file = self.files.entry(path).or_default();
            assert_eq!(u64::try_from(file.len()).unwrap(), offset);
            file.extend(bytes);
        }
        changed
    }

    /// All sessions with all peers, as they would be written now.
    pub(super) fn serialized(&self) -> BTreeMap<Fingerprint, Vec<u8>> {
        let peers = self.sessions.by_peer.keys().chain(self.sessions.standings.keys());
        let serialize = |peer: &Fingerprint| {
            let sessions = self.sessions.by_peer.get(peer).map_or(&[][..], Vec::as_slice);
            let bytes = sessions_to_bytes(sessions.iter().map(ratchet::Session::state), &self.sessions.standing(peer));
            (*peer, bytes.to_vec())
        };
        peers.map(serialize).filter(|(_, bytes)| !bytes.is_empty()).collect()
    }

    /// Its own loss was noticed: all sessions and prekeys go. Hands out the prekeys that replace those.
    pub(super) fn lose(&mut self, dice: &mut Dice) -> Vec<SignedPrekey> {
        self.sessions.erase_all();
        self.prekeys.erase_all();
        self.collect();
        let (file, published) = fresh_prekeys(&self.keys, dice);
        self.files.insert(root::prekeys_file(), file);
        *self = Self::load(self.keys.clone(), &self.files, std::mem::take(&mut self.kept));
        published
    }

    /// Seals in the highest session, if it may be used. Hands out its opening hash, too.
    pub(super) fn seal(
        &mut self,
        to: &Fingerprint,
        text: Text,
        now_s: u64,
        dice: &mut Dice,
    ) -> Option<(Envelope, Rank)> {
        let highest = self.sessions.highest(to)?;
        let sealed = self.sessions.seal(&self.keys, to, &text.to_bytes(), now_s, dice).unwrap()?;
        Some((sealed, highest))
    }

    /// Whether a session is to be opened for what is to be sealed.
    pub(super) fn must_open(&self, to: &Fingerprint, now_s: u64) -> bool {
        self.sessions.is_outranked(to, now_s) || !self.sessions.is_usable(to, now_s)
    }

    pub(super) fn open(
        &mut self,
        to: &Identity,
        prekey: &SignedPrekey,
        text: Text,
        now_s: u64,
        dice: &mut Dice,
    ) -> (Envelope, [u8; 32]) {
        prekey.verify(to).unwrap();
        let micros = now_s * 1_000_000;
        let sealed = self.sessions.open_and_seal(&self.keys, to, prekey, &text.to_bytes(), micros, dice).unwrap();
        let hash = ratchet::opening_hash(&envelope::tag(&sealed), &envelope::ephemeral(&sealed));
        (sealed, hash)
    }

    /// Takes an envelope from the mailbox, as `Engine::receive` does.
    pub(super) fn receive(&mut self, envelope: &Envelope, now_s: u64, dice: &mut Dice) -> Became {
        let hash = envelope.sha256();
        if self.received.contains(&hash) {
            return Became::Known;
        }
        let became = self.try_open(envelope, Hints::NONE, now_s, dice);
        if let Became::Kept(tried) = became {
            self.kept.push((envelope.clone(), tried));
        }
        self.received.add(hash, now_s, &mut self.pending);
        became
    }

    /// Tries what was kept, as `Engine::retry_unopened` does. Hands out what is not kept any longer.
    pub(super) fn retry(&mut self, now_s: u64, dice: &mut Dice) -> Vec<(Envelope, Became)> {
        let added = self.sessions.take_added();
        let mut done = Vec::new();
        for (envelope, tried) in std::mem::take(&mut self.kept) {
            match self.try_open(&envelope, Hints { added: &added, tried, ..Hints::NONE }, now_s, dice) {
                Became::Kept(tried) => self.kept.push((envelope, tried)),
                became => done.push((envelope, became)),
            }
        }
        done
    }

    /// As `Engine::try_open` does.
    pub(super) fn try_open(&mut self, envelope: &Envelope, hints: Hints<'_>, now_s: u64, dice: &mut Dice) -> Became {
        let tag: Tag = envelope::tag(envelope);
        let hash = ratchet::opening_hash(&tag, &envelope::ephemeral(envelope));
        let take = |author: &Identity, payload: &[u8]| Ok((author.fingerprint(), Text::parse(payload)));
        let opened = match self.prekeys.find(&tag, &hash) {
            Found::Repeated => return Became::Repeated,
            Found::Taken => return Became::Taken,
            Found::Prekey(prekey) => self
                .sessions
                .accept(&self.keys, prekey, envelope, now_s, dice, take)
                .map(|(taken, opened)| (taken, Some(opened))),
            Found::Nothing => {
                self.sessions.open(&self.keys, envelope, hints, now_s, dice, take).map(|taken| (taken, None))
            }
        };
        match opened {
            Ok(((author, text), opened)) => {
                if opened.is_some() {
                    self.prekeys.used(&tag, hash);
                }
                Became::Opened(author, text, opened)
            }
            Err(NotOpened::Refused(Refused::AlreadyUsed) | NotOpened::Repeated(_)) => Became::Repeated,
            Err(NotOpened::Damaged(_) | NotOpened::TooFar { .. }) => Became::Damaged,
            Err(NotOpened::NoSession(tried)) => Became::Kept(tried),
            Err(_) => Became::Kept(Tried::All),
        }
    }
}
