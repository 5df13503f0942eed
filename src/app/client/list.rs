//! `chatterbox list`: conversations and requests.

use serde::Serialize;

use super::context::Context;
use super::conversations::{self, Directory, readable};
use super::output::{self, Output};
use super::verified::Verified;
use crate::app::failure::Failure;
use crate::client::contacts::REQUEST_CARD;

const EXAMPLES: &str = "\
Examples:
  chatterbox list
  chatterbox list --json | jq -r '.conversations[] | select(.messages > 0) | .path'";

/// List the conversations, and the requests of people we hold no card of.
///
/// A conversation is a directory under conversations/: `chatterbox show` prints it, and so does cat. A request waits
/// under requests/ until the sender's card is added to the contacts.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct List {
    /// Print JSON (docs/command-line.md lists the fields)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Listing {
    conversations: Vec<Conversation>,
    requests: Vec<Request>,
}

#[derive(Debug, Serialize)]
struct Conversation {
    name: String,
    path: String,
    id: Option<String>,
    subject: Option<String>,
    participants: Vec<Participant>,
    created: Option<String>,
    messages: usize,
    failed: usize,
    last: Option<String>,
}

#[derive(Debug, Serialize)]
struct Participant {
    name: String,
    fingerprint: Option<String>,
    verified: bool,
}

#[derive(Debug, Serialize)]
struct Request {
    name: String,
    path: String,
    card: Option<String>,
    messages: usize,
    last: Option<String>,
}

impl List {
    pub(super) fn run(self, context: &Context, output: &mut Output) -> Result<(), Failure> {
        let conversations = conversations::conversations(context)?;
        let requests = conversations::requests(context)?;
        let verified = Verified::load(&context.root);
        if self.json {
            return output.json(&Listing {
                conversations: conversations
                    .iter()
                    .map(|directory| conversation(context, &verified, directory))
                    .collect(),
                requests: requests.iter().map(request).collect(),
            });
        }
        if conversations.is_empty() && requests.is_empty() {
            output::note("there are no conversations yet; write to somebody with `chatterbox send NAME`");
        }
        if !conversations.is_empty() {
            output.text(&output::table(&conversation_rows(context, &verified, &conversations)))?;
        }
        if !requests.is_empty() {
            let gap = if conversations.is_empty() { "" } else { "\n" };
            output.text(&format!("{gap}{}", output::table(&request_rows(&requests))))?;
        }
        Ok(())
    }
}

fn conversation_rows(context: &Context, verified: &Verified, conversations: &[Directory]) -> Vec<Vec<String>> {
    let mut rows = vec![["CONVERSATION", "MESSAGES", "LAST", "WITH", "SUBJECT"].map(str::to_owned).to_vec()];
    rows.extend(conversations.iter().map(|directory| {
        let others = directory.others(&context.people).into_iter();
        let others: Vec<String> = others.map(|(name, who)| verified.marked(&name, who.as_ref())).collect();
        vec![
            output::safe(&directory.name).into_owned(),
            match directory.failed(&context.people) {
                0 => directory.messages.len().to_string(),
                failed => format!("{} ({failed} failed)", directory.messages.len()),
            },
            directory.last().map_or_else(|| "-".to_owned(), readable),
            output::safe(&others.join(", ")).into_owned(),
            output::safe(directory.subject().unwrap_or_default()).into_owned(),
        ]
    }));
    rows
}

fn request_rows(requests: &[Directory]) -> Vec<Vec<String>> {
    let mut rows = vec![["REQUEST", "MESSAGES", "LAST"].map(str::to_owned).to_vec()];
    rows.extend(requests.iter().map(|directory| {
        vec![
            output::safe(&directory.name).into_owned(),
            directory.messages.len().to_string(),
            directory.last().map_or_else(|| "-".to_owned(), readable),
        ]
    }));
    rows
}

fn conversation(context: &Context, verified: &Verified, directory: &Directory) -> Conversation {
    let described = directory.described.as_ref();
    let people = &context.people;
    let participant = |(name, who): &conversations::Participant| Participant {
        name: conversations::current_name(people, name, who.as_ref()),
        fingerprint: who.map(|fingerprint| fingerprint.to_string()),
        verified: who.is_some_and(|fingerprint| verified.contains(&fingerprint)),
    };
    Conversation {
        name: directory.name.clone(),
        path: directory.path.to_string_lossy().into_owned(),
        id: described.and_then(|described| described.id).map(|id| id.to_string()),
        subject: directory.subject().map(str::to_owned),
        participants: described.iter().flat_map(|described| &described.participants).map(participant).collect(),
        created: described.and_then(|described| described.created).map(|time| time.rfc3339()),
        messages: directory.messages.len(),
        failed: directory.failed(people),
        last: directory.last().map(|time| time.rfc3339()),
    }
}

fn request(directory: &Directory) -> Request {
    let card = directory.path.join(REQUEST_CARD);
    Request {
        name: directory.name.clone(),
        path: directory.path.to_string_lossy().into_owned(),
        card: card.is_file().then(|| card.to_string_lossy().into_owned()),
        messages: directory.messages.len(),
        last: directory.last().map(|time| time.rfc3339()),
    }
}
