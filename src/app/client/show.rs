//! `chatterbox show`: prints a conversation.

use std::collections::BTreeSet;

use super::context::Context;
use super::conversations::{self, Directory, Message, current_name, readable};
use super::gaps::Gaps;
use super::output::{self, Output};
use super::verified::Verified;
use crate::app::failure::{Exit, Failure};
use crate::client::delivery::{Delivery, State};
use crate::disk::open::{OpenError, RegularFile};
use crate::disk::real::RealDisk;
use crate::limits::SHOWN_BYTES_MAX;
use crate::wire::identity::{ConversationId, Fingerprint};

const EXAMPLES: &str = "\
Examples:
  chatterbox show bob
  chatterbox show bob,carol
  chatterbox show 2026-11-22-alice-bob-carol_standup
  chatterbox show bob | less";

/// Print a conversation: every message with its time, sender and file name, and for ours how far it got.
///
/// CONVERSATION is the name of a directory under conversations/ or requests/, a beginning that only one of them has,
/// or a contact's name, or several with commas, which mean the conversation with just these. Content is indented, so that no message
/// can pass for a heading; what is no text is only named. `cat` prints the exact bytes of a message.
///
/// States of delivery: queued (waits for a session), sealed (waits for the recipient's server), accepted (their
/// server has it), delivered (they have it), failed (and why).
///
/// A line "--- gap" stands where messages of somebody are missing; they are asked for again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Show {
    /// A directory's name, a beginning that only one has, or contacts
    conversation: String,
}

impl Show {
    /// Of one directory, by its whole name.
    pub(super) fn of(conversation: String) -> Self {
        Self { conversation }
    }

    pub(super) fn run(self, context: &Context, output: &mut Output) -> Result<(), Failure> {
        let doing = format!("showing {}", output::safe(&self.conversation));
        let directory = find(context, &doing, self.conversation.trim_end_matches('/'))?;
        let verified = Verified::load(&context.root);
        let mut gaps = Gaps::of(context, &directory);
        for (position, message) in directory.messages.iter().enumerate() {
            let space = if position == 0 { "" } else { "\n" };
            let delivery = directory.delivery(message);
            let missing = gaps.before(delivery.as_ref());
            let heading = heading(context, &verified, delivery, message);
            let body = body(&directory, message, output.is_terminal());
            output.text(&format!("{space}{missing}{heading}{body}"))?;
            if output.is_closed() {
                return Ok(());
            }
        }
        output.text(&gaps.rest())
    }
}

/// What a name on the command line means: the directory so called, a contact's conversation, or a unique beginning.
fn find(context: &Context, doing: &str, wanted: &str) -> Result<Directory, Failure> {
    let mut all = conversations::conversations(context)?;
    let own = all.len();
    all.extend(conversations::requests(context)?);
    let mut found: Vec<usize> = (0..all.len()).filter(|index| all[*index].name == wanted).take(1).collect();
    // What somebody wrote before they were blocked is still there to be read.
    let people = &context.people;
    let contact = people.contacts().by_name(wanted).or_else(|| people.blocked().by_name(wanted));
    if let Some(contact) = contact.filter(|_| found.is_empty()) {
        found = with_contacts(context, &all[..own], &[contact.profile.identity().fingerprint()]);
    }
    if found.is_empty() {
        let several = wanted.split(',').map(|name| people.contacts().by_name(name));
        let several: Option<Vec<Fingerprint>> =
            several.map(|contact| Some(contact?.profile.identity().fingerprint())).collect();
        found = several.map_or_else(Vec::new, |several| with_contacts(context, &all[..own], &several));
    }
    if found.is_empty() && !wanted.is_empty() {
        found = (0..all.len()).filter(|index| all[*index].name.starts_with(wanted)).collect();
    }
    match found.as_slice() {
        [index] => Ok(all.swap_remove(*index)),
        [] => {
            let (cause, remedy) = match contact {
                Some(contact) => (
                    format!("there is no conversation with {} yet", output::safe(&contact.name)),
                    "Write to them with `chatterbox send`.",
                ),
                None => ("there is no such conversation or contact".into(), "See `chatterbox list`."),
            };
            Err(Failure::new(Exit::NoInput, doing, cause, remedy))
        }
        several => {
            let names: Vec<_> = several.iter().map(|index| output::safe(&all[*index].name)).collect();
            let cause = format!("this may mean {}", names.join(" or "));
            Err(Failure::new(Exit::Usage, doing, cause, "Write more of the name."))
        }
    }
}

/// Conversations with just these contacts. The one that `outbox/NAME,…` opens goes before others, which have subjects.
fn with_contacts(context: &Context, all: &[Directory], contacts: &[Fingerprint]) -> Vec<usize> {
    let contacts: BTreeSet<Fingerprint> = contacts.iter().copied().collect();
    let everybody: Vec<Fingerprint> = contacts.iter().copied().chain([context.people.own_fingerprint()]).collect();
    let usual = ConversationId::of_participants(&everybody);
    let only = |directory: &Directory| {
        let others = directory.others(&context.people).into_iter().map(|(_, who)| who);
        others.collect::<Option<BTreeSet<_>>>().is_some_and(|others| others == contacts)
    };
    let with: Vec<usize> = (0..all.len()).filter(|index| only(&all[*index])).collect();
    let id = |index: &usize| all[*index].described.as_ref().and_then(|described| described.id);
    let first: Vec<usize> = with.iter().copied().filter(|index| id(index) == Some(usual)).take(1).collect();
    if first.is_empty() { with } else { first }
}

/// `--- TIME  SENDER  FILE`, and a line with the states of delivery for ours.
fn heading(context: &Context, verified: &Verified, delivery: Option<Delivery>, message: &Message) -> String {
    let sender = match &delivery {
        Some(delivery) => {
            let name = current_name(&context.people, &delivery.from_name, Some(&delivery.from));
            verified.marked(&name, Some(&delivery.from))
        }
        None => "(sender unknown: .delivery/ does not say)".to_owned(),
    };
    let mut heading =
        format!("--- {}  {}  {}\n", readable(message.time), output::safe(&sender), output::safe(&message.name));
    if let Some(delivery) = delivery.filter(|delivery| !delivery.recipients.is_empty()) {
        heading.push_str(&format!("    {}\n", output::safe(&states(context, &delivery))));
    }
    heading
}

fn states(context: &Context, delivery: &Delivery) -> String {
    let state = |state: &State| match state {
        State::Failed(reason) => format!("failed ({reason})"),
        other => other.to_string(),
    };
    let recipients = delivery.recipients.iter().map(|recipient| {
        let name = current_name(&context.people, &recipient.name, Some(&recipient.fingerprint));
        format!("{name}: {}", state(&recipient.state))
    });
    recipients.collect::<Vec<_>>().join(", ")
}

/// The content, indented, if it is text; else where it is.
fn body(directory: &Directory, message: &Message, terminal: bool) -> String {
    let path = directory.path.join(&message.name);
    let shown = output::shown(&path);
    let content = match RegularFile::open(&RealDisk, &path).and_then(|file| file.read(SHOWN_BYTES_MAX)) {
        Ok(content) => content,
        Err(OpenError::TooLarge { size, .. }) => return format!("  [{size} bytes, {shown}]\n"),
        Err(error) => return format!("  [{error}, {shown}]\n"),
    };
    let text = match std::str::from_utf8(&content) {
        // A NUL is in no text, and in nearly every other file.
        Ok(text) if !text.contains('\0') => text,
        _ => return format!("  [{} bytes, {shown}]\n", content.len()),
    };
    let line = |line: &str| if terminal { format!("  {}\n", output::safe_line(line)) } else { format!("  {line}\n") };
    text.lines().map(line).collect()
}
