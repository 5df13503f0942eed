//! The envelope's layout: what is sealed under which key, and what the author's MAC covers (design, sections 4 and 5).
//!
//! ```text
//! 0      16      tag: finds the session, tells an observer nothing
//! 16     32      the opening's ephemeral key; 32 random bytes in a standing session
//! 48     24      random nonce of the header
//! 72     202     secretbox(header key, nonce, header)
//! 274    16,110  secretbox(message key, 0, MAC || length (2, LE) || payload || zeros)
//! 16,384
//!
//! MAC = HMAC-SHA-256(auth key, "chatterbox 1 message auth" || 0 || sender's signing and auth key
//!         || recipient's signing and auth key || recipient's ratchet auth key || bytes 0 to 273 || padded payload)
//! ```
//!
//! The message key serves once, so its nonce is zero. The MAC stands inside the box: only the recipient sees it, and
//! it convinces nobody else, who could have made it too.

use rand_core::CryptoRngCore;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::crypto::dh::PublicKey;
use crate::crypto::kdf::hmac;
use crate::crypto::secret::Secret;
use crate::crypto::secretbox::{BoxKey, NonceBytes, ZERO_NONCE};
use crate::limits::{BOX_OVERHEAD_BYTES, ENVELOPE_BYTES};
use crate::wire::envelope::Envelope;
use crate::wire::header::{HEADER_BYTES, Header};
use crate::wire::sealing::{AuthKey, Sealing, Tag};

const OPENING_AT: usize = 16;
const NONCE_AT: usize = 48;
const HEADER_AT: usize = 72;
const BODY_AT: usize = HEADER_AT + HEADER_BYTES + BOX_OVERHEAD_BYTES;
const MAC_BYTES: usize = 32;
const PADDED_BYTES: usize = ENVELOPE_BYTES - BODY_AT - BOX_OVERHEAD_BYTES - MAC_BYTES;
const MAC_LABEL: &[u8] = b"chatterbox 1 message auth\0";

/// The longest payload that fits: 16,060 bytes.
pub const PAYLOAD_BYTES_MAX: usize = PADDED_BYTES - 2;

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
    let padded = pad(payload)?;
    bytes.extend_from_slice(&sealing.tag);
    match sealing.ephemeral {
        Some(ephemeral) => bytes.extend_from_slice(&ephemeral.0),
        None => bytes.extend_from_slice(Secret::<32>::random(rng).expose()),
    }
    let mut nonce: NonceBytes = [0; 24];
    rng.fill_bytes(&mut nonce);
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&sealing.header_key.seal(&nonce, &sealing.header.to_bytes()));
    let mac = author_mac(&sealing.auth, &bytes, &padded);
    let body = Zeroizing::new([&mac.expose()[..], &padded].concat());
    bytes.extend_from_slice(&sealing.message_key.seal(&ZERO_NONCE, &body));
    Ok(Envelope::from_vec(bytes).expect("the parts of the layout add up to an envelope"))
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
pub fn open_header(envelope: &Envelope, key: &BoxKey) -> Option<Header> {
    let bytes = envelope.as_bytes();
    let nonce: &NonceBytes = bytes[NONCE_AT..HEADER_AT].try_into().expect("the layout gives it 24 bytes");
    Header::from_bytes(&key.open(nonce, &bytes[HEADER_AT..BODY_AT]).ok()?).ok()
}

/// The payload, after box, author and padding were checked, in this order.
///
/// # Errors
/// [`BodyError`].
pub fn open_body(envelope: &Envelope, message_key: BoxKey, auth: &AuthKey) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    let (front, body) = envelope.as_bytes().split_at(BODY_AT);
    let body = message_key.open(&ZERO_NONCE, body).map_err(|_| BodyError::Forged)?;
    let (mac, padded) = body.split_at(MAC_BYTES);
    if Secret::from_slice(mac).as_ref() != Some(&author_mac(auth, front, padded)) {
        return Err(BodyError::NotTheAuthor);
    }
    unpad(padded).map(|payload| Zeroizing::new(payload.to_vec())).ok_or(BodyError::Padding)
}

fn author_mac(auth: &AuthKey, front: &[u8], padded: &[u8]) -> Secret<32> {
    hmac(
        auth.key.expose(),
        &[MAC_LABEL, &auth.sender.to_bytes(), &auth.recipient.to_bytes(), &auth.recipient_auth.0, front, padded],
    )
}

fn pad(payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, TooLong> {
    let length = u16::try_from(payload.len()).map_err(|_| TooLong(payload.len()))?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(TooLong(payload.len()));
    }
    let mut padded = Zeroizing::new(Vec::with_capacity(PADDED_BYTES));
    padded.extend_from_slice(&length.to_le_bytes());
    padded.extend_from_slice(payload);
    padded.resize(PADDED_BYTES, 0);
    Ok(padded)
}

fn unpad(padded: &[u8]) -> Option<&[u8]> {
    let (length, rest) = padded.split_at_checked(2)?;
    let (payload, padding) = rest.split_at_checked(usize::from(u16::from_le_bytes([length[0], length[1]])))?;
    padding.iter().all(|byte| *byte == 0).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn message_key() -> BoxKey {
        BoxKey::new(Secret::new([6; 32]))
    }

    fn sealing() -> Sealing {
        Sealing {
            tag: [9; 16],
            ephemeral: None,
            header_key: BoxKey::new(Secret::new([5; 32])),
            header: Header {
                opening: None,
                counter: 0,
                previous: 0,
                random: [7; 32],
                ratchet: PublicKey([8; 32]),
                auth: PublicKey([8; 32]),
            },
            message_key: message_key(),
            auth: auth(),
        }
    }

    #[test]
    fn every_payload_that_fits_comes_back() {
        for length in [0, 1, 1_000, PAYLOAD_BYTES_MAX] {
            let envelope = seal(sealing(), &vec![0xa5; length], &mut OsRng).unwrap();
            assert_eq!(tag(&envelope), [9; 16]);
            assert_eq!(open_header(&envelope, &sealing().header_key), Some(sealing().header));
            assert_eq!(open_header(&envelope, &message_key()), None);
            assert_eq!(*open_body(&envelope, message_key(), &auth()).unwrap(), vec![0xa5; length]);
        }
        assert_eq!(PAYLOAD_BYTES_MAX, 16_060);
        assert_eq!(seal(sealing(), &vec![0; 16_061], &mut OsRng).unwrap_err(), TooLong(16_061));
        assert_eq!(seal(sealing(), &vec![0; 70_000], &mut OsRng).unwrap_err(), TooLong(70_000));
    }

    #[test]
    fn the_author_must_fit_in_every_part() {
        let envelope = seal(sealing(), b"payload", &mut OsRng).unwrap();
        for wrong in [
            AuthKey { key: Secret::new([9; 32]), ..auth() },
            AuthKey { sender: identity(9), ..auth() },
            AuthKey { recipient: identity(9), ..auth() },
            AuthKey { recipient_auth: PublicKey([9; 32]), ..auth() },
        ] {
            assert_eq!(open_body(&envelope, message_key(), &wrong).unwrap_err(), BodyError::NotTheAuthor);
        }
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let envelope = seal(sealing(), b"payload", &mut OsRng).unwrap();
        for position in (0..400).chain([ENVELOPE_BYTES - 1]) {
            let mut bytes = envelope.as_bytes().to_vec();
            bytes[position] ^= 1;
            let changed = Envelope::from_vec(bytes).unwrap();
            let expected = if position < BODY_AT { BodyError::NotTheAuthor } else { BodyError::Forged };
            assert_eq!(open_body(&changed, message_key(), &auth()).unwrap_err(), expected);
        }
    }

    #[test]
    fn dirty_padding_and_a_length_beyond_the_end_are_refused() {
        let mut padded = pad(b"payload").unwrap().to_vec();
        assert_eq!(unpad(&padded), Some(&b"payload"[..]));
        padded[PADDED_BYTES - 1] = 1;
        assert_eq!(unpad(&padded), None);
        padded[..2].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(unpad(&padded), None);
    }
}
