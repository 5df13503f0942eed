//! `.delivery/NAME`: what became of a message, for programs (design, section 2).
//!
//! ```text
//! id: 32 hex digits
//! from: FINGERPRINT NAME
//! counter: NUMBER
//! file: NAME
//! outbox: PATH                               (ours only; relative to the root, escaped)
//! conversation: 32 hex digits                (in requests/ only)
//! to: FINGERPRINT STATE TIME NAME            (ours only, one a recipient)
//! to: FINGERPRINT failed TIME NAME: REASON
//! progress: FINGERPRINT DONE TOTAL           (bytes that a recipient's server has, while it gets a large content)
//! ```

use std::fmt;

use crate::clock::Timestamp;
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};

/// The directory's name.
pub const DIRECTORY: &str = ".delivery";

/// More than any such file has: a line for each of 20 participants, of names that are files' names, and reasons.
pub const BYTES_MAX: u64 = 64 * 1024;

/// How far a message is on its way to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Taken; waits for a session.
    Queued,
    /// Sealed; waits for the recipient's server.
    Sealed,
    /// The recipient's server has it.
    Accepted,
    /// The recipient's daemon acknowledged it.
    Delivered,
    /// Given up, and why.
    Failed(String),
}

/// Why a message has failed that its author took back; where it may have arrived by then, the reason begins so.
pub const CANCELLED: &str = "cancelled";

impl State {
    /// Whether its author took it back.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Failed(reason) if reason.starts_with(CANCELLED))
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sealed => "sealed",
            Self::Accepted => "accepted",
            Self::Delivered => "delivered",
            Self::Failed(_) => "failed",
        }
    }

    /// States rise. What is not delivered may be sealed anew, and what was given up may have arrived all the same; nothing
    /// comes behind `delivered`.
    fn may_become(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::Delivered, _) => false,
            (Self::Failed(before), Self::Failed(reason)) => before != reason,
            (Self::Failed(_), _) => *next == Self::Delivered,
            (_, Self::Queued) => false,
            (Self::Accepted, Self::Sealed) => true,
            (_, Self::Sealed) => *self == Self::Queued,
            (_, Self::Accepted) => *self != Self::Accepted,
            (_, Self::Delivered | Self::Failed(_)) => true,
        }
    }

    fn parse(word: &str, reason: Option<&str>) -> Option<Self> {
        Some(match word {
            "queued" => Self::Queued,
            "sealed" => Self::Sealed,
            "accepted" => Self::Accepted,
            "delivered" => Self::Delivered,
            "failed" => Self::Failed(reason.unwrap_or_default().to_owned()),
            _ => return None,
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// One recipient's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Who.
    pub fingerprint: Fingerprint,
    /// Their name when the line was written, escaped.
    pub name: String,
    /// How far.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Of a large content that is under way: the bytes that their server has, and those of the whole.
    pub progress: Option<(u64, u64)>,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The message's id.
    pub id: MessageId,
    /// Its author.
    pub from: Fingerprint,
    /// The author's name when the file was written, escaped.
    pub from_name: String,
    /// The author's own count in the conversation.
    pub counter: u64,
    /// The message's name beside `.delivery/`.
    pub file: String,
    /// Where one of ours came from, escaped, relative to the root.
    pub outbox: Option<String>,
    /// Where one in `requests/` belongs.
    pub conversation: Option<ConversationId>,
    /// Everybody one of ours goes to.
    pub recipients: Vec<Recipient>,
}

impl Delivery {
    /// Sets one recipient's state, and hands out their line; nothing if they are no recipient, or the state does not follow on
    /// the one that is there.
    pub fn set(&mut self, recipient: &Fingerprint, state: State, now: Timestamp) -> Option<&Recipient> {
        let line = self.recipients.iter_mut().find(|line| line.fingerprint == *recipient)?;
        if !line.state.may_become(&state) {
            return None;
        }
        line.state = state;
        line.since = now;
        line.progress = None;
        Some(line)
    }

    /// Sets how much of a large content one recipient's server has; nothing if they are no recipient.
    pub fn set_progress(&mut self, recipient: &Fingerprint, progress: (u64, u64)) {
        if let Some(line) = self.recipients.iter_mut().find(|line| line.fingerprint == *recipient) {
            line.progress = Some(progress);
        }
    }

    /// Parses the file; lines that this version does not know are passed over.
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let (from, from_name) = field("from")?.split_once(' ')?;
        let recipients = text.lines().filter_map(|line| parse_recipient(line.strip_prefix("to: ")?));
        let mut recipients: Vec<Recipient> = recipients.collect();
        for (of, progress) in text.lines().filter_map(|line| parse_progress(line.strip_prefix("progress: ")?)) {
            let line = recipients.iter_mut().find(|line| line.fingerprint == of);
            line.into_iter().for_each(|line| line.progress = Some(progress));
        }
        Some(Self {
            id: MessageId::from_hex(field("id")?)?,
            from: Fingerprint::from_hex(from)?,
            from_name: from_name.to_owned(),
            counter: field("counter")?.parse().ok()?,
            file: field("file")?.to_owned(),
            outbox: field("outbox").map(str::to_owned),
            conversation: field("conversation").and_then(ConversationId::from_hex),
            recipients,
        })
    }
}

fn parse_recipient(line: &str) -> Option<Recipient> {
    let mut words = line.splitn(4, ' ');
    let fingerprint = Fingerprint::from_hex(words.next()?)?;
    let word = words.next()?;
    let since = Timestamp::parse_rfc3339(words.next()?)?;
    let rest = words.next()?;
    let (name, reason) = match rest.split_once(": ") {
        Some((name, reason)) if word == "failed" => (name, Some(reason)),
        _ => (rest, None),
    };
    Some(Recipient { fingerprint, name: name.to_owned(), state: State::parse(word, reason)?, since, progress: None })
}

fn parse_progress(line: &str) -> Option<(Fingerprint, (u64, u64))> {
    let (of, rest) = line.split_once(' ')?;
    let (done, total) = rest.split_once(' ')?;
    Some((Fingerprint::from_hex(of)?, (done.parse().ok()?, total.parse().ok()?)))
}

impl fmt::Display for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "id: {}", self.id)?;
        writeln!(formatter, "from: {} {}", self.from, self.from_name)?;
        writeln!(formatter, "counter: {}", self.counter)?;
        writeln!(formatter, "file: {}", self.file)?;
        if let Some(outbox) = &self.outbox {
            writeln!(formatter, "outbox: {outbox}")?;
        }
        if let Some(conversation) = &self.conversation {
            writeln!(formatter, "conversation: {conversation}")?;
        }
        for Recipient { fingerprint, name, state, since, .. } in &self.recipients {
            write!(formatter, "to: {fingerprint} {state} {} {name}", since.rfc3339())?;
            match state {
                State::Failed(reason) => writeln!(formatter, ": {}", reason.replace('\n', " "))?,
                _ => writeln!(formatter)?,
            }
        }
        for Recipient { fingerprint, progress, .. } in &self.recipients {
            if let Some((done, total)) = progress {
                writeln!(formatter, "progress: {fingerprint} {done} {total}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_comes_back_as_written() {
        let recipient = |state| Recipient {
            fingerprint: Fingerprint([2; 32]),
            name: "bob with a space".into(),
            state,
            since: Timestamp::from_micros(1_700_000_000_000_001),
            progress: None,
        };
        let mut delivery = Delivery {
            id: MessageId([1; 16]),
            from: Fingerprint([3; 32]),
            from_name: "alice".into(),
            counter: 4,
            file: "2026-11-22T101530.123456Z-alice-a b.txt".into(),
            outbox: Some("outbox/bob/a b.txt".into()),
            conversation: None,
            recipients: vec![recipient(State::Queued), recipient(State::Failed("gone: for good".into()))],
        };
        assert_eq!(Delivery::parse(&delivery.to_string()), Some(delivery.clone()));
        delivery.set_progress(&Fingerprint([2; 32]), (11_264, 100_000));
        assert!(delivery.to_string().ends_with(" 11264 100000\n"));
        assert_eq!(Delivery::parse(&delivery.to_string()), Some(delivery.clone()));
        delivery.set(&Fingerprint([2; 32]), State::Accepted, Timestamp::from_micros(9));
        assert!(delivery.to_string().contains(" accepted 1970-01-01T00:00:00.000009Z bob with a space\n"));
    }

    #[test]
    fn states_only_rise_but_for_what_is_sealed_anew_and_what_was_given_up_and_arrived() {
        let failed = |reason: &str| State::Failed(reason.into());
        let states = [State::Queued, State::Sealed, State::Accepted, State::Delivered, failed("a"), failed("b")];
        let (yes, no) = (true, false);
        // To:      queued sealed accepted delivered a b
        let table = [
            [no, yes, yes, yes, yes, yes], // from queued
            [no, no, yes, yes, yes, yes],  // sealed
            [no, yes, no, yes, yes, yes],  // accepted
            [no, no, no, no, no, no],      // delivered
            [no, no, no, yes, no, yes],    // failed, a
            [no, no, no, yes, yes, no],    // failed, b
        ];
        for (from, row) in states.iter().zip(table) {
            for (to, changes) in states.iter().zip(row) {
                let who = Fingerprint([2; 32]);
                let (name, since) = ("bob".into(), Timestamp::from_micros(1));
                let mut delivery = Delivery {
                    id: MessageId([1; 16]),
                    from: Fingerprint([3; 32]),
                    from_name: "alice".into(),
                    counter: 4,
                    file: "file".into(),
                    outbox: None,
                    conversation: None,
                    recipients: vec![Recipient { fingerprint: who, name, state: from.clone(), since, progress: None }],
                };
                delivery.set(&who, to.clone(), Timestamp::from_micros(9));
                let line = &delivery.recipients[0];
                let expected = if changes { (to, 9) } else { (from, 1) };
                assert_eq!((&line.state, line.since.micros()), expected, "{from:?} to {to:?}");
            }
        }
    }
}
