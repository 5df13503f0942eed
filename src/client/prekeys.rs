//! Our prekeys: the secrets behind what our server hands out (design, section 5).

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::state::{self, StateError};
use crate::disk::open::OpenError;
use crate::disk::system::Disk;
use crate::limits::{
    LAST_RESORT_GRACE_S, LAST_RESORT_LIFETIME_S, LAST_RESORT_OPENINGS_MAX, LAST_RESORT_ROTATE_S, PREKEY_GRACE_S,
    PREKEY_LIFETIME_S, PREKEY_SECRETS_MAX, PREKEYS_REFILL_BELOW, PREKEYS_TARGET, USED_PREKEYS_MAX,
};
use crate::wire::prekey::{PrekeyKind, SignedPrekey};
use crate::wire::reply::PrekeyCount;
use crate::wire::sealing::Tag;
use crate::wire::served::{LastResort, OpeningHash, Served, Used};
use crate::wire::state::{AccountKeys, PrekeySecret, prekeys_from_bytes, prekeys_to_bytes};

/// All prekeys whose secrets we hold, by the tag of their openings, and which openings prekeys have served.
#[derive(Debug, Default)]
pub struct Prekeys {
    secrets: HashMap<Tag, PrekeySecret>,
    /// One-time prekeys that served.
    used: HashMap<Tag, Used>,
    /// The last-resort prekeys among the secrets that served, or whose pool was low.
    last_resort: HashMap<Tag, Resort>,
    dirty: bool,
    /// What was made last is to take the place of all that the server holds.
    replaces: bool,
    /// That was so already in this run: a server that lies about its number does not make us go on with it.
    has_replaced: bool,
}

/// What a last-resort prekey has served, and whether it had to.
#[derive(Debug, Default)]
struct Resort {
    openings: HashSet<OpeningHash>,
    was_low: bool,
    is_doubted: bool,
}

/// What an envelope's tag and its opening hash say about it.
#[derive(Debug)]
pub enum Found<'a> {
    /// No prekey of ours has this tag.
    Nothing,
    /// A prekey that may serve it.
    Prekey(&'a PrekeySecret),
    /// This very opening was served before.
    Repeated,
    /// The prekey has served another opening, and it serves one only.
    Taken,
}

impl Prekeys {
    /// Reads `keys/prekeys`; a root without the file has none yet.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(disk: &dyn Disk, path: &Path) -> Result<Self, StateError> {
        let bytes = match state::read(disk, path) {
            Err(StateError::Open { source: OpenError::Absent, .. }) => return Ok(Self::default()),
            result => result?,
        };
        let (secrets, served) = prekeys_from_bytes(&bytes).map_err(|error| StateError::malformed(path, error))?;
        let resort = |served: LastResort| {
            let openings = served.openings.into_iter().collect();
            (served.tag, Resort { openings, was_low: served.was_low, is_doubted: served.is_doubted })
        };
        Ok(Self {
            secrets: secrets.into_iter().map(|secret| (secret.prekey.tag(), secret)).collect(),
            used: served.one_time.into_iter().map(|used| (used.tag, used)).collect(),
            last_resort: served.last_resort.into_iter().map(resort).collect(),
            dirty: false,
            replaces: false,
            has_replaced: false,
        })
    }

    /// The file's new content, if it changed since this was last asked.
    pub fn take_dirty(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        std::mem::take(&mut self.dirty).then(|| {
            let resort = |(tag, resort): (&Tag, &Resort)| LastResort {
                tag: *tag,
                openings: resort.openings.iter().copied().collect(),
                was_low: resort.was_low,
                is_doubted: resort.is_doubted,
            };
            let served = Served {
                one_time: self.used.values().copied().collect(),
                last_resort: self.last_resort.iter().map(resort).collect(),
            };
            prekeys_to_bytes(self.secrets.values(), &served)
        })
    }

    /// What an envelope's tag names, if the envelope is an opening.
    pub fn find(&self, tag: &Tag, opening: &OpeningHash) -> Found<'_> {
        let seen = self.last_resort.get(tag).is_some_and(|resort| resort.openings.contains(opening));
        match (self.secrets.get(tag), self.used.get(tag)) {
            (Some(_), _) if seen => Found::Repeated,
            (Some(secret), _) => Found::Prekey(secret),
            (None, Some(used)) if used.opening == *opening => Found::Repeated,
            (None, Some(_)) => Found::Taken,
            (None, None) => Found::Nothing,
        }
    }

    /// Erases all secrets: they were lost, or are known to be old.
    pub fn erase_all(&mut self) {
        self.secrets.clear();
        self.used.clear();
        self.last_resort.clear();
        self.dirty = true;
    }

    /// A prekey has served an opening: the secret of a one-time prekey is forgotten, one of last resort stays until it is
    /// too old or has served too often. True if our server is to be asked what it holds.
    pub fn used(&mut self, tag: &Tag, opening: OpeningHash) -> bool {
        let Some(secret) = self.secrets.get(tag) else { return false };
        let (kind, expires) = (secret.prekey.kind, secret.prekey.expires);
        self.dirty = true;
        if kind == PrekeyKind::OneTime {
            self.secrets.remove(tag);
            self.used.insert(*tag, Used { tag: *tag, opening, until: expires.saturating_add(PREKEY_GRACE_S) });
            if self.used.len() > USED_PREKEYS_MAX
                && let Some(oldest) = self.used.values().min_by_key(|used| used.until).map(|used| used.tag)
            {
                self.used.remove(&oldest);
            }
            return false;
        }
        let resort = self.last_resort.entry(*tag).or_default();
        resort.openings.insert(opening);
        resort.is_doubted |= !resort.was_low;
        if resort.openings.len() >= LAST_RESORT_OPENINGS_MAX {
            // Its doubt goes with it: who hands it out so often has been asked before.
            self.secrets.remove(tag);
            self.last_resort.remove(tag);
            return true;
        }
        resort.is_doubted
    }

    /// Our server says what it holds. A pool below the mark may run out before we have filled it, unseen by us; until the
    /// server has said so, a last-resort prekey is not to be handed out. `is_answer` is false where the count may be older
    /// than the openings that we know of. True if a last-resort prekey served for no reason.
    ///
    /// An honest server's pool that ran out stays empty until we fill it, which we do only after such a count: so either
    /// the count before the filling excuses the prekey, or the one that is asked for when it has served.
    pub fn counted(&mut self, at_server: PrekeyCount, is_answer: bool) -> bool {
        let is_low = usize::try_from(at_server.one_time).unwrap_or(usize::MAX) < PREKEYS_REFILL_BELOW;
        let last_resort = self.secrets.values().filter(|secret| secret.prekey.kind == PrekeyKind::LastResort);
        for tag in last_resort.map(|secret| secret.prekey.tag()).collect::<Vec<_>>() {
            let resort = self.last_resort.entry(tag).or_default();
            if is_low && (!resort.was_low || resort.is_doubted) {
                (resort.was_low, resort.is_doubted) = (true, false);
                self.dirty = true;
            }
        }
        if !is_answer {
            return false;
        }
        let mut was_needless = false;
        for resort in self.last_resort.values_mut().filter(|resort| resort.is_doubted) {
            resort.is_doubted = false;
            self.dirty = true;
            was_needless = true;
        }
        was_needless
    }

    /// Whether what was made last is to take the place of all that the server holds.
    pub fn take_replaces(&mut self) -> bool {
        std::mem::take(&mut self.replaces)
    }

    /// Given what the server holds, makes the prekeys that it lacks. They must be on disk before they are uploaded. If it
    /// holds more than we have secrets of (`keys/prekeys` was lost alone, or a clock was years ahead), all are made anew.
    pub fn refill(
        &mut self,
        ours: &AccountKeys,
        at_server: PrekeyCount,
        now_s: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Vec<SignedPrekey> {
        let mut made = Vec::new();
        let ours_one_time = self.secrets.values().filter(|secret| secret.prekey.kind == PrekeyKind::OneTime).count();
        let is_more = usize::try_from(at_server.one_time).unwrap_or(usize::MAX) > ours_one_time;
        self.replaces = is_more && !self.has_replaced;
        self.has_replaced |= self.replaces;
        let at_server = if self.replaces { PrekeyCount::default() } else { at_server };
        let held = usize::try_from(at_server.one_time).unwrap_or(usize::MAX);
        if held < PREKEYS_REFILL_BELOW {
            let room = PREKEY_SECRETS_MAX.saturating_sub(self.secrets.len());
            let missing = (PREKEYS_TARGET - held).min(room);
            let expires = now_s + PREKEY_LIFETIME_S;
            made.extend((0..missing).map(|_| self.make(ours, PrekeyKind::OneTime, expires, rng)));
        }
        let fresh_until = now_s + LAST_RESORT_LIFETIME_S - LAST_RESORT_ROTATE_S;
        // A server that says again and again that it has none gets the same one again. One that has one whose secret is
        // gone gets another.
        let held = self.secrets.values().map(|secret| &secret.prekey);
        let fresh = held.filter(|prekey| prekey.kind == PrekeyKind::LastResort && prekey.expires >= fresh_until);
        match fresh.max_by_key(|prekey| prekey.expires).cloned() {
            Some(prekey) if at_server.last_resort_expires >= Some(prekey.expires) => {}
            Some(prekey) => made.push(prekey),
            None => made.push(self.make(ours, PrekeyKind::LastResort, now_s + LAST_RESORT_LIFETIME_S, rng)),
        }
        made
    }

    fn make(
        &mut self,
        ours: &AccountKeys,
        kind: PrekeyKind,
        expires: u64,
        rng: &mut impl CryptoRngCore,
    ) -> SignedPrekey {
        let secret = PrekeySecret::random(kind, expires, ours, rng);
        let prekey = secret.prekey.clone();
        self.secrets.insert(prekey.tag(), secret);
        self.dirty = true;
        prekey
    }

    /// Forgets the secrets of prekeys that are too old, and what they served. To be called once all that waited in the
    /// mailbox has been seen.
    pub fn forget_expired(&mut self, now_s: u64) {
        let before = self.secrets.len() + self.used.len();
        self.secrets.retain(|_, secret| {
            let grace = match secret.prekey.kind {
                PrekeyKind::OneTime => PREKEY_GRACE_S,
                PrekeyKind::LastResort => LAST_RESORT_GRACE_S,
            };
            secret.prekey.expires.saturating_add(grace) > now_s
        });
        self.used.retain(|_, used| used.until > now_s);
        let secrets = &self.secrets;
        self.last_resort.retain(|tag, _| secrets.contains_key(tag));
        self.dirty |= self.secrets.len() + self.used.len() != before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::dh::SecretKey;
    use crate::crypto::sign::SigningKey;
    use crate::disk::real::RealDisk;
    use rand_core::OsRng;

    fn ours() -> AccountKeys {
        AccountKeys {
            signing: SigningKey::random(&mut OsRng),
            auth: SecretKey::random(&mut OsRng),
            transport: SecretKey::random(&mut OsRng),
        }
    }

    #[test]
    fn the_pool_is_refilled_below_fifty_and_the_last_resort_rotated_halfway() {
        let (ours, mut prekeys) = (ours(), Prekeys::default());
        let made = prekeys.refill(&ours, PrekeyCount::default(), 1_000, &mut OsRng);
        assert_eq!(made.len(), PREKEYS_TARGET + 1);
        assert!(made.iter().all(|prekey| prekey.verify(&ours.identity()).is_ok()));
        let fresh = Some(1_000 + LAST_RESORT_LIFETIME_S);
        let count = |one_time, last_resort_expires| PrekeyCount { one_time, last_resort_expires };
        assert!(prekeys.refill(&ours, count(50, fresh), 1_000, &mut OsRng).is_empty());
        assert_eq!(prekeys.refill(&ours, count(49, fresh), 1_000, &mut OsRng).len(), 51);
        let later = 1_001 + LAST_RESORT_ROTATE_S;
        let rotated = prekeys.refill(&ours, count(100, fresh), later, &mut OsRng);
        assert_eq!(rotated.iter().map(|prekey| prekey.kind).collect::<Vec<_>>(), [PrekeyKind::LastResort]);
    }

    #[test]
    fn prekeys_at_the_server_whose_secrets_are_gone_are_replaced_once() {
        let (ours, mut prekeys) = (ours(), Prekeys::default());
        let claimed = PrekeyCount { one_time: 100, last_resort_expires: Some(u64::MAX) };
        assert_eq!(prekeys.refill(&ours, claimed, 1_000, &mut OsRng).len(), PREKEYS_TARGET + 1);
        assert!(prekeys.take_replaces());
        assert!(prekeys.refill(&ours, claimed, 1_000, &mut OsRng).is_empty(), "now they are ours");
        let more = PrekeyCount { one_time: 101, ..claimed };
        assert!(prekeys.refill(&ours, more, 1_000, &mut OsRng).is_empty());
        assert!(!prekeys.take_replaces(), "who lies about the number does not make us go on");
    }

    #[test]
    fn somebody_who_empties_the_pool_again_and_again_meets_a_bound() {
        let (ours, mut prekeys) = (ours(), Prekeys::default());
        let empty = |now_s: u64| PrekeyCount { one_time: 0, last_resort_expires: Some(now_s + LAST_RESORT_LIFETIME_S) };
        for _ in 0..PREKEY_SECRETS_MAX {
            if prekeys.refill(&ours, empty(1), 1, &mut OsRng).is_empty() {
                break;
            }
        }
        assert_eq!(prekeys.secrets.len(), PREKEY_SECRETS_MAX);
        let later = 1 + PREKEY_LIFETIME_S + PREKEY_GRACE_S;
        prekeys.forget_expired(later);
        assert_eq!(prekeys.refill(&ours, empty(later), later, &mut OsRng).len(), PREKEYS_TARGET + 1);
    }

    #[test]
    fn a_used_prekey_is_gone_from_the_file() {
        let (ours, mut prekeys) = (ours(), Prekeys::default());
        let made = prekeys.refill(&ours, PrekeyCount::default(), 1_000, &mut OsRng);
        prekeys.take_dirty().unwrap();
        assert!(prekeys.take_dirty().is_none());
        let tag = made[0].tag();
        assert!(matches!(prekeys.find(&tag, &[1; 32]), Found::Prekey(_)));
        prekeys.used(&tag, [1; 32]);
        let (stored, served) = prekeys_from_bytes(&prekeys.take_dirty().unwrap()).unwrap();
        assert_eq!(stored.len(), PREKEYS_TARGET);
        assert!(stored.iter().all(|secret| secret.prekey.tag() != tag));
        assert_eq!(served.one_time.len(), 1);
    }

    fn count(one_time: usize) -> PrekeyCount {
        PrekeyCount { one_time: u32::try_from(one_time).unwrap(), last_resort_expires: None }
    }

    /// As the next run finds it.
    fn reloaded(prekeys: &mut Prekeys) -> Prekeys {
        let (disk, path) = (RealDisk, tempfile::NamedTempFile::new().unwrap());
        prekeys.dirty = true;
        std::fs::write(path.path(), prekeys.take_dirty().unwrap()).unwrap();
        Prekeys::load(&disk, path.path()).unwrap()
    }

    #[test]
    fn a_second_opening_on_a_used_prekey_is_known_from_a_repeated_one() {
        let (ours, mut prekeys) = (ours(), Prekeys::default());
        let made = prekeys.refill(&ours, PrekeyCount::default(), 1_000, &mut OsRng);
        let tag = made[0].tag();
        prekeys.used(&tag, [1; 32]);
        let mut prekeys = reloaded(&mut prekeys);
        assert!(matches!(prekeys.find(&tag, &[1; 32]), Found::Repeated));
        assert!(matches!(prekeys.find(&tag, &[2; 32]), Found::Taken));
        prekeys.forget_expired(made[0].expires + PREKEY_GRACE_S - 1);
        assert!(matches!(prekeys.find(&tag, &[2; 32]), Found::Taken));
        prekeys.forget_expired(made[0].expires + PREKEY_GRACE_S);
        assert!(matches!(prekeys.find(&tag, &[2; 32]), Found::Nothing));
    }

    #[test]
    fn a_last_resort_prekey_serves_each_opening_once_for_fourteen_days() {
        let (ours, mut prekeys) = (ours(), Prekeys::default());
        let tag = prekeys.refill(&ours, PrekeyCount::default(), 1_000, &mut OsRng).last().unwrap().tag();
        prekeys.used(&tag, [1; 32]);
        let mut prekeys = reloaded(&mut prekeys);
        assert!(matches!(prekeys.find(&tag, &[1; 32]), Found::Repeated));
        assert!(matches!(prekeys.find(&tag, &[2; 32]), Found::Prekey(_)));
        prekeys.forget_expired(1_000 + 14 * 86_400 - 1);
        assert!(matches!(prekeys.find(&tag, &[2; 32]), Found::Prekey(_)));
        prekeys.forget_expired(1_000 + 14 * 86_400);
        assert!(matches!(prekeys.find(&tag, &[2; 32]), Found::Nothing));
    }

    #[test]
    fn a_last_resort_prekey_that_served_too_often_is_replaced_at_once() {
        let (ours, mut prekeys) = (ours(), Prekeys::default());
        let made = prekeys.refill(&ours, PrekeyCount::default(), 1_000, &mut OsRng);
        let old = made.last().unwrap();
        prekeys.counted(count(0), false);
        for number in 1..=LAST_RESORT_OPENINGS_MAX {
            let mut opening = [0; 32];
            opening[..8].copy_from_slice(&number.to_le_bytes());
            assert_eq!(prekeys.used(&old.tag(), opening), number == LAST_RESORT_OPENINGS_MAX);
        }
        assert!(matches!(prekeys.find(&old.tag(), &[9; 32]), Found::Nothing), "its secret is gone");
        let held = PrekeyCount { last_resort_expires: Some(old.expires), ..count(PREKEYS_TARGET) };
        let replaced = prekeys.refill(&ours, held, 1_001, &mut OsRng);
        assert_eq!(replaced.iter().map(|prekey| prekey.kind).collect::<Vec<_>>(), [PrekeyKind::LastResort]);
        assert!(replaced[0].tag() != old.tag());
    }

    #[test]
    fn a_last_resort_prekey_that_a_full_pool_did_not_need_is_told() {
        let (ours, mut prekeys) = (ours(), Prekeys::default());
        prekeys.counted(count(0), true);
        let tag = prekeys.refill(&ours, PrekeyCount::default(), 1_000, &mut OsRng).last().unwrap().tag();
        assert!(!prekeys.counted(count(PREKEYS_TARGET), true), "it has not served");
        assert!(prekeys.used(&tag, [1; 32]), "the server is to be asked");
        let mut prekeys = reloaded(&mut prekeys);
        assert!(!prekeys.counted(count(PREKEYS_TARGET), false), "this count may be of before");
        assert!(prekeys.counted(count(PREKEYS_TARGET), true));
        assert!(!prekeys.counted(count(PREKEYS_TARGET), true), "once is enough");
    }

    #[test]
    fn a_last_resort_prekey_of_an_emptied_pool_is_no_matter_whatever_we_heard_and_when() {
        let made = || {
            let (ours, mut prekeys) = (ours(), Prekeys::default());
            prekeys.counted(count(0), true);
            let tag = prekeys.refill(&ours, PrekeyCount::default(), 1_000, &mut OsRng).last().unwrap().tag();
            (prekeys, tag)
        };
        // The opening comes before any word of the pool, which is still empty when the server is asked.
        let (mut prekeys, tag) = made();
        assert!(prekeys.used(&tag, [1; 32]));
        assert!(!prekeys.counted(count(0), true) && !prekeys.counted(count(PREKEYS_TARGET), true));
        // The pool was low, was filled, and then the opening comes, in another run.
        let (mut prekeys, tag) = made();
        prekeys.counted(count(3), false);
        let mut prekeys = reloaded(&mut prekeys);
        prekeys.counted(count(PREKEYS_TARGET), true);
        assert!(!prekeys.used(&tag, [1; 32]) && !prekeys.counted(count(PREKEYS_TARGET), true));
    }
}
