//! Our prekeys: the secrets behind what our server hands out (design, section 5).

use std::collections::HashMap;
use std::path::Path;

use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::state::{self, StateError};
use crate::disk::open::OpenError;
use crate::disk::system::Disk;
use crate::limits::{
    LAST_RESORT_LIFETIME_S, LAST_RESORT_ROTATE_S, PREKEY_LIFETIME_S, PREKEY_SECRETS_MAX, PREKEYS_REFILL_BELOW,
    PREKEYS_TARGET,
};
use crate::wire::prekey::{PrekeyKind, SignedPrekey};
use crate::wire::reply::PrekeyCount;
use crate::wire::sealing::Tag;
use crate::wire::state::{AccountKeys, PrekeySecret, prekeys_from_bytes, prekeys_to_bytes};

/// How long after its expiry a prekey still opens: a sender who took it in its last hour, and an envelope that waited
/// at the server meanwhile.
const GRACE_S: u64 = 14 * 86_400;

/// All prekeys whose secrets we hold, by the tag of their openings.
#[derive(Debug, Default)]
pub struct Prekeys {
    secrets: HashMap<Tag, PrekeySecret>,
    dirty: bool,
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
        let secrets = prekeys_from_bytes(&bytes).map_err(|error| StateError::malformed(path, error))?;
        let secrets = secrets.into_iter().map(|secret| (secret.prekey.tag(), secret)).collect();
        Ok(Self { secrets, dirty: false })
    }

    /// The file's new content, if it changed since this was last asked.
    pub fn take_dirty(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        std::mem::take(&mut self.dirty).then(|| prekeys_to_bytes(self.secrets.values()))
    }

    /// The prekey that an opening's tag names.
    pub fn by_tag(&self, tag: &Tag) -> Option<&PrekeySecret> {
        self.secrets.get(tag)
    }

    /// Forgets a one-time prekey that served; a last-resort prekey stays until it expires.
    pub fn used(&mut self, tag: &Tag) {
        if self.secrets.get(tag).is_some_and(|secret| secret.prekey.kind == PrekeyKind::OneTime) {
            self.secrets.remove(tag);
            self.dirty = true;
        }
    }

    /// Erases all secrets: they were lost, or are known to be old.
    pub fn erase_all(&mut self) {
        self.secrets.clear();
        self.dirty = true;
    }

    /// Given what the server holds, makes the prekeys that it lacks. They must be on disk before they are uploaded.
    pub fn refill(
        &mut self,
        ours: &AccountKeys,
        at_server: PrekeyCount,
        now_s: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Vec<SignedPrekey> {
        self.forget_expired(now_s);
        let mut made = Vec::new();
        let held = usize::try_from(at_server.one_time).unwrap_or(usize::MAX);
        if held < PREKEYS_REFILL_BELOW {
            let room = PREKEY_SECRETS_MAX.saturating_sub(self.secrets.len());
            let missing = (PREKEYS_TARGET - held).min(room);
            let expires = now_s + PREKEY_LIFETIME_S;
            made.extend((0..missing).map(|_| self.make(ours, PrekeyKind::OneTime, expires, rng)));
        }
        let fresh_until = now_s + LAST_RESORT_LIFETIME_S - LAST_RESORT_ROTATE_S;
        if at_server.last_resort_expires.is_none_or(|expires| expires < fresh_until) {
            // A server that says again and again that it has none gets the same one again.
            let held = self.secrets.values().map(|secret| &secret.prekey);
            let fresh = held.filter(|prekey| prekey.kind == PrekeyKind::LastResort && prekey.expires >= fresh_until);
            match fresh.max_by_key(|prekey| prekey.expires).cloned() {
                Some(prekey) => made.push(prekey),
                None => made.push(self.make(ours, PrekeyKind::LastResort, now_s + LAST_RESORT_LIFETIME_S, rng)),
            }
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

    fn forget_expired(&mut self, now_s: u64) {
        let before = self.secrets.len();
        self.secrets.retain(|_, secret| secret.prekey.expires.saturating_add(GRACE_S) > now_s);
        self.dirty |= self.secrets.len() != before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::dh::SecretKey;
    use crate::crypto::sign::SigningKey;
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
    fn somebody_who_empties_the_pool_again_and_again_meets_a_bound() {
        let (ours, mut prekeys) = (ours(), Prekeys::default());
        for _ in 0..PREKEY_SECRETS_MAX {
            if prekeys
                .refill(&ours, PrekeyCount { one_time: 0, last_resort_expires: Some(u64::MAX) }, 1, &mut OsRng)
                .is_empty()
            {
                break;
            }
        }
        assert_eq!(prekeys.secrets.len(), PREKEY_SECRETS_MAX);
        let later = 1 + PREKEY_LIFETIME_S + GRACE_S;
        let made =
            prekeys.refill(&ours, PrekeyCount { one_time: 0, last_resort_expires: Some(u64::MAX) }, later, &mut OsRng);
        assert_eq!(made.len(), PREKEYS_TARGET);
    }

    #[test]
    fn a_used_prekey_is_gone_from_the_file() {
        let (ours, mut prekeys) = (ours(), Prekeys::default());
        let made = prekeys.refill(&ours, PrekeyCount::default(), 1_000, &mut OsRng);
        prekeys.take_dirty().unwrap();
        assert!(prekeys.take_dirty().is_none());
        let tag = made[0].tag();
        assert!(prekeys.by_tag(&tag).is_some());
        prekeys.used(&tag);
        assert!(prekeys.by_tag(&tag).is_none());
        let stored = prekeys_from_bytes(&prekeys.take_dirty().unwrap()).unwrap();
        assert_eq!(stored.len(), PREKEYS_TARGET);
        let last_resort = made.last().unwrap().tag();
        prekeys.used(&last_resort);
        assert!(prekeys.by_tag(&last_resort).is_some(), "it serves again");
    }
}
