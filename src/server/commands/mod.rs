//! What each request does: one command a file, from the store, the account that the connection's key stands for, and the
//! request's fields, to the reply.

mod count_prekeys;
mod create_account;
mod delete_account;
mod delete_envelopes;
mod deliver;
mod fetch_envelope;
mod list_envelopes;
mod read_counter;
mod subscribe;
mod take_prekey;
mod upload_prekeys;
mod write_counter;

use crate::clock::Timestamp;
use crate::server::store::Store;
use crate::wire::identity::AccountId;
use crate::wire::reply::{Refusal, Reply};
use crate::wire::request::Command;

pub use subscribe::subscribe;

/// Which commands of one connection may be under way together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Changes nothing. Reads may run together.
    Read,
    /// Goes through the store's queue, in order. Writes may run together.
    Write,
    /// Changes the connection itself, and runs alone.
    Subscribe,
}

/// The kind of a command. A connection lets only commands of one kind run at a time, so that the answers are what they
/// would be if each had waited for the one before.
pub fn kind(command: &Command) -> Kind {
    match command {
        Command::CreateAccount
        | Command::DeleteAccount
        | Command::Deliver { .. }
        | Command::DeleteEnvelopes(_)
        | Command::UploadPrekeys { .. }
        | Command::TakePrekey(_)
        | Command::WriteCounter(_) => Kind::Write,
        Command::ListEnvelopes { .. }
        | Command::FetchEnvelope(_)
        | Command::CountPrekeys
        | Command::ReadCounter
        | Command::Ping => Kind::Read,
        Command::Subscribe { .. } => Kind::Subscribe,
    }
}

/// Carries out any command but [`Command::Subscribe`], which is the connection's own business.
///
/// # Errors
/// What the client hears.
pub async fn execute(store: &impl Store, own: AccountId, command: Command, now: Timestamp) -> Result<Reply, Refusal> {
    match command {
        Command::CreateAccount => create_account::create_account(store, own).await,
        Command::DeleteAccount => delete_account::delete_account(store, own).await,
        Command::Deliver { account, envelope } => deliver::deliver(store, account, envelope, now).await,
        Command::ListEnvelopes { after, limit } => list_envelopes::list_envelopes(store, own, after, limit).await,
        Command::FetchEnvelope(id) => fetch_envelope::fetch_envelope(store, own, id).await,
        Command::DeleteEnvelopes(ids) => delete_envelopes::delete_envelopes(store, own, ids).await,
        Command::UploadPrekeys { prekeys, replace } => {
            upload_prekeys::upload_prekeys(store, own, prekeys, replace, now).await
        }
        Command::TakePrekey(account) => take_prekey::take_prekey(store, account, now).await,
        Command::CountPrekeys => count_prekeys::count_prekeys(store, own, now).await,
        Command::ReadCounter => read_counter::read_counter(store, own).await,
        Command::WriteCounter(record) => write_counter::write_counter(store, own, record).await,
        Command::Ping => Ok(Reply::Done),
        Command::Subscribe { .. } => subscribe(store, own).await.map(|_| Reply::Done),
    }
}
