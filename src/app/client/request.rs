//! `chatterbox request`: what strangers wrote, and the decision about it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;

use clap::Subcommand;
use serde::Serialize;

use super::block;
use super::causes;
use super::contact::check_name;
use super::context::Context;
use super::conversations::{self, Directory, readable};
use super::output::{self, Output};
use super::show::Show;
use super::verified::Verified;
use crate::app::failure::{Exit, Failure};
use crate::client::contacts::{self, Contact, ContactFault, REQUEST_CARD};
use crate::client::delivery::{self, Delivery};
use crate::disk::atomic::{self, AtomicError};
use crate::disk::open;
use crate::disk::real::RealDisk;
use crate::disk::system::{Disk as _, Kind};
use crate::limits::REJECT_TRIES_MAX;
use crate::name;

const LIST_EXAMPLES: &str = "\
Examples:
  chatterbox request list
  chatterbox request list --json | jq -r '.requests[].name'";

const ACCEPT_EXAMPLES: &str = "\
Examples:
  chatterbox request accept alice~2785e0ff
  chatterbox request accept alice~2785e0ff --as 'Alice from work'";

const NAME_HELP: &str = "A directory's name under requests/, or a beginning that only one has";

/// Decide about what strangers wrote: list, show, accept, reject, block.
///
/// What somebody writes of whom there is no card in contacts/ waits in requests/NAME~FINGERPRINT/ until you decide.
/// They hear nothing of a rejection or a block; accepting acknowledges their messages. `mv requests/X/card contacts/NAME.card` does the same as `request accept`, and
/// `mv requests/X/card blocked/NAME.card` the same as `request block`; removing the directory rejects.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct RequestCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the requests that wait
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Print JSON (docs/command-line.md lists the fields)
        #[arg(long)]
        json: bool,
    },
    /// Print one request: who it is by what they say of themselves, and the messages
    Show {
        #[arg(help = NAME_HELP)]
        name: String,
    },
    /// Make the sender a contact; chatterboxd moves the messages to their conversations
    ///
    /// Anybody can call themselves anything: compare keys before (`chatterbox verify NAME`) or soon after.
    #[command(after_help = ACCEPT_EXAMPLES)]
    Accept {
        #[arg(help = NAME_HELP)]
        name: String,
        /// What you call them [default: the name on their card]
        #[arg(long = "as", value_name = "CONTACT")]
        contact: Option<String>,
    },
    /// Erase the request; the sender may write again
    Reject {
        #[arg(help = NAME_HELP)]
        name: String,
    },
    /// Erase the request and hear nothing from the sender any more
    ///
    /// Their card is moved to blocked/: what they write from now on is dropped unseen. `chatterbox contact unblock`
    /// takes it back.
    Block {
        #[arg(help = NAME_HELP)]
        name: String,
    },
}

impl RequestCommand {
    pub(super) fn run(self, context: &Context, output: &mut Output) -> Result<(), Failure> {
        match self.action {
            Action::List { json } => list(context, json, output),
            Action::Show { name } => show(context, &name, output),
            Action::Accept { name, contact } => accept(context, &name, contact, output),
            Action::Reject { name } => {
                let (doing, request) = find(context, "rejecting", &name)?;
                erase(&doing, &request.path)?;
                output.text(&format!("rejected {}\n", output::safe(&request.name)))
            }
            Action::Block { name } => {
                let (doing, request) = find(context, "blocking", &name)?;
                let card = card(context, &doing, &request, &name::escape(request.name.as_bytes()))?;
                block::add(context, &doing, &request.path.join(REQUEST_CARD), &card)?;
                erase(&doing, &request.path)?;
                output.text(&format!("blocked {}\n", output::safe(&request.name)))
            }
        }
    }
}

#[derive(Debug, Serialize)]
struct Listing {
    requests: Vec<Listed>,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    path: String,
    account_name: Option<String>,
    fingerprint: Option<String>,
    verified: bool,
    messages: usize,
    last: Option<String>,
}

fn list(context: &Context, json: bool, output: &mut Output) -> Result<(), Failure> {
    let requests = conversations::requests(context)?;
    let verified = Verified::load(&context.root);
    let listed = |request: &Directory| {
        let card = read_card(context, request, &request.name).ok();
        let fingerprint = card.as_ref().map(|card| card.profile.identity().fingerprint());
        Listed {
            name: request.name.clone(),
            path: request.path.to_string_lossy().into_owned(),
            account_name: card.map(|card| card.profile.profile().name.clone()),
            fingerprint: fingerprint.map(|fingerprint| fingerprint.to_string()),
            verified: fingerprint.is_some_and(|fingerprint| verified.contains(&fingerprint)),
            messages: request.messages.len(),
            last: request.last().map(|time| time.rfc3339()),
        }
    };
    if json {
        return output.json(&Listing { requests: requests.iter().map(listed).collect() });
    }
    if requests.is_empty() {
        output::note("there are no requests");
        return Ok(());
    }
    let mut rows = vec![["REQUEST", "MESSAGES", "LAST", "VERIFIED", "FINGERPRINT"].map(str::to_owned).to_vec()];
    rows.extend(requests.iter().map(|request| {
        let fingerprint =
            read_card(context, request, &request.name).ok().map(|card| card.profile.identity().fingerprint());
        let is_verified = fingerprint.is_some_and(|fingerprint| verified.contains(&fingerprint));
        vec![
            output::safe(&request.name).into_owned(),
            request.messages.len().to_string(),
            request.last().map_or_else(|| "-".to_owned(), readable),
            if is_verified { "yes" } else { "no" }.to_owned(),
            fingerprint.map_or_else(|| "(no card)".to_owned(), |fingerprint| fingerprint.groups()),
        ]
    }));
    output.text(&output::table(&rows))
}

fn show(context: &Context, name: &str, output: &mut Output) -> Result<(), Failure> {
    let (doing, request) = find(context, "showing", name)?;
    let card = card(context, &doing, &request, &request.name)?;
    let profile = card.profile.profile();
    output.text(&format!(
        "request: {}\nthey call themself: {}\nfingerprint: {}\nserver: {}\nmessages: {}\n\n",
        output::safe(&request.name),
        profile.name,
        profile.identity.fingerprint().groups(),
        profile.server,
        request.messages.len(),
    ))?;
    Show::of(request.name).run(context, output)
}

fn accept(context: &Context, name: &str, wanted: Option<String>, output: &mut Output) -> Result<(), Failure> {
    let (doing, request) = find(context, "accepting", name)?;
    let shown = output::safe(&request.name).into_owned();
    let again = format!("Choose another name: `chatterbox request accept {shown} --as NAME`.");
    if let Some(wanted) = &wanted {
        check_name(&doing, wanted, &again)?;
    }
    let read = card(context, &doing, &request, &request.name)?;
    let wanted = wanted.unwrap_or_else(|| read.profile.profile().name.clone());
    let contact = contacts::check(&name::escape(wanted.as_bytes()), read.profile, context.people.own());
    let contact = contact.map_err(|fault| match fault {
        ContactFault::OwnName(own) => {
            let cause = format!("your own account is called {own}, so a contact cannot be");
            Failure::new(Exit::NoUser, &*doing, cause, &*again)
        }
        fault => causes::contact(&*doing, &fault),
    })?;
    let fingerprint = contact.profile.identity().fingerprint();
    if context.people.is_blocked(&fingerprint) {
        let cause = "they are blocked: their card is in blocked/ as well";
        let remedy = "Remove it there first, if you want to hear from them.";
        return Err(Failure::new(Exit::NoUser, doing, cause, remedy));
    }
    let file = context.card_file(&contact.name);
    let shown_contact = output::safe(&contact.name).into_owned();
    match RealDisk.rename_new(&request.path.join(REQUEST_CARD), &file) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let cause = format!("there is another contact called {shown_contact}, or a file of that name");
            return Err(Failure::new(Exit::CannotCreate, doing, cause, again));
        }
        Err(error) => return Err(Failure::io(doing, &error, "Check that contacts/ and requests/ are yours.")),
    }
    block::sync(&doing, &[&context.root.contacts(), &request.path])?;
    output.text(&format!("accepted {shown} as {shown_contact}\nfingerprint: {}\n", fingerprint.groups()))?;
    if !Verified::load(&context.root).contains(&fingerprint) {
        output::note(format!(
            "note: anybody can call themself {shown_contact}; compare keys with `chatterbox verify {shown_contact}`"
        ));
    }
    Ok(())
}

/// What is about to be done, in words, and the request that is meant.
fn find(context: &Context, verb: &str, wanted: &str) -> Result<(String, Directory), Failure> {
    let wanted = wanted.trim_end_matches('/');
    let doing = format!("{verb} request {}", output::safe(wanted));
    let mut all = conversations::requests(context)?;
    let mut found: Vec<usize> = (0..all.len()).filter(|index| all[*index].name == wanted).collect();
    if found.is_empty() && !wanted.is_empty() {
        found = (0..all.len()).filter(|index| all[*index].name.starts_with(wanted)).collect();
    }
    match found.as_slice() {
        [index] => Ok((doing, all.swap_remove(*index))),
        [] => {
            let remedy = "See `chatterbox request list`.";
            Err(Failure::new(Exit::NoInput, doing, "there is no such request", remedy))
        }
        several => {
            let names: Vec<_> = several.iter().map(|index| output::safe(&all[*index].name)).collect();
            let cause = format!("this may mean {}", names.join(" or "));
            Err(Failure::new(Exit::Usage, doing, cause, "Write more of the name."))
        }
    }
}

fn read_card(context: &Context, request: &Directory, name: &str) -> Result<Contact, ContactFault> {
    contacts::read(&RealDisk, &request.path.join(REQUEST_CARD), name, context.people.own())
}

fn card(context: &Context, doing: &str, request: &Directory, name: &str) -> Result<Contact, Failure> {
    let reading = format!("{doing}: reading the card of the request");
    read_card(context, request, name).map_err(|fault| causes::contact(reading, &fault))
}

/// Erases a request where it stands: whoever is killed over it leaves a request that can be rejected again. What the daemon
/// adds meanwhile is erased with it; what is not the daemon's stays.
fn erase(doing: &str, request: &Path) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| Failure::io(doing, error, "Check that the directory requests/ is yours.");
    let mut named = BTreeSet::new();
    for _ in 0..REJECT_TRIES_MAX {
        // Those of earlier tries, too: a message comes after what tells of it.
        named.extend(told_of(request).map_err(|error| failed(&error))?);
        for name in &named {
            // What tells of it last: until then the next try knows whose it is.
            for directory in [request, &request.join(delivery::DIRECTORY)] {
                erase_file(doing, &directory.join(name))?;
            }
        }
        match remove_emptied(request) {
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(failed(&error)),
            Ok(()) => {
                let parent = request.parent().unwrap_or(request);
                return atomic::sync_directory(&RealDisk, parent).map_err(|error| causes::disk(doing, &error));
            }
        }
    }
    let cause = format!("{} does not get empty", output::shown(request));
    Err(Failure::new(Exit::TemporaryFailure, doing, cause, "Look into it: what is not the daemon's stays."))
}

/// The messages of a request that the daemon tells of, by their names.
fn told_of(request: &Path) -> std::io::Result<Vec<OsString>> {
    let directory = request.join(delivery::DIRECTORY);
    let entries = match RealDisk.entries(&directory) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Vec::new(),
        entries => entries?,
    };
    let is_told = |name: &OsString| {
        let text = open::read_text(&RealDisk, &directory.join(name), delivery::BYTES_MAX);
        let told = text.as_deref().and_then(Delivery::parse);
        told.is_some_and(|told| Some(told.file.as_str()) == name.to_str())
    };
    Ok(entries.into_iter().map(|entry| entry.name).filter(is_told).collect())
}

/// Overwrites and removes a file, unless it has another name, by which somebody keeps it: then only this one goes.
fn erase_file(doing: &str, path: &Path) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| Failure::io(doing, error, "Check that the directory requests/ is yours.");
    match RealDisk.stat(path) {
        Ok(found) if found.kind == Kind::Directory => Ok(()),
        Ok(found) if found.links > 1 => {
            remove_if_there(path, |path| RealDisk.unlink(path)).map_err(|error| failed(&error))
        }
        Ok(_) => match atomic::erase(&RealDisk, path) {
            // The daemon was faster, which has heard of the decision too.
            Err(AtomicError::Io { cause, .. }) if atomic::is_absent(&cause) => Ok(()),
            erased => erased.map_err(|error| causes::disk(doing, &error)),
        },
        Err(error) if atomic::is_absent(&error) => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

/// Removes a request that holds nothing but its card. The card last: until then it says who it was.
fn remove_emptied(request: &Path) -> std::io::Result<()> {
    remove_if_there(&request.join(delivery::DIRECTORY), |path| RealDisk.remove_directory(path))?;
    let entries = match RealDisk.entries(request) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    if entries.iter().any(|entry| entry.name != REQUEST_CARD) {
        return Err(ErrorKind::DirectoryNotEmpty.into());
    }
    remove_if_there(&request.join(REQUEST_CARD), |path| RealDisk.unlink(path))?;
    remove_if_there(request, |path| RealDisk.remove_directory(path))
}

/// Chatterboxd may have removed it in the same moment.
fn remove_if_there(path: &Path, remove: impl FnOnce(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    match remove(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
