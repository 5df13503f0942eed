//! The state of a session as it stands on disk: typed keys, no behaviour. The module `ratchet` gives it behaviour.

use std::collections::BTreeMap;

use prost::Message as _;
use zeroize::Zeroizing;

use super::control::Rank;
use super::generated::state as pb;
use super::identity::Identity;
use super::{Malformed, array, decode, required, secret};
use crate::crypto::dh::{PublicKey, SecretKey};
use crate::crypto::kem::{Ciphertext, DecapsulationKey};
use crate::crypto::sealing::SealKey;
use crate::crypto::secret::Secret;
use crate::crypto::sign::VerifyingKey;

/// One session with one peer (design, section 5).
#[derive(Clone, PartialEq)]
pub struct SessionState {
    /// Who the opening fixed as the other side.
    pub peer: Identity,
    /// Both sides send only in the highest.
    pub generation: u64,
    /// SHA-256 of the opening envelope's first 48 bytes: ties go to the lower, a replay is known by it.
    pub opening: [u8; 32],
    /// When it was opened here, seconds since 1970.
    pub created: u64,
    /// The root key.
    pub root: Secret<32>,
    /// Our newest ratchet key pair; the public half is in every header we send.
    pub ratchet: KeyPair,
    /// Our newest ratchet auth pair, alike.
    pub auth: KeyPair,
    /// Our newest ML-KEM-768 pair, alike.
    pub kem: DecapsulationKey,
    /// What we send on.
    pub sending: SendingChain,
    /// Keys of our next chain.
    pub next_sending: NextChain,
    /// Keys of the peer's next chain.
    pub next_receiving: NextChain,
    /// The peer's chains, oldest first. Only the last may be open.
    pub receiving: Vec<ReceivingChain>,
    /// When a higher session was first known, seconds since 1970; 0 in the highest.
    pub retired: u64,
}

/// An X25519 pair that compares by its public key.
#[derive(Clone, Debug)]
pub struct KeyPair(pub SecretKey);

impl PartialEq for KeyPair {
    fn eq(&self, other: &Self) -> bool {
        self.0.public() == other.0.public()
    }
}

/// Header and tag key of a chain that has not begun.
#[derive(Clone, PartialEq)]
pub struct NextChain {
    /// Seals its headers.
    pub header_key: SealKey,
    /// Makes its tags.
    pub tag_key: Secret<32>,
}

/// What we send on.
#[derive(Clone, PartialEq)]
pub struct SendingChain {
    /// Seals its headers.
    pub header_key: SealKey,
    /// Makes its tags.
    pub tag_key: Secret<32>,
    /// Steps with every message.
    pub chain_key: Secret<32>,
    /// Of the next message.
    pub counter: u64,
    /// How many messages our chain before this one had.
    pub previous: u64,
    /// Proves our authorship; from our long-term auth key and the peer's ratchet auth key.
    pub auth_key: Secret<32>,
    /// That ratchet auth key.
    pub peer_auth: PublicKey,
    /// What the chain began with; in every header of it.
    pub ciphertext: Ciphertext,
    /// When its first message was sealed, seconds since 1970; 0 while there is none.
    pub since: u64,
    /// When the peer's server first took one of them; 0 while that is not known.
    pub accepted: u64,
}

/// What the peer sends on, or sent on.
#[derive(Clone, PartialEq)]
pub struct ReceivingChain {
    /// Opens its headers.
    pub header_key: SealKey,
    /// Makes its tags.
    pub tag_key: Secret<32>,
    /// Steps with every message; none once the chain is closed.
    pub chain_key: Option<Secret<32>>,
    /// Of the next message.
    pub counter: u64,
    /// Proves the peer's authorship.
    pub auth_key: Secret<32>,
    /// The peer's ratchet key of this chain.
    pub peer_ratchet: PublicKey,
    /// Our ratchet auth key that the peer made `auth_key` with.
    pub our_auth: PublicKey,
    /// Message seeds of the counters that were jumped over.
    pub skipped: BTreeMap<u64, SkippedKey>,
    /// When the peer began it, by its own clock, seconds since 1970; 0 if it did not say.
    pub since: u64,
}

/// The seed of a message that has not arrived yet.
#[derive(Clone, PartialEq)]
pub struct SkippedKey {
    /// The message key is derived from it and the header's random bytes.
    pub seed: Secret<32>,
    /// When it was skipped, seconds since 1970.
    pub since: u64,
}

/// What is known of the sessions with a peer besides themselves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Standing {
    /// The highest session that the peer told us of and that was not here.
    pub announced: Option<Rank>,
    /// From when on we open one above that if it has not come, seconds since 1970.
    pub due: u64,
    /// What we told the peer.
    pub invitation: Option<Invitation>,
    /// A session in which something was received has been erased.
    pub heard: bool,
}

/// We told a peer of a session: it opens one above that if it has not got it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Invitation {
    /// The session that we named.
    pub rank: Rank,
    /// When, seconds since 1970.
    pub since: u64,
}

/// All sessions with one peer, as one file.
///
/// # Errors
/// [`Malformed`], naming the field.
pub fn sessions_from_bytes(bytes: &[u8]) -> Result<(Vec<SessionState>, Standing), Malformed> {
    let sessions: pb::Sessions = decode("sessions", bytes)?;
    let invitation = sessions.invitation.map(|invitation| {
        let rank = rank(required("invitation", invitation.rank)?)?;
        Ok::<_, Malformed>(Invitation { rank, since: invitation.since })
    });
    let standing = Standing {
        announced: sessions.announced.map(rank).transpose()?,
        due: sessions.due,
        invitation: invitation.transpose()?,
        heard: sessions.heard,
    };
    let sessions = sessions.sessions.into_iter().map(SessionState::parse).collect::<Result<_, _>>()?;
    Ok((sessions, standing))
}

/// The serialized form of [`sessions_from_bytes`].
pub fn sessions_to_bytes<'a>(
    sessions: impl IntoIterator<Item = &'a SessionState>,
    standing: &Standing,
) -> Zeroizing<Vec<u8>> {
    let generated_rank = |rank: Rank| pb::Rank { generation: rank.generation, opening: rank.opening.to_vec() };
    let mut generated = pb::Sessions {
        sessions: sessions.into_iter().map(SessionState::to_generated).collect(),
        announced: standing.announced.map(generated_rank),
        due: standing.due,
        invitation: standing
            .invitation
            .map(|given| pb::Invitation { rank: Some(generated_rank(given.rank)), since: given.since }),
        heard: standing.heard,
    };
    let bytes = Zeroizing::new(generated.encode_to_vec());
    generated.sessions.iter_mut().for_each(wipe);
    bytes
}

fn rank(rank: pb::Rank) -> Result<Rank, Malformed> {
    Ok(Rank { generation: rank.generation, opening: array("rank opening", &rank.opening)? })
}

impl SessionState {
    fn parse(session: pb::Session) -> Result<Self, Malformed> {
        let sending = required("session sending chain", session.sending)?;
        Ok(Self {
            peer: Identity {
                signing: VerifyingKey(array("session peer", &session.peer_signing)?),
                auth: PublicKey(array("session peer", &session.peer_auth)?),
            },
            generation: session.generation,
            opening: array("session opening", &session.opening)?,
            created: session.created,
            root: secret("session root", session.root)?,
            ratchet: KeyPair(SecretKey::from_secret(&secret("session ratchet key", session.ratchet)?)),
            auth: KeyPair(SecretKey::from_secret(&secret("session auth key", session.auth)?)),
            kem: DecapsulationKey::from_seed(secret("session KEM seed", session.kem)?),
            sending: SendingChain {
                header_key: SealKey::new(secret("sending header key", sending.header_key)?),
                tag_key: secret("sending tag key", sending.tag_key)?,
                chain_key: secret("sending chain key", sending.chain_key)?,
                counter: sending.counter,
                previous: sending.previous,
                auth_key: secret("sending auth key", sending.auth_key)?,
                peer_auth: PublicKey(array("sending peer auth", &sending.peer_auth_public)?),
                ciphertext: Ciphertext::from_slice(&sending.ciphertext)
                    .ok_or(Malformed::new("sending ciphertext", "wrong length"))?,
                since: sending.since,
                accepted: sending.accepted,
            },
            next_sending: NextChain::parse(session.next_sending)?,
            next_receiving: NextChain::parse(session.next_receiving)?,
            receiving: session.receiving.into_iter().map(ReceivingChain::parse).collect::<Result<_, _>>()?,
            retired: session.retired,
        })
    }

    fn to_generated(&self) -> pb::Session {
        pb::Session {
            peer_signing: self.peer.signing.0.to_vec(),
            peer_auth: self.peer.auth.0.to_vec(),
            generation: self.generation,
            opening: self.opening.to_vec(),
            created: self.created,
            root: self.root.expose().to_vec(),
            ratchet: self.ratchet.0.to_secret().expose().to_vec(),
            auth: self.auth.0.to_secret().expose().to_vec(),
            kem: self.kem.seed().expose().to_vec(),
            sending: Some(pb::SendingChain {
                header_key: self.sending.header_key.expose().to_vec(),
                tag_key: self.sending.tag_key.expose().to_vec(),
                chain_key: self.sending.chain_key.expose().to_vec(),
                counter: self.sending.counter,
                previous: self.sending.previous,
                auth_key: self.sending.auth_key.expose().to_vec(),
                peer_auth_public: self.sending.peer_auth.0.to_vec(),
                ciphertext: self.sending.ciphertext.as_bytes().to_vec(),
                since: self.sending.since,
                accepted: self.sending.accepted,
            }),
            next_sending: Some(self.next_sending.to_generated()),
            next_receiving: Some(self.next_receiving.to_generated()),
            receiving: self.receiving.iter().map(ReceivingChain::to_generated).collect(),
            retired: self.retired,
        }
    }
}

impl NextChain {
    fn parse(next: Option<pb::NextChain>) -> Result<Self, Malformed> {
        let next = required("session next chain", next)?;
        Ok(Self {
            header_key: SealKey::new(secret("next header key", next.header_key)?),
            tag_key: secret("next tag key", next.tag_key)?,
        })
    }

    fn to_generated(&self) -> pb::NextChain {
        pb::NextChain { header_key: self.header_key.expose().to_vec(), tag_key: self.tag_key.expose().to_vec() }
    }
}

impl ReceivingChain {
    fn parse(chain: pb::ReceivingChain) -> Result<Self, Malformed> {
        let chain_key = match chain.chain_key {
            bytes if bytes.is_empty() => None,
            bytes => Some(secret("receiving chain key", bytes)?),
        };
        let skipped = chain
            .skipped
            .into_iter()
            .map(|skipped| {
                let seed = secret("skipped key", skipped.seed)?;
                Ok((skipped.counter, SkippedKey { seed, since: skipped.since }))
            })
            .collect::<Result<_, Malformed>>()?;
        Ok(Self {
            header_key: SealKey::new(secret("receiving header key", chain.header_key)?),
            tag_key: secret("receiving tag key", chain.tag_key)?,
            chain_key,
            counter: chain.counter,
            auth_key: secret("receiving auth key", chain.auth_key)?,
            peer_ratchet: PublicKey(array("receiving peer ratchet", &chain.peer_ratchet)?),
            our_auth: PublicKey(array("receiving auth public", &chain.our_auth_public)?),
            skipped,
            since: chain.since,
        })
    }

    fn to_generated(&self) -> pb::ReceivingChain {
        pb::ReceivingChain {
            header_key: self.header_key.expose().to_vec(),
            tag_key: self.tag_key.expose().to_vec(),
            chain_key: self.chain_key.as_ref().map_or_else(Vec::new, |key| key.expose().to_vec()),
            counter: self.counter,
            auth_key: self.auth_key.expose().to_vec(),
            peer_ratchet: self.peer_ratchet.0.to_vec(),
            our_auth_public: self.our_auth.0.to_vec(),
            skipped: self
                .skipped
                .iter()
                .map(|(counter, skipped)| pb::SkippedKey {
                    counter: *counter,
                    seed: skipped.seed.expose().to_vec(),
                    since: skipped.since,
                })
                .collect(),
            since: self.since,
        }
    }
}

/// Overwrites the secrets in a generated message, which cannot do it by itself.
fn wipe(session: &mut pb::Session) {
    use zeroize::Zeroize;
    session.root.zeroize();
    session.ratchet.zeroize();
    session.auth.zeroize();
    session.kem.zeroize();
    if let Some(sending) = &mut session.sending {
        sending.header_key.zeroize();
        sending.tag_key.zeroize();
        sending.chain_key.zeroize();
        sending.auth_key.zeroize();
    }
    for next in [&mut session.next_sending, &mut session.next_receiving].into_iter().flatten() {
        next.header_key.zeroize();
        next.tag_key.zeroize();
    }
    for chain in &mut session.receiving {
        chain.header_key.zeroize();
        chain.tag_key.zeroize();
        chain.chain_key.zeroize();
        chain.auth_key.zeroize();
        chain.skipped.iter_mut().for_each(|skipped| skipped.seed.zeroize());
    }
}
