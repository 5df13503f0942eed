//! Where `show` says that messages are missing.

use super::context::Context;
use super::conversations::{Directory, current_name, readable};
use super::output;
use crate::client::delivery::Delivery;
use crate::client::gap_file::GapLine;

/// What is missing in a conversation and was not said yet.
pub(super) struct Gaps<'a> {
    context: &'a Context,
    left: Vec<GapLine>,
}

impl<'a> Gaps<'a> {
    /// All of it.
    pub(super) fn of(context: &'a Context, directory: &Directory) -> Self {
        Self { context, left: directory.gaps() }
    }

    /// What is missing in front of a message: of its author, with lower counters than its own.
    pub(super) fn before(&mut self, message: Option<&Delivery>) -> String {
        let Some(message) = message else { return String::new() };
        let is_before = |gap: &mut GapLine| gap.author == message.from && gap.to < message.counter;
        let before: Vec<GapLine> = self.left.extract_if(.., is_before).collect();
        before.iter().map(|gap| format!("{}\n", self.line(gap))).collect()
    }

    /// What is missing behind all that is there.
    pub(super) fn rest(self) -> String {
        self.left.iter().map(|gap| format!("\n{}", self.line(gap))).collect()
    }

    fn line(&self, gap: &GapLine) -> String {
        let name = current_name(&self.context.people, &gap.name, Some(&gap.author));
        let (name, since) = (output::safe(&name).into_owned(), readable(gap.since));
        let messages = if gap.count() == 1 { "message" } else { "messages" };
        if gap.is_withdrawn {
            return format!("--- withdrawn: {} {messages} of {name} will not come, by their word\n", gap.count());
        }
        match gap.count() {
            1 => format!("--- gap: 1 message of {name} is missing since {since}\n"),
            count => format!("--- gap: {count} messages of {name} are missing since {since}\n"),
        }
    }
}
