//! `chatterbox new`: makes an outbox directory and prints its path.

use super::context::Context;
use super::outbox::Addressed;
use super::output::Output;
use crate::app::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  cp plan.pdf \"$(chatterbox new bob)\"
  chatterbox new -s standup bob carol";

/// Make the outbox directory of a conversation, and print its path.
///
/// Every file that is put into that directory is sent, as soon as nobody has it open for writing. Without a subject
/// it is outbox/NAME, or outbox/NAME,NAME for several; `mkdir` does the same. With a subject, a directory in the
/// outbox whose metadata.toml has the same subject and the same participants is used again; if there is none, one is
/// made.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct New {
    #[command(flatten)]
    addressed: Addressed,
}

impl New {
    pub(super) fn run(self, context: &Context, output: &mut Output) -> Result<(), Failure> {
        let doing = "making an outbox directory";
        let path = self.addressed.resolve(doing, context)?.directory(doing)?;
        output.path(&path)
    }
}
