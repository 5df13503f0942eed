//! `conversations/X/settings.toml`: what a person sets for one conversation, in place of what `chatterbox.toml` says
//! (design, section 2).
//!
//! ```toml
//! acknowledge = false
//! expire = "30 days"        # or "never"
//! ```

use std::time::Duration;

use super::engine::Engine;
use super::policy::Policy;
use crate::disk::open::{self, OpenError};
use crate::limits::{EXPIRE_MAX_MS, EXPIRE_MIN_MS, METADATA_FILE_BYTES_MAX};
use crate::wire::identity::ConversationId;

/// The file's name.
pub const FILE: &str = "settings.toml";

const ACKNOWLEDGE: &str = "acknowledge";
const EXPIRE: &str = "expire";
const NEVER: &str = "never";

/// What counts for one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationSettings {
    /// Whether its messages are acknowledged.
    pub acknowledge: bool,
    /// The age at which its messages are erased; none where they are kept.
    pub expire: Option<Duration>,
    /// Whether what a person set could be read.
    pub is_known: bool,
}

impl ConversationSettings {
    /// Where the conversation says nothing of its own.
    pub fn of(policy: &Policy) -> Self {
        Self { acknowledge: policy.acknowledge, expire: policy.expire, is_known: true }
    }

    /// What the file says, and the account where it says nothing.
    ///
    /// # Errors
    /// What is wrong with it, and what to do, a sentence each.
    pub fn parse(text: &str, policy: &Policy) -> Result<Self, String> {
        let table: toml::Table = toml::from_str(text)
            .map_err(|error| format!("This is no TOML: {}.\nCorrect it, or remove the file.", error.message()))?;
        let mut settings = Self::of(policy);
        for (key, value) in &table {
            match key.as_str() {
                ACKNOWLEDGE => {
                    let wrong = "acknowledge must be true or false, without quotes.\nCorrect that line, or remove it.";
                    settings.acknowledge = value.as_bool().ok_or(wrong)?;
                }
                EXPIRE => settings.expire = expire(value)?,
                _ => {
                    return Err(format!(
                        "There is no setting called {key:?} for a conversation; there are: {ACKNOWLEDGE}, {EXPIRE}.\n\
                         Correct that line, or remove it."
                    ));
                }
            }
        }
        Ok(settings)
    }
}

fn expire(value: &toml::Value) -> Result<Option<Duration>, String> {
    let bounds = Duration::from_millis(EXPIRE_MIN_MS)..=Duration::from_millis(EXPIRE_MAX_MS);
    let time = |text: &str| humantime::parse_duration(text).ok().filter(|time| bounds.contains(time));
    let wrong = "expire must be an age such as \"30 days\", of a minute to a hundred years, or \"never\".\n\
                 Correct that line, or remove it.";
    match value.as_str() {
        Some(NEVER) => Ok(None),
        Some(text) => time(text).map(Some).ok_or_else(|| wrong.to_owned()),
        None => Err(wrong.to_owned()),
    }
}

impl Engine {
    /// What counts for a conversation now. What is wrong in its file is said beside it, and then nothing is acknowledged or
    /// erased there until it is mended: what a person meant by it is not known.
    pub(super) fn settings_of(&mut self, id: &ConversationId) -> ConversationSettings {
        let usual = ConversationSettings::of(&self.policy);
        let Some(place) = self.conversations.current_place(&self.root, id) else { return usual };
        let path = place.join(FILE);
        let read = open::read_regular(self.root.disk(), &self.root.join(&path), METADATA_FILE_BYTES_MAX);
        let parsed = match read {
            Err(OpenError::Absent) => Ok(usual),
            Err(error) => Err(format!("This file cannot be read: {error}.\nMend or remove it.")),
            Ok(bytes) => match std::str::from_utf8(&bytes) {
                Ok(text) => ConversationSettings::parse(text, &self.policy),
                Err(_) => Err("This is no UTF-8 text.\nCorrect it, or remove the file.".to_owned()),
            },
        };
        match parsed {
            Ok(settings) => {
                self.outbox.clear(&self.root, &path);
                settings
            }
            Err(text) => {
                self.outbox.refuse(&self.root, &path, &text);
                ConversationSettings { acknowledge: false, expire: None, is_known: false }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::dialer::Way;

    #[test]
    fn a_conversation_says_otherwise_than_the_account_or_nothing() {
        let policy = Policy { expire: Some(Duration::from_secs(60)), ..Policy::by_default(&Way::Tor) };
        let parse = |text: &str| ConversationSettings::parse(text, &policy);
        assert_eq!(parse(""), Ok(ConversationSettings::of(&policy)));
        assert_eq!(parse("").unwrap().expire, Some(Duration::from_secs(60)));
        assert_eq!(parse("expire = \"never\"").unwrap().expire, None);
        assert_eq!(parse("expire = \"30d\"").unwrap().expire, Some(Duration::from_secs(30 * 86_400)));
        assert!(!parse("acknowledge = false").unwrap().acknowledge);
        for wrong in ["acknowledge = \"no\"", "expire = 30", "expire = \"59s\"", "expire = \"101 years\"", "x = 1", "="]
        {
            let text = parse(wrong).unwrap_err();
            assert_eq!(text.lines().count(), 2, "{text}");
        }
    }
}
