//! The layout on disk: column families, keys and records. Integers in keys are big-endian, so that they sort; integers
//! in values are little-endian.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `accounts` | account (32) | [`AccountRecord`] |
//! | `prekeys` | account, 1, position (8) | a one-time prekey, serialized |
//! | `prekeys` | account, 2 | the last-resort prekey, serialized |
//! | `envelopes` | account, id (8) | the envelope |
//! | `listing` | account, id (8) | SHA-256 of the envelope: lists and deletes need not read 16 KiB |
//! | `copies` | account, SHA-256 (32) | id (8): there as long as the envelope is |
//! | `counters` | account | the sealed counter record |
//! | `meta` | `format` | [`FORMAT`] (8) |
//! | `meta` | `accounts` | how many there are (8) |

use crate::wire::identity::AccountId;

/// The layout's version.
pub(super) const FORMAT: u64 = 1;

/// Keys of `meta`.
pub(super) const META_FORMAT: &[u8] = b"format";
pub(super) const META_ACCOUNTS: &[u8] = b"accounts";

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Table {
    Accounts,
    Prekeys,
    Envelopes,
    Listing,
    Copies,
    Counters,
    Meta,
}

impl Table {
    pub(super) const ALL: [Self; 7] =
        [Self::Accounts, Self::Prekeys, Self::Envelopes, Self::Listing, Self::Copies, Self::Counters, Self::Meta];

    /// Those whose keys start with an account.
    pub(super) const OF_ACCOUNTS: [Self; 6] =
        [Self::Accounts, Self::Prekeys, Self::Envelopes, Self::Listing, Self::Copies, Self::Counters];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Prekeys => "prekeys",
            Self::Envelopes => "envelopes",
            Self::Listing => "listing",
            Self::Copies => "copies",
            Self::Counters => "counters",
            Self::Meta => "meta",
        }
    }
}

/// What changes with every delivery and every prekey of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AccountRecord {
    /// The highest envelope id given so far; stays when envelopes are deleted, so that ids never come back.
    pub(super) last_id: u64,
    /// Envelopes in the mailbox.
    pub(super) envelopes: u64,
    /// Position of the oldest one-time prekey.
    pub(super) prekeys_start: u64,
    /// Position after the newest one. All positions between the two are taken.
    pub(super) prekeys_end: u64,
}

impl AccountRecord {
    /// The four fields, 8 bytes each.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        [self.last_id, self.envelopes, self.prekeys_start, self.prekeys_end].map(u64::to_le_bytes).concat()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (fields, rest) = bytes.as_chunks::<8>();
        match (fields, rest) {
            ([last_id, envelopes, start, end], []) => Some(Self {
                last_id: u64::from_le_bytes(*last_id),
                envelopes: u64::from_le_bytes(*envelopes),
                prekeys_start: u64::from_le_bytes(*start),
                prekeys_end: u64::from_le_bytes(*end),
            }),
            _ => None,
        }
    }

    /// One-time prekeys in the pool, expired ones included.
    pub(super) fn prekeys(&self) -> u64 {
        self.prekeys_end.saturating_sub(self.prekeys_start)
    }
}

/// The key of an account's own record.
pub(super) fn account(account: &AccountId) -> Vec<u8> {
    account.as_bytes().to_vec()
}

/// The key of an envelope, and of its line in the listing.
pub(super) fn envelope(account: &AccountId, id: u64) -> Vec<u8> {
    [&account.as_bytes()[..], &id.to_be_bytes()].concat()
}

/// The id in a key made by [`envelope`].
pub(super) fn envelope_id(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(32..)?.try_into().ok()?))
}

/// The key under which an envelope's id is found by its hash.
pub(super) fn copy(account: &AccountId, sha256: &[u8]) -> Vec<u8> {
    [&account.as_bytes()[..], sha256].concat()
}

/// The key of the one-time prekey at `position`.
pub(super) fn one_time(account: &AccountId, position: u64) -> Vec<u8> {
    [&account.as_bytes()[..], &[1], &position.to_be_bytes()].concat()
}

/// The key of the last-resort prekey.
pub(super) fn last_resort(account: &AccountId) -> Vec<u8> {
    [&account.as_bytes()[..], &[2]].concat()
}

/// Above every key of this account in every table, and below those of the next: no key has 33 bytes after the account.
pub(super) fn end(account: &AccountId) -> Vec<u8> {
    [&account.as_bytes()[..], &[0xff; 33]].concat()
}

/// A number as it stands in a value.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::dh::PublicKey;

    #[test]
    fn records_come_back_as_written_and_damaged_ones_do_not() {
        let record = AccountRecord { last_id: 1, envelopes: 2, prekeys_start: 3, prekeys_end: u64::MAX };
        assert_eq!(AccountRecord::from_bytes(&record.to_bytes()), Some(record));
        assert_eq!(AccountRecord::from_bytes(&record.to_bytes()[1..]), None);
        assert_eq!(AccountRecord::from_bytes(&[0; 33]), None);
    }

    #[test]
    fn the_end_of_an_account_is_above_all_its_keys_and_below_the_next() {
        let ours = AccountId(PublicKey([0xff; 32]));
        for key in [account(&ours), envelope(&ours, u64::MAX), copy(&ours, &[0xff; 32]), one_time(&ours, u64::MAX)] {
            assert!(key < end(&ours));
        }
        let mut next = [7; 32];
        next[31] = 8;
        assert!(end(&AccountId(PublicKey([7; 32]))) < account(&AccountId(PublicKey(next))));
        assert_eq!(envelope_id(&envelope(&ours, 77)), Some(77));
    }
}
