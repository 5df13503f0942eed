//! Every derivation of the ratchet, each under its label.

use zeroize::Zeroizing;

use crate::crypto::dh::{PublicKey, SecretKey, SharedSecret, SmallOrder};
use crate::crypto::hash::sha256;
use crate::crypto::kdf::{hkdf, hmac};
use crate::crypto::kem::{Ciphertext, EncapsulationKey, KemSecret};
use crate::crypto::sealing::SealKey;
use crate::crypto::secret::Secret;
use crate::wire::sealing::Tag;
use crate::wire::session::NextChain;

const OPENING: &[u8] = b"chatterbox 1 opening\0";
const STEP: &[u8] = b"chatterbox 1 step\0";
const SEED: &[u8] = b"chatterbox 1 message seed\0";
const CHAIN: &[u8] = b"chatterbox 1 chain\0";
const MESSAGE: &[u8] = b"chatterbox 1 message key\0";
const TAG: &[u8] = b"chatterbox 1 tag\0";
const AUTH: &[u8] = b"chatterbox 1 auth key\0";

/// What a session starts with.
pub(super) struct Roots {
    pub(super) root: Secret<32>,
    /// Of the opener's first chain.
    pub(super) opener: NextChain,
    /// Of the other side's first chain.
    pub(super) responder: NextChain,
}

/// `HKDF(0, X25519(ephemeral, prekey), label || prekey hash || ephemeral)`, 160 bytes: root, then header and tag key of
/// the opener's chain, then of the responder's. The prekey's hash covers all its keys, its owner and its expiry. No KEM secret
/// enters here: its ciphertext is in the header that these keys open. The step that follows has it.
pub(super) fn opening(shared: &SharedSecret, prekey_hash: &[u8; 32], ephemeral: &PublicKey) -> Roots {
    let keys: Secret<160> = hkdf(&[0; 32], shared.expose(), &[OPENING, prekey_hash, &ephemeral.0]);
    let [root, opener_header, opener_tag, responder_header, responder_tag] = split(&keys);
    Roots {
        root,
        opener: NextChain { header_key: SealKey::new(opener_header), tag_key: opener_tag },
        responder: NextChain { header_key: SealKey::new(responder_header), tag_key: responder_tag },
    }
}

/// What a step of the Diffie-Hellman ratchet yields.
pub(super) struct Stepped {
    pub(super) root: Secret<32>,
    pub(super) chain_key: Secret<32>,
    /// Of the chain after the one that `chain_key` begins, in the same direction.
    pub(super) next: NextChain,
}

/// What a step is made from: an agreement and an encapsulated secret, and the public values that both sides saw.
pub(super) struct Mixed<'a> {
    pub(super) shared: SharedSecret,
    pub(super) encapsulated: KemSecret,
    /// The sender's new ratchet key.
    pub(super) sender: &'a PublicKey,
    /// The recipient's newest ratchet key.
    pub(super) recipient: &'a PublicKey,
    /// The recipient's newest encapsulation key.
    pub(super) kem: &'a EncapsulationKey,
    pub(super) ciphertext: &'a Ciphertext,
}

/// `HKDF(root, X25519(sender, recipient) || KEM secret, label || sender's ratchet key || recipient's ratchet key ||
/// SHA-256(encapsulation key || ciphertext))`, 128 bytes: root, chain key, header and tag key of the sender's chain after
/// this one. Whoever lacks either secret, or the root, has nothing (design, section 5; the combiner of
/// draft-ietf-tls-hybrid-design, section 3.3, with all public values in it).
pub(super) fn step(root: &Secret<32>, mixed: &Mixed<'_>) -> Stepped {
    let mut secrets = Zeroizing::new([0; 64]);
    secrets[..32].copy_from_slice(mixed.shared.expose());
    secrets[32..].copy_from_slice(mixed.encapsulated.expose());
    let kem = sha256(&[mixed.kem.as_bytes(), mixed.ciphertext.as_bytes()]);
    let keys: Secret<128> = hkdf(root.expose(), &*secrets, &[STEP, &mixed.sender.0, &mixed.recipient.0, &kem]);
    let [root, chain_key, header, tag_key] = split(&keys);
    Stepped { root, chain_key, next: NextChain { header_key: SealKey::new(header), tag_key } }
}

/// The seed of this position, and the chain key of the next. The old chain key is used up.
pub(super) fn advance(chain_key: Secret<32>) -> (Secret<32>, Secret<32>) {
    (hmac(chain_key.expose(), &[SEED]), hmac(chain_key.expose(), &[CHAIN]))
}

/// The key of one message. The seed is used up.
pub(super) fn message_key(seed: Secret<32>, random: &[u8; 32]) -> SealKey {
    SealKey::new(hmac(seed.expose(), &[MESSAGE, random]))
}

/// The first 16 bytes of `HMAC(tag key, label || counter)`.
pub(super) fn tag(tag_key: &Secret<32>, counter: u64) -> Tag {
    let full = hmac(tag_key.expose(), &[TAG, &counter.to_le_bytes()]);
    let mut tag = [0; 16];
    tag.copy_from_slice(&full.expose()[..16]);
    tag
}

/// `HKDF(0, X25519(sender's long-term auth key, recipient's ratchet auth key), label || both public keys)`. Either side
/// calls it with the secret it has.
pub(super) fn auth_key(
    ours: &SecretKey,
    theirs: &PublicKey,
    sender: &PublicKey,
    recipient: &PublicKey,
) -> Result<Secret<32>, SmallOrder> {
    Ok(hkdf(&[0; 32], ours.agree(theirs)?.expose(), &[AUTH, &sender.0, &recipient.0]))
}

fn split<const N: usize, const PARTS: usize>(keys: &Secret<N>) -> [Secret<32>; PARTS] {
    let parts = keys.expose();
    std::array::from_fn(|part| {
        Secret::from_slice(&parts[part * 32..part * 32 + 32]).expect("N is 32 bytes for every part")
    })
}
