//! `chatterbox card`: prints our card.

use super::context;
use super::output::Output;
use crate::app::failure::Failure;
use crate::client::root::Root;

const EXAMPLES: &str = "\
Examples:
  chatterbox card > alice.card
  chatterbox card | mail -s 'my card' bob@example.org
  chatterbox card --fingerprint         to read out over the phone";

/// Print our card, one line of text.
///
/// A card is public: it says our name, home server and public keys, signed. Mail it, paste it, put it on a page.
/// Whoever has it can write to us; to make sure that nobody changed it on the way, compare the fingerprint, which
/// `chatterbox contact show` prints on the other side and `chatterbox card --fingerprint` on this one.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Card {
    /// Print the fingerprint of our keys instead
    #[arg(long)]
    fingerprint: bool,
}

impl Card {
    pub(super) fn run(self, root: &Root, output: &mut Output) -> Result<(), Failure> {
        let own = context::own_profile(root)?;
        if self.fingerprint {
            return output.text(&format!("{}\n", own.identity().fingerprint().groups()));
        }
        output.text(&format!("{own}\n"))
    }
}
