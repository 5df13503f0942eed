//! What a client asks of a home server (design, section 6).

use prost::Message as _;

use super::envelope::Envelope;
use super::generated::frame as pb;
use super::identity::AccountId;
use super::prekey::SignedPrekey;
use super::{Malformed, array, decode, required};
use crate::crypto::dh::PublicKey;
use crate::limits::{DELETE_IDS_MAX, LIST_PAGE_MAX, SEALED_COUNTER_BYTES};

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Chosen by the client; the reply carries it.
    pub id: u64,
    /// The protocol version: in the first request of a connection, 0 in the others.
    pub version: u32,
    /// What is asked for.
    pub command: Command,
}

/// The two fields of a request that can be read where the rest cannot: by a server that does not know the command, or of
/// a client that breaks a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// As in [`Request`].
    pub id: u64,
    /// As in [`Request`].
    pub version: u32,
}

impl RequestHead {
    /// Parses as much of a frame's body.
    ///
    /// # Errors
    /// [`Malformed`] if it is no request at all.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let head: pb::RequestHead = decode("request", bytes)?;
        Ok(Self { id: head.id, version: head.version })
    }
}

/// What can be asked for. The account is that of the connection's transport key, where none is named.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Make an account for this connection's key; fine if there is one.
    CreateAccount,
    /// Remove the account with all it has.
    DeleteAccount,
    /// Put an envelope into somebody's mailbox.
    Deliver {
        /// Whose.
        account: AccountId,
        /// What.
        envelope: Envelope,
    },
    /// List what is in the mailbox, ids ascending.
    ListEnvelopes {
        /// Only ids above this one.
        after: u64,
        /// At most so many, 1 to [`LIST_PAGE_MAX`].
        limit: usize,
    },
    /// Fetch one envelope.
    FetchEnvelope(u64),
    /// Delete these; unknown ids are fine.
    DeleteEnvelopes(Vec<u64>),
    /// Add prekeys, or replace all.
    UploadPrekeys {
        /// The prekeys.
        prekeys: Vec<SignedPrekey>,
        /// Drop what the server holds first.
        replace: bool,
    },
    /// Take one of somebody's prekeys.
    TakePrekey(AccountId),
    /// Count our own.
    CountPrekeys,
    /// Read the sealed counter record.
    ReadCounter,
    /// Write it: [`SEALED_COUNTER_BYTES`].
    WriteCounter(Vec<u8>),
    /// Push what the mailbox holds above this id, then what arrives.
    Subscribe {
        /// Only ids above this one.
        after: u64,
    },
    /// Nothing; the reply shows that the path is alive.
    Ping,
}

impl Request {
    /// Parses a frame's body.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let request: pb::Request = decode("request", bytes)?;
        use pb::request::Command as Raw;
        let command = match required("request command", request.command)? {
            Raw::CreateAccount(_) => Command::CreateAccount,
            Raw::DeleteAccount(_) => Command::DeleteAccount,
            Raw::Deliver(deliver) => Command::Deliver {
                account: account(&deliver.account)?,
                envelope: Envelope::from_vec(deliver.envelope)?,
            },
            Raw::ListEnvelopes(list) => Command::ListEnvelopes {
                after: list.after,
                limit: match usize::try_from(list.limit) {
                    Ok(limit @ 1..=LIST_PAGE_MAX) => limit,
                    _ => LIST_PAGE_MAX,
                },
            },
            Raw::FetchEnvelope(fetch) => Command::FetchEnvelope(fetch.id),
            Raw::DeleteEnvelopes(delete) => {
                if delete.ids.len() > DELETE_IDS_MAX {
                    return Err(Malformed::new("delete ids", "more than 1,024"));
                }
                Command::DeleteEnvelopes(delete.ids)
            }
            Raw::UploadPrekeys(upload) => Command::UploadPrekeys {
                prekeys: upload
                    .prekeys
                    .iter()
                    .map(|bytes| SignedPrekey::from_bytes(bytes))
                    .collect::<Result<_, _>>()?,
                replace: upload.replace,
            },
            Raw::TakePrekey(take) => Command::TakePrekey(account(&take.account)?),
            Raw::CountPrekeys(_) => Command::CountPrekeys,
            Raw::ReadCounter(_) => Command::ReadCounter,
            Raw::WriteCounter(write) => {
                if write.record.len() != SEALED_COUNTER_BYTES {
                    return Err(Malformed::new("counter record", "not 256 bytes"));
                }
                Command::WriteCounter(write.record)
            }
            Raw::Subscribe(subscribe) => Command::Subscribe { after: subscribe.after },
            Raw::Ping(_) => Command::Ping,
        };
        Ok(Self { id: request.id, version: request.version, command })
    }

    /// The body of a frame.
    pub fn to_bytes(&self) -> Vec<u8> {
        use pb::request::Command as Raw;
        let command = match &self.command {
            Command::CreateAccount => Raw::CreateAccount(pb::CreateAccount {}),
            Command::DeleteAccount => Raw::DeleteAccount(pb::DeleteAccount {}),
            Command::Deliver { account, envelope } => Raw::Deliver(pb::Deliver {
                account: account.as_bytes().to_vec(),
                envelope: envelope.as_bytes().to_vec(),
            }),
            Command::ListEnvelopes { after, limit } => {
                Raw::ListEnvelopes(pb::ListEnvelopes { after: *after, limit: u32::try_from(*limit).unwrap_or(0) })
            }
            Command::FetchEnvelope(id) => Raw::FetchEnvelope(pb::FetchEnvelope { id: *id }),
            Command::DeleteEnvelopes(ids) => Raw::DeleteEnvelopes(pb::DeleteEnvelopes { ids: ids.clone() }),
            Command::UploadPrekeys { prekeys, replace } => Raw::UploadPrekeys(pb::UploadPrekeys {
                prekeys: prekeys.iter().map(SignedPrekey::to_bytes).collect(),
                replace: *replace,
            }),
            Command::TakePrekey(account) => Raw::TakePrekey(pb::TakePrekey { account: account.as_bytes().to_vec() }),
            Command::CountPrekeys => Raw::CountPrekeys(pb::CountPrekeys {}),
            Command::ReadCounter => Raw::ReadCounter(pb::ReadCounter {}),
            Command::WriteCounter(record) => Raw::WriteCounter(pb::WriteCounter { record: record.clone() }),
            Command::Subscribe { after } => Raw::Subscribe(pb::Subscribe { after: *after }),
            Command::Ping => Raw::Ping(pb::Ping {}),
        };
        pb::Request { id: self.id, version: self.version, command: Some(command) }.encode_to_vec()
    }
}

fn account(bytes: &[u8]) -> Result<AccountId, Malformed> {
    Ok(AccountId(PublicKey(array("account", bytes)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{ENVELOPE_BYTES, FRAME_BODY_BYTES_MAX};

    #[test]
    fn requests_come_back_as_written_and_the_largest_fits_a_frame() {
        let account = AccountId(PublicKey([7; 32]));
        let envelope = Envelope::from_vec(vec![9; ENVELOPE_BYTES]).unwrap();
        for command in [
            Command::CreateAccount,
            Command::DeleteAccount,
            Command::Deliver { account, envelope },
            Command::ListEnvelopes { after: u64::MAX, limit: 256 },
            Command::FetchEnvelope(3),
            Command::DeleteEnvelopes(vec![u64::MAX; DELETE_IDS_MAX]),
            Command::UploadPrekeys { prekeys: Vec::new(), replace: true },
            Command::TakePrekey(account),
            Command::CountPrekeys,
            Command::ReadCounter,
            Command::WriteCounter(vec![1; SEALED_COUNTER_BYTES]),
            Command::Subscribe { after: 8 },
            Command::Ping,
        ] {
            let request = Request { id: u64::MAX, version: u32::MAX, command };
            let bytes = request.to_bytes();
            assert!(bytes.len() <= FRAME_BODY_BYTES_MAX);
            assert_eq!(Request::from_bytes(&bytes).unwrap(), request);
        }
    }

    #[test]
    fn a_request_without_a_command_or_with_a_short_field_is_refused() {
        assert_eq!(Request::from_bytes(&[]).unwrap_err().what, "request command");
        assert_eq!(Request::from_bytes(&[0xff; 40]).unwrap_err().what, "request");
        let short = pb::Request {
            id: 1,
            version: 1,
            command: Some(pb::request::Command::TakePrekey(pb::TakePrekey { account: vec![1; 31] })),
        };
        assert_eq!(Request::from_bytes(&short.encode_to_vec()).unwrap_err().what, "account");
    }
}
