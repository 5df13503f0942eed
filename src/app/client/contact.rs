//! `chatterbox contact`: the cards in `contacts/`.

use std::io::{self, Read as _};
use std::path::Path;

use clap::Subcommand;
use serde::Serialize;

use super::block;
use super::causes;
use super::context::Context;
use super::output::{self, Output};
use super::verified::Verified;
use crate::app::failure::{Exit, Failure};
use crate::client::contacts::{self, Contact, ContactFault, Contacts};
use crate::disk::atomic::{self, AtomicError};
use crate::disk::real::RealDisk;
use crate::limits::CARD_FILE_BYTES_MAX;
use crate::name;
use crate::wire::profile::SignedProfile;

/// What a contact's name may have at most: room for `.card`, and the name stands in those of directories.
const NAME_BYTES_MAX: usize = name::NAME_BYTES_MAX - contacts::SUFFIX.len();

const ADD_EXAMPLES: &str = "\
Examples:
  chatterbox contact add < bob.card
  chatterbox contact add 'Bob from work' < bob.card
  wl-paste | chatterbox contact add bob";

const LIST_EXAMPLES: &str = "\
Examples:
  chatterbox contact list
  chatterbox contact list --json | jq -r '.contacts[].name'";

const SHOW_EXAMPLES: &str = "\
Example:
  chatterbox contact show bob";

const REMOVE_EXAMPLES: &str = "\
Example:
  chatterbox contact remove bob         conversations with bob stay, and bob can still write there";

const BLOCK_EXAMPLES: &str = "\
Example:
  chatterbox contact block bob          what bob writes from now on is dropped unseen";

const UNBLOCK_EXAMPLES: &str = "\
Examples:
  chatterbox contact unblock bob                 bob is a contact again
  chatterbox contact unblock --remove bob        bob is a stranger, and may write to requests/";

/// Add, list, show, remove and block contacts.
///
/// A contact is a file, contacts/NAME.card, that holds the card somebody gave you. NAME is yours to choose: `cp
/// x.card contacts/bob.card` does the same as `contact add bob`, and `mv` renames a contact.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct ContactCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a contact: reads a card on standard input and puts it into contacts/NAME.card.
    ///
    /// NAME is what you call them; without it they get the name on their card. The card is checked before anything is
    /// written, and a contact of another identity is never replaced. Then compare keys with their owner
    /// (`chatterbox verify`): a card that somebody changed on its way would be another's.
    #[command(after_help = ADD_EXAMPLES)]
    Add {
        /// What you call them [default: the name on the card]
        name: Option<String>,
    },
    /// List all contacts
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Print JSON (docs/command-line.md lists the fields)
        #[arg(long)]
        json: bool,
    },
    /// Show one contact: fingerprint, whether it is verified, home server, card
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// The contact
        name: String,
    },
    /// Hear nothing from a contact any more
    ///
    /// Their card is moved to blocked/: what they write is dropped unseen, also in conversations of several, and you
    /// cannot write to them alone. They do not hear of it. What they wrote before stays.
    #[command(after_help = BLOCK_EXAMPLES)]
    Block {
        /// The contact
        name: String,
    },
    /// Hear again from somebody who is blocked: their card is moved back to contacts/
    #[command(after_help = UNBLOCK_EXAMPLES)]
    Unblock {
        /// Their name, as the file in blocked/ has it
        name: String,
        /// Remove the card instead: they are a stranger then
        #[arg(long)]
        remove: bool,
    },
    /// Remove a contact's card
    ///
    /// They are a stranger then: a new conversation of theirs waits in requests/. In conversations that stand they take part as
    /// before; `chatterbox contact block` is for those you want to hear nothing from.
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove {
        /// The contact
        name: String,
    },
}

impl ContactCommand {
    pub(super) fn run(self, context: Context, output: &mut Output) -> Result<(), Failure> {
        match self.action {
            Action::Add { name } => add(&context, name, output),
            Action::List { json } => list(&context, json, output),
            Action::Show { name } => show(&context, &name, output),
            Action::Block { name } => block::block(&context, &name, output),
            Action::Unblock { name, remove } => block::unblock(&context, &name, remove, output),
            Action::Remove { name } => remove(&context, &name, output),
        }
    }
}

fn add(context: &Context, name: Option<String>, output: &mut Output) -> Result<(), Failure> {
    let doing = match &name {
        Some(name) => format!("adding contact {}", output::safe(name)),
        None => "adding a contact".to_owned(),
    };
    if let Some(name) = &name {
        check_name(&doing, name, "Choose another name: `chatterbox contact add NAME < CARD`.")?;
    }
    let profile = read_card(&doing)?;
    let name = name.unwrap_or_else(|| profile.profile().name.clone());
    let doing = format!("adding contact {}", output::safe(&name));
    let contact = contacts::check(&name::escape(name.as_bytes()), profile, context.people.own())
        .map_err(|fault| own(&doing, &fault))?;
    let scratch = context.scratch(&doing)?;
    atomic::make_private_directory(&RealDisk, &context.root.contacts())
        .map_err(|error| causes::disk(&*doing, &error))?;
    let file = context.card_file(&contact.name);
    match atomic::create_new(&RealDisk, &scratch, &file, format!("{}\n", contact.profile).as_bytes()) {
        Ok(()) => {
            say_other_names(context, &contact);
            output.text(&format!(
                "added {}\nfingerprint: {}\n",
                output::safe(&contact.name),
                contact.profile.identity().fingerprint().groups()
            ))
        }
        Err(AtomicError::AlreadyExists { .. }) => taken(context, &doing, &contact, &file, output),
        Err(error) => Err(causes::disk(doing, &error)),
    }
}

/// Names that could not be a file's, or whose outbox directory the daemon would not look at.
pub(super) fn check_name(doing: &str, name: &str, remedy: &str) -> Result<(), Failure> {
    let cause = if name.is_empty() {
        "the name is empty".to_owned()
    } else if name.contains('/') || name.chars().any(char::is_control) {
        "a contact's name cannot have a slash or a control character in it".to_owned()
    } else if name.starts_with('.') {
        "a file whose name starts with a dot is hidden, so a contact's cannot".to_owned()
    } else if name.ends_with(".error") {
        "names that end in .error are those of error reports".to_owned()
    } else if name::escape(name.as_bytes()).len() > NAME_BYTES_MAX {
        format!("the name is longer than {NAME_BYTES_MAX} bytes")
    } else {
        return Ok(());
    };
    Err(Failure::new(Exit::Usage, doing, cause, remedy))
}

fn read_card(doing: &str) -> Result<SignedProfile, Failure> {
    const REMEDY: &str = "Ask its owner for the card again and copy it whole: one line that starts with chatterbox:";
    output::prompt("paste the card, then press Ctrl-D");
    let mut bytes = Vec::new();
    io::stdin().lock().take(CARD_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| {
        Failure::io(format!("{doing}: reading standard input"), &error, "Write `contact add NAME < CARD`.")
    })?;
    let bad = |cause: String| Failure::new(Exit::Data, doing, cause, REMEDY);
    if bytes.len() as u64 > CARD_FILE_BYTES_MAX {
        return Err(bad(format!("the input is longer than {CARD_FILE_BYTES_MAX} bytes, so it is no card")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| bad("the input is not text, so it is no card".into()))?;
    if text.trim().is_empty() {
        return Err(bad("standard input is empty where the card should be".into()));
    }
    text.parse().map_err(|error| bad(format!("this is not a good card: {error}")))
}

fn own(doing: &str, fault: &ContactFault) -> Failure {
    match fault {
        ContactFault::OwnName(name) => Failure::new(
            Exit::NoUser,
            doing,
            format!("your own account is called {name}, so a contact cannot be"),
            "Choose another name: `chatterbox contact add NAME < CARD`.",
        ),
        other => causes::contact(doing, other),
    }
}

/// The name has a file already: the same identity is success, another is refused.
fn taken(context: &Context, doing: &str, new: &Contact, file: &Path, output: &mut Output) -> Result<(), Failure> {
    let shown = output::safe(&new.name);
    let path = output::shown(file);
    let there = contacts::read(&RealDisk, file, &new.name, context.people.own()).map_err(|fault| {
        let remedy = format!("Remove it with `chatterbox contact remove {shown}`, then add the card again.");
        Failure::new(
            Exit::CannotCreate,
            doing,
            format!("{path} is there and is no good card: {}", cause(&fault)),
            remedy,
        )
    })?;
    let fingerprint = there.profile.identity().fingerprint();
    if fingerprint != new.profile.identity().fingerprint() {
        let cause = format!("there is another contact called {shown}, fingerprint {}", fingerprint.groups());
        let remedy = format!(
            "Choose another name. If this is the same person with new keys, ask them why, compare the fingerprint of \
             this card ({}), and only then `chatterbox contact remove {shown}`.",
            new.profile.identity().fingerprint().groups()
        );
        return Err(Failure::new(Exit::CannotCreate, doing, cause, remedy));
    }
    if new.profile.profile().version > there.profile.profile().version {
        output::note(format!(
            "note: this card is newer than the one you have; to take it, `chatterbox contact remove {shown}` first"
        ));
    }
    output.text(&format!("{shown} is there already\nfingerprint: {}\n", fingerprint.groups()))
}

fn cause(fault: &ContactFault) -> String {
    fault.to_string().lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}

fn say_other_names(context: &Context, contact: &Contact) {
    let same = |other: &&Contact| other.profile.identity() == contact.profile.identity();
    if let Some(other) = context.people.contacts().iter().find(same) {
        output::note(format!(
            "note: {} is the same identity as your contact {}",
            output::safe(&contact.name),
            output::safe(&other.name)
        ));
    }
}

#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a str,
    account_name: &'a str,
    fingerprint: String,
    server: String,
    version: u64,
    verified: bool,
    file: String,
}

#[derive(Debug, Serialize)]
struct Blocked<'a> {
    name: &'a str,
    account_name: &'a str,
    fingerprint: String,
}

#[derive(Debug, Serialize)]
struct Faulty {
    file: String,
    problem: String,
}

#[derive(Debug, Serialize)]
struct Listing<'a> {
    contacts: Vec<Listed<'a>>,
    blocked: Vec<Blocked<'a>>,
    faults: Vec<Faulty>,
}

fn list(context: &Context, json: bool, output: &mut Output) -> Result<(), Failure> {
    let contacts = context.people.contacts();
    let verified = Verified::load(&context.root);
    let listing = Listing {
        contacts: contacts.iter().map(|contact| listed(context, &verified, contact)).collect(),
        blocked: context.people.blocked().iter().map(blocked).collect(),
        faults: faults(contacts, &context.root.contacts())
            .chain(faults(context.people.blocked(), &context.root.blocked()))
            .collect(),
    };
    if json {
        return output.json(&listing);
    }
    for fault in &listing.faults {
        output::note(format!("note: {}: {}", output::safe(&fault.file), fault.problem));
    }
    let mut rows = vec![["NAME", "FINGERPRINT", "VERIFIED", "ON THEIR CARD"].map(str::to_owned).to_vec()];
    rows.extend(contacts.iter().map(|contact| {
        let profile = contact.profile.profile();
        // The first groups tell contacts apart; `show` has the whole, which is what people compare.
        let fingerprint: String = profile.identity.fingerprint().groups().chars().take(19).collect();
        let card = format!("{} at {}", profile.name, profile.server.host_port());
        let compared = yes_or_no(verified.contains(&profile.identity.fingerprint())).to_owned();
        vec![output::safe(&contact.name).into_owned(), format!("{fingerprint} …"), compared, card]
    }));
    if rows.len() == 1 {
        output::note("there are no contacts yet; add one with `chatterbox contact add NAME < CARD`");
    } else {
        output.text(&output::table(&rows))?;
    }
    if listing.blocked.is_empty() {
        return Ok(());
    }
    let mut rows = vec![["BLOCKED", "FINGERPRINT", "ON THEIR CARD"].map(str::to_owned).to_vec()];
    rows.extend(context.people.blocked().iter().map(|contact| {
        let profile = contact.profile.profile();
        let fingerprint: String = profile.identity.fingerprint().groups().chars().take(19).collect();
        let card = format!("{} at {}", profile.name, profile.server.host_port());
        vec![output::safe(&contact.name).into_owned(), format!("{fingerprint} …"), card]
    }));
    output.text(&format!("\n{}", output::table(&rows)))
}

fn faults<'a>(cards: &'a Contacts, directory: &'a Path) -> impl Iterator<Item = Faulty> + 'a {
    cards.faults().iter().map(|(file, fault)| Faulty {
        file: directory.join(file).to_string_lossy().into_owned(),
        problem: cause(fault),
    })
}

fn blocked(contact: &Contact) -> Blocked<'_> {
    let profile = contact.profile.profile();
    let fingerprint = profile.identity.fingerprint().to_string();
    Blocked { name: &contact.name, account_name: &profile.name, fingerprint }
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn listed<'a>(context: &Context, verified: &Verified, contact: &'a Contact) -> Listed<'a> {
    let profile = contact.profile.profile();
    Listed {
        name: &contact.name,
        account_name: &profile.name,
        fingerprint: profile.identity.fingerprint().to_string(),
        server: profile.server.to_string(),
        version: profile.version,
        verified: verified.contains(&profile.identity.fingerprint()),
        file: context.card_file(&contact.name).to_string_lossy().into_owned(),
    }
}

fn show(context: &Context, name: &str, output: &mut Output) -> Result<(), Failure> {
    let doing = "showing a contact";
    let contact = context.contact(doing, name)?;
    let newest = context.newest(doing, contact)?;
    let profile = newest.profile();
    let on_card = contact.profile.profile().version;
    // What they have sent since counts, and the person's file stays as it is.
    let older = if on_card == profile.version { String::new() } else { format!("version in the file: {on_card}\n") };
    output.text(&format!(
        "name: {}\non their card: {}\nfingerprint: {}\nverified: {}\nserver: {}\nversion: {}\nfile: {}\n{older}\
         card: {newest}\n",
        output::safe(&contact.name),
        profile.name,
        profile.identity.fingerprint().groups(),
        yes_or_no(Verified::load(&context.root).contains(&profile.identity.fingerprint())),
        profile.server,
        profile.version,
        output::shown(&context.card_file(&contact.name)),
    ))
}

fn remove(context: &Context, name: &str, output: &mut Output) -> Result<(), Failure> {
    let shown = output::safe(name).into_owned();
    let doing = format!("removing contact {shown}");
    let file = format!("{name}{}", contacts::SUFFIX);
    let faulty = context.people.contacts().faults().iter().any(|(faulty, _)| *faulty == *file);
    // A damaged card is removed like a good one: it is in the way of a better one.
    let (path, who) = if faulty {
        (context.root.contacts().join(file), None)
    } else {
        let contact = context.contact(&doing, name)?;
        (context.card_file(&contact.name), Some(contact.profile.identity().fingerprint()))
    };
    std::fs::remove_file(&path)
        .map_err(|error| Failure::io(&*doing, &error, "Check that the directory contacts/ is yours."))?;
    atomic::sync_directory(&RealDisk, &context.root.contacts()).map_err(|error| causes::disk(doing, &error))?;
    if let Some(who) = who.filter(|who| !context.people.is_blocked(who)) {
        block::note_conversations(context, &shown, &who);
    }
    output.text(&format!("removed {shown}\n"))
}
