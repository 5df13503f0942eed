//! The counter by which a restored backup is noticed (design, section 5, "Our own rollback"): the record of 256 bytes at
//! our home server, and what our own state knows of it (`keys/counter`).
//!
//! ```text
//! record    = nonce (24) || secretbox(key, nonce, plaintext)
//! plaintext = number (8, LE) || seconds since 1970 (8, LE) || zeros (200)
//! key       = HKDF(0, signing seed || auth secret || transport secret, LABEL("sealed counter") || account)
//! ```
//!
//! The server can withhold the record or hand out an older one. It can make none, and learns nothing from one but that
//! it was written.

use prost::Message as _;
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::generated::state as pb;
use super::state::AccountKeys;
use super::{Malformed, array, decode};
use crate::crypto::dh::PublicKey;
use crate::crypto::kdf::hkdf;
use crate::crypto::secretbox::{BoxKey, NonceBytes};
use crate::limits::{BOX_OVERHEAD_BYTES, SEALED_COUNTER_BYTES};

const LABEL: &[u8] = b"chatterbox 1 sealed counter\0";
const NONCE_BYTES: usize = 24;
const PLAINTEXT_BYTES: usize = SEALED_COUNTER_BYTES - NONCE_BYTES - BOX_OVERHEAD_BYTES;

/// What the record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterRecord {
    /// Only rises.
    pub number: u64,
    /// When it was sealed, seconds since 1970.
    pub time: u64,
}

impl CounterRecord {
    /// The record as the server keeps it, [`SEALED_COUNTER_BYTES`].
    pub fn seal(&self, keys: &AccountKeys, rng: &mut impl CryptoRngCore) -> Vec<u8> {
        let mut plaintext = [0; PLAINTEXT_BYTES];
        plaintext[..8].copy_from_slice(&self.number.to_le_bytes());
        plaintext[8..16].copy_from_slice(&self.time.to_le_bytes());
        let mut nonce: NonceBytes = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        [&nonce[..], &key(keys).seal(&nonce, &plaintext)].concat()
    }

    /// Opens what the server handed out.
    ///
    /// # Errors
    /// [`Malformed`] if it is no record of this account.
    pub fn open(keys: &AccountKeys, record: &[u8]) -> Result<Self, Malformed> {
        let what = "sealed counter";
        let (nonce, boxed) = record.split_first_chunk().ok_or(Malformed::new(what, "wrong length"))?;
        let plaintext = key(keys).open(nonce, boxed).map_err(|_| Malformed::new(what, "the box does not open"))?;
        let layout = plaintext.split_first_chunk().and_then(|(number, rest)| Some((number, rest.split_first_chunk()?)));
        let (number, (time, zeros)) = layout.ok_or(Malformed::new(what, "wrong length"))?;
        if zeros.len() != PLAINTEXT_BYTES - 16 || zeros.iter().any(|byte| *byte != 0) {
            return Err(Malformed::new(what, "the padding is not as it must be"));
        }
        Ok(Self { number: u64::from_le_bytes(*number), time: u64::from_le_bytes(*time) })
    }
}

/// All three secrets, so that whoever has one of them alone makes no record.
fn key(keys: &AccountKeys) -> BoxKey {
    let (signing, auth, transport) = (keys.signing.to_secret(), keys.auth.to_secret(), keys.transport.to_secret());
    let input = Zeroizing::new([*signing.expose(), *auth.expose(), *transport.expose()].concat());
    BoxKey::new(hkdf(&[0; 32], &input, &[LABEL, keys.account().as_bytes()]))
}

/// What was wrong with the server's record, and was said in an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// It has none, and had one.
    Missing,
    /// It has an older one than it had.
    Older,
    /// What it has does not open.
    Unreadable,
}

/// `keys/counter`: what our state knows of the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterState {
    /// The highest number that was written, or is being written; 0 if none was.
    pub number: u64,
    /// Whether the server has not answered that write.
    pub is_writing: bool,
    /// When that write began, seconds since 1970.
    pub written: u64,
    /// What was said of the server's record already.
    pub complaint: Option<Complaint>,
    /// From which place among what was sent on nobody knew whether this state is the newest.
    pub unchecked_from: Option<u64>,
    /// The server that the number was written to, by its transport key.
    pub server: Option<PublicKey>,
}

impl CounterState {
    /// Parses the file.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let state: pb::Counter = decode("counter", bytes)?;
        let complaint = match state.complaint() {
            pb::counter::Complaint::None => None,
            pb::counter::Complaint::Missing => Some(Complaint::Missing),
            pb::counter::Complaint::Older => Some(Complaint::Older),
            pb::counter::Complaint::Unreadable => Some(Complaint::Unreadable),
        };
        Ok(Self {
            number: state.number,
            is_writing: state.is_writing,
            written: state.written,
            complaint,
            unchecked_from: state.unchecked_from,
            server: match &state.server[..] {
                [] => None,
                key => Some(PublicKey(array("counter server", key)?)),
            },
        })
    }

    /// The serialized form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let complaint = match self.complaint {
            None => pb::counter::Complaint::None,
            Some(Complaint::Missing) => pb::counter::Complaint::Missing,
            Some(Complaint::Older) => pb::counter::Complaint::Older,
            Some(Complaint::Unreadable) => pb::counter::Complaint::Unreadable,
        };
        pb::Counter {
            number: self.number,
            is_writing: self.is_writing,
            written: self.written,
            complaint: complaint.into(),
            unchecked_from: self.unchecked_from,
            server: self.server.map_or_else(Vec::new, |key| key.0.to_vec()),
        }
        .encode_to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::dh::SecretKey;
    use crate::crypto::secret::Secret;
    use crate::crypto::sign::SigningKey;
    use rand_core::OsRng;

    fn keys(transport: u8) -> AccountKeys {
        AccountKeys {
            signing: SigningKey::from_secret(&Secret::new([1; 32])),
            auth: SecretKey::from_secret(&Secret::new([2; 32])),
            transport: SecretKey::from_secret(&Secret::new([transport; 32])),
        }
    }

    #[test]
    fn a_record_opens_for_its_account_alone_and_only_unchanged() {
        let counter = CounterRecord { number: 7, time: 1_790_000_000 };
        let record = counter.seal(&keys(3), &mut OsRng);
        assert_eq!(record.len(), SEALED_COUNTER_BYTES);
        assert_ne!(record, counter.seal(&keys(3), &mut OsRng), "the same number looks different each time");
        assert_eq!(CounterRecord::open(&keys(3), &record), Ok(counter));
        assert!(CounterRecord::open(&keys(4), &record).is_err());
        for place in 0..record.len() {
            let mut changed = record.clone();
            changed[place] ^= 1;
            assert!(CounterRecord::open(&keys(3), &changed).is_err(), "{place}");
        }
        for length in [0, 1, 24, 255] {
            assert!(CounterRecord::open(&keys(3), &record[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn the_state_comes_back_as_written() {
        let plain = CounterState { number: 1, ..CounterState::default() };
        let complaints = [Complaint::Missing, Complaint::Older, Complaint::Unreadable];
        let mut states = complaints.map(|complaint| CounterState { complaint: Some(complaint), ..plain }).to_vec();
        states.push(CounterState { is_writing: true, written: 9, ..plain });
        states.push(CounterState { unchecked_from: Some(0), ..CounterState::default() });
        for state in states {
            assert_eq!(CounterState::from_bytes(&state.to_bytes()), Ok(state));
        }
    }
}
