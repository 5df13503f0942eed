//! `chatterbox verify`: comparing keys with their owner, and remembering that it was done.

use std::path::Path;

use super::causes;
use super::context::Context;
use super::conversations;
use super::output::{self, Output};
use super::verified::Verified;
use crate::app::failure::{Exit, Failure};
use crate::client::contacts::{self, ContactFault, REQUEST_CARD};
use crate::disk::open::OpenError;
use crate::disk::real::RealDisk;
use crate::wire::identity::{Fingerprint, safety_number};

/// Requests that are named where several may be meant: anybody can call themselves anything.
const REQUESTS_NAMED_MAX: usize = 4;

const EXAMPLES: &str = "\
Examples:
  chatterbox verify bob                 prints what to compare, and whether it was done
  chatterbox verify bob --confirm       it is the same on bob's side
  chatterbox verify bob --revoke        it is not, or you are no longer sure";

/// Show what to compare with somebody to be sure that you have their keys and nobody else's.
///
/// Both of you run `chatterbox verify` with the other's name and compare the safety number, by phone or in person: it
/// is the same on both sides only if each has the other's true card. Comparing both fingerprints does the same.
///
/// --confirm marks these keys as verified, here alone; other keys under the same name are not. NAME is a contact, or
/// somebody in requests/ (NAME~FINGERPRINT8).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Verify {
    /// The contact, or the name of a request
    name: String,
    /// Mark their keys as verified: you have compared them
    #[arg(long)]
    confirm: bool,
    /// Take the mark back
    #[arg(long, conflicts_with = "confirm")]
    revoke: bool,
}

impl Verify {
    pub(super) fn run(self, context: &Context, output: &mut Output) -> Result<(), Failure> {
        let doing = format!("verifying {}", output::safe(&self.name));
        let (name, theirs) = find(context, &doing, &self.name)?;
        if self.confirm || self.revoke {
            Verified::set(&context.root, &doing, theirs, self.confirm)?;
        }
        let own = context.people.own();
        let ours = own.identity().fingerprint();
        let is_verified = Verified::load(&context.root).contains(&theirs);
        output.text(&format!(
            "{} (you): {}\n{name}: {}\nsafety number: {}\nverified: {}\n",
            own.profile().name,
            ours.groups(),
            theirs.groups(),
            safety_number(&ours, &theirs),
            if is_verified { "yes" } else { "no" },
        ))
    }
}

/// Who is meant: a contact, or the sender of a request. The name as it may be shown, and their keys.
fn find(context: &Context, doing: &str, wanted: &str) -> Result<(String, Fingerprint), Failure> {
    let found = match context.contact(doing, wanted) {
        Ok(contact) => contact.clone(),
        Err(nobody) => match request(context, wanted.trim_end_matches('/')) {
            Ok(sender) => sender,
            Err(ContactFault::Unreadable(OpenError::Absent)) => return Err(waiting(context, doing, wanted, nobody)),
            Err(fault) => return Err(causes::contact(format!("{doing}: reading the card of the request"), &fault)),
        },
    };
    Ok((output::safe(&found.name).into_owned(), found.profile.identity().fingerprint()))
}

/// Where no contact is meant: points to the requests of those who call themselves so, if there are any.
fn waiting(context: &Context, doing: &str, wanted: &str, nobody: Failure) -> Failure {
    let is_nobody = nobody.exit() == Exit::NoUser
        && wanted != context.people.own().profile().name
        && context.people.blocked().by_name(wanted).is_none();
    let Some(requests) = is_nobody.then(|| conversations::requests(context).ok()).flatten() else { return nobody };
    let is_meant = |name: &str| {
        let rest = name.strip_prefix(wanted).filter(|_| !wanted.is_empty());
        rest.is_some_and(|rest| rest.starts_with('~') || wanted.contains('~'))
    };
    let names: Vec<&str> = requests
        .iter()
        .map(|request| request.name.as_str())
        .filter(|name| is_meant(name))
        .take(REQUESTS_NAMED_MAX)
        .collect();
    let Some(first) = names.first() else { return nobody };
    let cause = format!(
        "there is no contact called {}, but a request waits of somebody who calls themself so: {}",
        output::safe(wanted),
        output::safe(&names.join(", ")),
    );
    let remedy = format!(
        "Compare the fingerprint that `chatterbox verify {}` shows; `chatterbox request list` shows all who wait.",
        output::safe(first),
    );
    Failure::new(Exit::NoUser, doing, cause, remedy)
}

/// The sender of the request so called.
fn request(context: &Context, wanted: &str) -> Result<contacts::Contact, ContactFault> {
    if wanted.is_empty() || wanted.starts_with('.') || wanted.contains('/') {
        return Err(OpenError::Absent.into());
    }
    let card = context.root.requests().join(Path::new(wanted)).join(REQUEST_CARD);
    contacts::read(&RealDisk, &card, wanted, context.people.own())
}
