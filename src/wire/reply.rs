//! What a home server answers and pushes (design, sections 6 and 7).

use prost::Message as _;
use thiserror::Error;

use super::envelope::Envelope;
use super::generated::frame as pb;
use super::prekey::SignedPrekey;
use super::{Malformed, array, decode, required};
use crate::limits::{LIST_PAGE_MAX, SEALED_COUNTER_BYTES};

/// Everything a server sends.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerMessage {
    /// The answer to the request with this id.
    Reply {
        /// The request's id.
        id: u64,
        /// How it went.
        outcome: Result<Reply, Refusal>,
    },
    /// Something the client subscribed to.
    Push(Push),
}

/// A request that was carried out. A reply means durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Done; nothing more to say.
    Done,
    /// A page of the mailbox.
    Envelopes {
        /// Ids ascending.
        entries: Vec<EnvelopeEntry>,
        /// Whether there are more.
        more: bool,
    },
    /// The envelope asked for.
    Envelope(StoredEnvelope),
    /// A prekey, signature unchecked.
    Prekey(SignedPrekey),
    /// What the server holds of ours.
    PrekeyCount(PrekeyCount),
    /// The sealed counter record, if there is one.
    Counter(Option<Vec<u8>>),
}

/// One line of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeEntry {
    /// The id in its mailbox.
    pub id: u64,
    /// SHA-256 of the envelope.
    pub sha256: [u8; 32],
}

/// An envelope with its id in its mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEnvelope {
    /// `max(clock, last + 1)` in microseconds, of the server.
    pub id: u64,
    /// The envelope.
    pub envelope: Envelope,
}

/// The prekeys that a server holds of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PrekeyCount {
    /// One-time prekeys left.
    pub one_time: u32,
    /// When the last-resort prekey expires, seconds since 1970; none if there is none.
    pub last_resort_expires: Option<u64>,
}

/// What a subscribed client hears by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Push {
    /// An envelope of its mailbox.
    Envelope(StoredEnvelope),
    /// Its pool of prekeys ran low.
    Prekeys(PrekeyCount),
}

/// Why a request was not carried out: coarse on purpose, and enough for the daemon to tell its user what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The server does not speak this protocol version.
    #[error("the server does not speak this version of the protocol")]
    Version,
    /// The request does not parse or breaks a bound.
    #[error("the server could not read the request")]
    Malformed,
    /// The named account, or the connection's own, does not exist.
    #[error("there is no such account at the server")]
    NoAccount,
    /// The recipient's mailbox is full.
    #[error("the mailbox is full")]
    MailboxFull,
    /// Not even a last-resort prekey is left.
    #[error("the server holds no prekey of this account")]
    NoPrekey,
    /// The server holds as many prekeys of this account as it takes.
    #[error("the server takes no more prekeys")]
    PrekeysFull,
    /// No envelope has this id.
    #[error("there is no such envelope")]
    NoEnvelope,
    /// No more accounts or connections.
    #[error("the server is full")]
    ServerFull,
    /// The server's disk does not take it at the moment.
    #[error("the server cannot store anything at the moment")]
    Unavailable,
}

impl Refusal {
    /// Whether trying again later, unchanged, may help.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::MailboxFull | Self::NoPrekey | Self::PrekeysFull | Self::ServerFull | Self::Unavailable)
    }
}

impl ServerMessage {
    /// Parses a frame's body.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let message: pb::ServerMessage = decode("server message", bytes)?;
        match required("server message kind", message.kind)? {
            pb::server_message::Kind::Reply(reply) => {
                let outcome = match required("reply outcome", reply.outcome)? {
                    pb::reply::Outcome::Refused(refusal) => Err(parse_refusal(refusal)),
                    outcome => Ok(parse_reply(outcome)?),
                };
                Ok(Self::Reply { id: reply.id, outcome })
            }
            pb::server_message::Kind::Push(push) => match required("push event", push.event)? {
                pb::push::Event::Envelope(stored) => Ok(Self::Push(Push::Envelope(parse_stored(stored)?))),
                pb::push::Event::Prekeys(count) => Ok(Self::Push(Push::Prekeys(parse_count(count)))),
            },
        }
    }

    /// The body of a frame.
    pub fn to_bytes(&self) -> Vec<u8> {
        let kind = match self {
            Self::Reply { id, outcome } => {
                let outcome = match outcome {
                    Ok(reply) => reply_to_generated(reply),
                    Err(refusal) => pb::reply::Outcome::Refused(refusal_to_generated(*refusal).into()),
                };
                pb::server_message::Kind::Reply(pb::Reply { id: *id, outcome: Some(outcome) })
            }
            Self::Push(Push::Envelope(stored)) => pb::server_message::Kind::Push(pb::Push {
                event: Some(pb::push::Event::Envelope(stored_to_generated(stored))),
            }),
            Self::Push(Push::Prekeys(count)) => pb::server_message::Kind::Push(pb::Push {
                event: Some(pb::push::Event::Prekeys(count_to_generated(*count))),
            }),
        };
        pb::ServerMessage { kind: Some(kind) }.encode_to_vec()
    }
}

fn parse_reply(outcome: pb::reply::Outcome) -> Result<Reply, Malformed> {
    use pb::reply::Outcome;
    Ok(match outcome {
        Outcome::Done(_) | Outcome::Refused(_) => Reply::Done,
        Outcome::Envelopes(list) => {
            if list.entries.len() > LIST_PAGE_MAX {
                return Err(Malformed::new("envelope list", "more than 256 entries"));
            }
            let entries = list
                .entries
                .iter()
                .map(|entry| Ok(EnvelopeEntry { id: entry.id, sha256: array("envelope hash", &entry.sha256)? }))
                .collect::<Result<_, Malformed>>()?;
            Reply::Envelopes { entries, more: list.more }
        }
        Outcome::Envelope(stored) => Reply::Envelope(parse_stored(stored)?),
        Outcome::Prekey(bytes) => Reply::Prekey(SignedPrekey::from_bytes(&bytes)?),
        Outcome::PrekeyCount(count) => Reply::PrekeyCount(parse_count(count)),
        Outcome::Counter(record) if record.is_empty() => Reply::Counter(None),
        Outcome::Counter(record) if record.len() == SEALED_COUNTER_BYTES => Reply::Counter(Some(record)),
        Outcome::Counter(_) => return Err(Malformed::new("counter record", "not 256 bytes")),
    })
}

fn reply_to_generated(reply: &Reply) -> pb::reply::Outcome {
    use pb::reply::Outcome;
    match reply {
        Reply::Done => Outcome::Done(pb::Done {}),
        Reply::Envelopes { entries, more } => Outcome::Envelopes(pb::EnvelopeList {
            entries: entries
                .iter()
                .map(|entry| pb::envelope_list::Entry { id: entry.id, sha256: entry.sha256.to_vec() })
                .collect(),
            more: *more,
        }),
        Reply::Envelope(stored) => Outcome::Envelope(stored_to_generated(stored)),
        Reply::Prekey(prekey) => Outcome::Prekey(prekey.to_bytes()),
        Reply::PrekeyCount(count) => Outcome::PrekeyCount(count_to_generated(*count)),
        Reply::Counter(record) => Outcome::Counter(record.clone().unwrap_or_default()),
    }
}

fn parse_stored(stored: pb::StoredEnvelope) -> Result<StoredEnvelope, Malformed> {
    Ok(StoredEnvelope { id: stored.id, envelope: Envelope::from_vec(stored.envelope)? })
}

fn stored_to_generated(stored: &StoredEnvelope) -> pb::StoredEnvelope {
    pb::StoredEnvelope { id: stored.id, envelope: stored.envelope.as_bytes().to_vec() }
}

fn parse_count(count: pb::PrekeyCount) -> PrekeyCount {
    let expires = count.last_resort_expires;
    PrekeyCount { one_time: count.one_time, last_resort_expires: (expires != 0).then_some(expires) }
}

fn count_to_generated(count: PrekeyCount) -> pb::PrekeyCount {
    pb::PrekeyCount { one_time: count.one_time, last_resort_expires: count.last_resort_expires.unwrap_or(0) }
}

/// A code from a newer server is as good as "not now".
fn parse_refusal(code: i32) -> Refusal {
    match pb::Refusal::try_from(code) {
        Ok(pb::Refusal::Version) => Refusal::Version,
        Ok(pb::Refusal::Malformed) => Refusal::Malformed,
        Ok(pb::Refusal::NoAccount) => Refusal::NoAccount,
        Ok(pb::Refusal::MailboxFull) => Refusal::MailboxFull,
        Ok(pb::Refusal::NoPrekey) => Refusal::NoPrekey,
        Ok(pb::Refusal::PrekeysFull) => Refusal::PrekeysFull,
        Ok(pb::Refusal::NoEnvelope) => Refusal::NoEnvelope,
        Ok(pb::Refusal::ServerFull) => Refusal::ServerFull,
        Ok(pb::Refusal::Unavailable | pb::Refusal::Unknown) | Err(_) => Refusal::Unavailable,
    }
}

fn refusal_to_generated(refusal: Refusal) -> pb::Refusal {
    match refusal {
        Refusal::Version => pb::Refusal::Version,
        Refusal::Malformed => pb::Refusal::Malformed,
        Refusal::NoAccount => pb::Refusal::NoAccount,
        Refusal::MailboxFull => pb::Refusal::MailboxFull,
        Refusal::NoPrekey => pb::Refusal::NoPrekey,
        Refusal::PrekeysFull => pb::Refusal::PrekeysFull,
        Refusal::NoEnvelope => pb::Refusal::NoEnvelope,
        Refusal::ServerFull => pb::Refusal::ServerFull,
        Refusal::Unavailable => pb::Refusal::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{ENVELOPE_BYTES, FRAME_BODY_BYTES_MAX};

    #[test]
    fn messages_come_back_as_written_and_the_largest_fit_a_frame() {
        let stored = StoredEnvelope { id: u64::MAX, envelope: Envelope::from_vec(vec![9; ENVELOPE_BYTES]).unwrap() };
        let entries = vec![EnvelopeEntry { id: u64::MAX, sha256: [1; 32] }; LIST_PAGE_MAX];
        let count = PrekeyCount { one_time: 7, last_resort_expires: Some(8) };
        let mut messages = vec![
            ServerMessage::Push(Push::Envelope(stored.clone())),
            ServerMessage::Push(Push::Prekeys(PrekeyCount::default())),
        ];
        let outcomes = [
            Ok(Reply::Done),
            Ok(Reply::Envelopes { entries, more: true }),
            Ok(Reply::Envelope(stored)),
            Ok(Reply::PrekeyCount(count)),
            Ok(Reply::Counter(None)),
            Ok(Reply::Counter(Some(vec![3; SEALED_COUNTER_BYTES]))),
            Err(Refusal::Version),
            Err(Refusal::Malformed),
            Err(Refusal::NoAccount),
            Err(Refusal::MailboxFull),
            Err(Refusal::NoPrekey),
            Err(Refusal::PrekeysFull),
            Err(Refusal::NoEnvelope),
            Err(Refusal::ServerFull),
            Err(Refusal::Unavailable),
        ];
        messages.extend(outcomes.map(|outcome| ServerMessage::Reply { id: u64::MAX, outcome }));
        for message in messages {
            let bytes = message.to_bytes();
            assert!(bytes.len() <= FRAME_BODY_BYTES_MAX);
            assert_eq!(ServerMessage::from_bytes(&bytes).unwrap(), message);
        }
    }

    #[test]
    fn a_refusal_from_a_newer_server_counts_as_unavailable() {
        let reply = pb::Reply { id: 1, outcome: Some(pb::reply::Outcome::Refused(4711)) };
        let bytes = pb::ServerMessage { kind: Some(pb::server_message::Kind::Reply(reply)) }.encode_to_vec();
        let parsed = ServerMessage::from_bytes(&bytes).unwrap();
        assert_eq!(parsed, ServerMessage::Reply { id: 1, outcome: Err(Refusal::Unavailable) });
    }
}
