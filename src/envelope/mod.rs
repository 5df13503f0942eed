//! The envelope's layout: what is sealed under which key, and what the author's MAC covers (design, sections 4 and 5).
//!
//! ```text
//! 0      16      tag: finds the session, tells an observer nothing
//! 16     32      the opening's ephemeral key; 32 random bytes in a standing session
//! 48     24      random nonce of the header
//! 72     2,402   seal(header key, nonce, header)
//! 2,474  13,910  seal(message key, 0, MAC (16) || opening (72) || length (2, LE) || payload || zeros)
//! 16,384
//!
//! MAC = Poly1305(k, all behind the MAC), where
//! k   = HMAC-SHA-256(auth key, "chatterbox 1 message auth" || 0 || sender's signing and auth key
//!         || recipient's signing and auth key || recipient's ratchet auth key || bytes 0 to 2,473)
//! ```
//!
//! The message key serves once, so its nonce is zero. The MAC stands inside the box: only the recipient sees it, and
//! it convinces nobody else, who could have made it too. Its key serves once, for the header's nonce and random bytes are in
//! what it is derived from.

use std::fmt;

use rand_core::CryptoRngCore;
use thiserror::Error;

use crate::crypto::dh::PublicKey;
use crate::crypto::kdf::hmac;
use crate::crypto::sealing::{OneTimeMac, SealKey};
use crate::crypto::secret::{Secret, SecretBytes};
use crate::crypto::secretbox::{NonceBytes, ZERO_NONCE};
use crate::limits::{BOX_OVERHEAD_BYTES, ENVELOPE_BYTES};
use crate::wire::envelope::Envelope;
use crate::wire::header::{HEADER_BYTES, Header, OPENING_BYTES, Opening};
use crate::wire::sealing::{AuthKey, Sealing, Tag};

const OPENING_AT: usize = 16;
const NONCE_AT: usize = 48;
const HEADER_AT: usize = 72;
const BODY_AT: usize = HEADER_AT + HEADER_BYTES + BOX_OVERHEAD_BYTES;
const MAC_BYTES: usize = OneTimeMac::BYTES;
/// Inside the body's box: where the length of the payload stands.
const LENGTH_AT: usize = MAC_BYTES + OPENING_BYTES;
const PAYLOAD_AT: usize = LENGTH_AT + 2;
const OPENED_BYTES: usize = ENVELOPE_BYTES - BODY_AT - BOX_OVERHEAD_BYTES;
const MAC_LABEL: &[u8] = b"chatterbox 1 message auth\0";

/// The longest payload that fits: 13,804 bytes.
pub const PAYLOAD_BYTES_MAX: usize = OPENED_BYTES - PAYLOAD_AT;

/// The payload is longer than [`PAYLOAD_BYTES_MAX`].
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("the payload has {0} bytes; an envelope holds {PAYLOAD_BYTES_MAX}")]
pub struct TooLong(usize);

/// Why a body was not believed. All of them mean: not a message of this sender in this session.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum BodyError {
    /// The box did not open.
    #[error("the body does not open")]
    Forged,
    /// The box opened, but its author is not who the session is with.
    #[error("the author did not prove who they are")]
    NotTheAuthor,
    /// The author was right and the padding wrong.
    #[error("the padding is not as it must be")]
    Padding,
}

/// Seals `payload`.
///
/// # Errors
/// [`TooLong`].
pub fn seal(sealing: Sealing, payload: &[u8], rng: &mut impl CryptoRngCore) -> Result<Envelope, TooLong> {
    let mut bytes = Vec::with_capacity(ENVELOPE_BYTES);
    let mut body = body(sealing.opening.as_ref(), payload)?;
    // What is random in one envelope comes in one piece: random numbers are a system call.
    let random = Secret::<{ HEADER_AT - OPENING_AT }>::random(rng);
    bytes.extend_from_slice(&sealing.tag);
    bytes.extend_from_slice(random.expose());
    if let Some(ephemeral) = sealing.ephemeral {
        bytes[OPENING_AT..NONCE_AT].copy_from_slice(&ephemeral.0);
    }
    let nonce = nonce(&bytes);
    sealing.header_key.seal(&nonce, &sealing.header.to_bytes(), &mut bytes);
    let mac = author_mac(&sealing.auth, &bytes, &body[MAC_BYTES..]);
    body[..MAC_BYTES].copy_from_slice(mac.as_bytes());
    sealing.message_key.seal(&ZERO_NONCE, &body, &mut bytes);
    Ok(Envelope::from_vec(bytes).expect("the parts of the layout add up to an envelope"))
}

fn nonce(bytes: &[u8]) -> NonceBytes {
    bytes[NONCE_AT..HEADER_AT].try_into().expect("the layout gives it 24 bytes")
}

/// What goes into the body's box, with zeros where the MAC goes.
fn body(opening: Option<&Opening>, payload: &[u8]) -> Result<SecretBytes, TooLong> {
    let length = u16::try_from(payload.len()).map_err(|_| TooLong(payload.len()))?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(TooLong(payload.len()));
    }
    let mut body = SecretBytes::zeros(OPENED_BYTES);
    if let Some(opening) = opening {
        body[MAC_BYTES..LENGTH_AT].copy_from_slice(&opening.to_bytes());
    }
    body[LENGTH_AT..PAYLOAD_AT].copy_from_slice(&length.to_le_bytes());
    body[PAYLOAD_AT..PAYLOAD_AT + payload.len()].copy_from_slice(payload);
    Ok(body)
}

/// The tag of an envelope.
pub fn tag(envelope: &Envelope) -> Tag {
    let mut tag = [0; OPENING_AT];
    tag.copy_from_slice(&envelope.as_bytes()[..OPENING_AT]);
    tag
}

/// The opening's ephemeral key; means something only in an opening.
pub fn ephemeral(envelope: &Envelope) -> PublicKey {
    PublicKey::from_slice(&envelope.as_bytes()[OPENING_AT..NONCE_AT]).expect("the layout gives it 32 bytes")
}

/// The header, if `key` opens it.
pub fn open_header(envelope: &Envelope, key: &SealKey) -> Option<Header> {
    let bytes = envelope.as_bytes();
    Header::from_bytes(&key.open(&nonce(bytes), &bytes[HEADER_AT..BODY_AT]).ok()?).ok()
}

/// A body whose box opened, and whose author is not proved yet.
pub struct Opened {
    bytes: SecretBytes,
}

impl fmt::Debug for Opened {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Opened(_)")
    }
}

/// Opens the body's box.
///
/// # Errors
/// [`BodyError::Forged`].
pub fn open_body(envelope: &Envelope, message_key: SealKey) -> Result<Opened, BodyError> {
    let body = &envelope.as_bytes()[BODY_AT..];
    let bytes = message_key.open(&ZERO_NONCE, body).map_err(|_| BodyError::Forged)?;
    Ok(Opened { bytes })
}

impl Opened {
    /// What an opening says; means something only in one, and is proved by [`Opened::payload`].
    pub fn opening(&self) -> Opening {
        let bytes = self.bytes[MAC_BYTES..LENGTH_AT].try_into();
        Opening::from_bytes(bytes.expect("the layout gives it 72 bytes"))
    }

    /// The payload, after author and padding were checked, in this order.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn payload(&self, envelope: &Envelope, auth: &AuthKey, opens: bool) -> Result<&[u8], BodyError> {
        let (mac, rest) = self.bytes.split_at(MAC_BYTES);
        let front = &envelope.as_bytes()[..BODY_AT];
        if !author_mac(auth, front, rest).is(mac) {
            return Err(BodyError::NotTheAuthor);
        }
        let (opening, padded) = rest.split_at(OPENING_BYTES);
        if !opens && opening.iter().any(|byte| *byte != 0) {
            return Err(BodyError::Padding);
        }
        unpad(padded).ok_or(BodyError::Padding)
    }
}

fn author_mac(auth: &AuthKey, front: &[u8], rest: &[u8]) -> OneTimeMac {
    let key = hmac(
        auth.key.expose(),
        &[MAC_LABEL, &auth.sender.to_bytes(), &auth.recipient.to_bytes(), &auth.recipient_auth.0, front],
    );
    OneTimeMac::of(key, rest)
}

fn unpad(padded: &[u8]) -> Option<&[u8]> {
    let (length, rest) = padded.split_at_checked(2)?;
    let (payload, padding) = rest.split_at_checked(usize::from(u16::from_le_bytes([length[0], length[1]])))?;
    padding.iter().all(|byte| *byte == 0).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::kem::{CIPHERTEXT_BYTES, Ciphertext, ENCAPSULATION_KEY_BYTES, EncapsulationKey};
    use crate::crypto::sign::VerifyingKey;
    use crate::wire::identity::Identity;
    use rand_core::OsRng;

    fn identity(byte: u8) -> Identity {
        Identity { signing: VerifyingKey([byte; 32]), auth: PublicKey([byte; 32]) }
    }

    fn auth() -> AuthKey {
        AuthKey {
            key: Secret::new([1; 32]),
            sender: identity(2),
            recipient: identity(3),
            recipient_auth: PublicKey([4; 32]),
        }
    }

    fn message_key() -> SealKey {
        SealKey::new(Secret::new([6; 32]))
    }

    fn sealing(opening: Option<Opening>) -> Sealing {
        Sealing {
            tag: [9; 16],
            ephemeral: None,
            header_key: SealKey::new(Secret::new([5; 32])),
            header: Header {
                opens: opening.is_some(),
                counter: 0,
                previous: 0,
                random: [7; 32],
                ratchet: PublicKey([8; 32]),
                auth: PublicKey([8; 32]),
                kem: EncapsulationKey::from_slice(&[8; ENCAPSULATION_KEY_BYTES]).unwrap(),
                ciphertext: Ciphertext::from_slice(&[8; CIPHERTEXT_BYTES]).unwrap(),
            },
            opening,
            message_key: message_key(),
            auth: auth(),
        }
    }

    fn opened(envelope: &Envelope, auth: &AuthKey, opens: bool) -> Result<Vec<u8>, BodyError> {
        open_body(envelope, message_key())?.payload(envelope, auth, opens).map(<[u8]>::to_vec)
    }

    #[test]
    fn every_payload_that_fits_comes_back() {
        let opening = Opening { generation: 5, identity: identity(2) };
        for (length, opening) in [(0, None), (1, Some(opening)), (1_000, None), (PAYLOAD_BYTES_MAX, Some(opening))] {
            let envelope = seal(sealing(opening), &vec![0xa5; length], &mut OsRng).unwrap();
            assert_eq!(tag(&envelope), [9; 16]);
            let header = open_header(&envelope, &sealing(opening).header_key);
            assert_eq!(header, Some(sealing(opening).header));
            assert_eq!(open_header(&envelope, &message_key()), None);
            assert_eq!(opened(&envelope, &auth(), opening.is_some()).unwrap(), vec![0xa5; length]);
            if let Some(opening) = opening {
                assert_eq!(open_body(&envelope, message_key()).unwrap().opening(), opening);
            }
        }
        assert_eq!(PAYLOAD_BYTES_MAX, 13_804);
        assert_eq!(seal(sealing(None), &vec![0; 13_805], &mut OsRng).unwrap_err(), TooLong(13_805));
        assert_eq!(seal(sealing(None), &vec![0; 70_000], &mut OsRng).unwrap_err(), TooLong(70_000));
    }

    #[test]
    fn the_author_must_fit_in_every_part() {
        let envelope = seal(sealing(None), b"payload", &mut OsRng).unwrap();
        for wrong in [
            AuthKey { key: Secret::new([9; 32]), ..auth() },
            AuthKey { sender: identity(9), ..auth() },
            AuthKey { recipient: identity(9), ..auth() },
            AuthKey { recipient_auth: PublicKey([9; 32]), ..auth() },
        ] {
            assert_eq!(opened(&envelope, &wrong, false).unwrap_err(), BodyError::NotTheAuthor);
        }
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let envelope = seal(sealing(None), b"payload", &mut OsRng).unwrap();
        for position in (0..2_600).chain([ENVELOPE_BYTES - 1]) {
            let mut bytes = envelope.as_bytes().to_vec();
            bytes[position] ^= 1;
            let changed = Envelope::from_vec(bytes).unwrap();
            let expected = if position < BODY_AT { BodyError::NotTheAuthor } else { BodyError::Forged };
            assert_eq!(opened(&changed, &auth(), false).unwrap_err(), expected);
        }
    }

    /// An author who holds all keys and fills the body differently.
    fn sealed_body(change: impl FnOnce(&mut [u8])) -> Result<Vec<u8>, BodyError> {
        let envelope = seal(sealing(None), b"payload", &mut OsRng).unwrap();
        let front = &envelope.as_bytes()[..BODY_AT];
        let mut body = body(None, b"payload").unwrap();
        change(&mut body);
        let mac = author_mac(&auth(), front, &body[MAC_BYTES..]);
        body[..MAC_BYTES].copy_from_slice(mac.as_bytes());
        let mut bytes = front.to_vec();
        message_key().seal(&ZERO_NONCE, &body, &mut bytes);
        opened(&Envelope::from_vec(bytes).unwrap(), &auth(), false)
    }

    #[test]
    fn dirty_padding_a_stray_opening_and_a_length_beyond_the_end_are_refused() {
        assert_eq!(sealed_body(|_| {}), Ok(b"payload".to_vec()));
        assert_eq!(sealed_body(|body| body[OPENED_BYTES - 1] = 1), Err(BodyError::Padding));
        assert_eq!(sealed_body(|body| body[PAYLOAD_AT + 7] = 1), Err(BodyError::Padding));
        assert_eq!(sealed_body(|body| body[MAC_BYTES] = 1), Err(BodyError::Padding));
        assert_eq!(sealed_body(|body| body[LENGTH_AT..PAYLOAD_AT].fill(0xff)), Err(BodyError::Padding));
    }
}
