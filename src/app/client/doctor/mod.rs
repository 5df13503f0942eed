//! `chatterbox doctor`: looks through a root for what is wrong, and says what to do about it.
//!
//! | file | idea |
//! |---|---|
//! | `findings` | what was found, bounded |
//! | `checkup` | what all checks share: reading, listing, the running daemon |
//! | `layout` | directories, owners and modes: all that `--repair` mends |
//! | `account` | settings, keys, profile, contacts |
//! | `keys` | the daemon's state |
//! | `journal` | the log, the spool, scratch: only while no daemon runs |
//! | `conversations` `outbox` `dropboxes` `hooks` `attention` | what people see |
//! | `report` | as text and as JSON |

mod account;
mod attention;
mod checkup;
mod conversations;
mod dropboxes;
mod findings;
mod hooks;
mod journal;
mod keys;
mod layout;
mod outbox;
mod report;

use std::process::ExitCode;

use self::checkup::Checkup;
use super::context;
use super::output::Output;
use crate::app::failure::{Exit, Failure};
use crate::client::root::Root;

const EXAMPLES: &str = "\
Examples:
  chatterbox doctor
  chatterbox doctor --repair
  chatterbox doctor --json | jq -r '.findings[] | select(.severity == \"error\") | .path'";

/// Check the account's directory, and say what is wrong and what to do.
///
/// Works on the directory only, while chatterboxd runs and while it does not. While it runs, its journal, its spool and
/// its scratch files are left out, since they change all the time. Nothing is changed without --repair.
///
/// The exit code is 0 if no error and no warning is left, else 65.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Doctor {
    /// Mend what is safe: make missing directories, take permissions back from others
    #[arg(long)]
    repair: bool,
    /// Print JSON (docs/command-line.md lists the fields)
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self, root: &Root, output: &mut Output) -> Result<ExitCode, Failure> {
        // One of the two may be lost, which is to be found. Without both this is no account.
        if [root.config(), root.profile()].iter().all(|path| std::fs::symlink_metadata(path).is_err()) {
            context::own_profile(root)?;
        }
        let checkup = examine(Checkup::begin(root, self.repair));
        match self.json {
            true => output.json(&report::Json::new(&checkup))?,
            false => output.text(&report::text(&checkup))?,
        }
        let healthy = checkup.findings.is_healthy();
        Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(Exit::Data as u8) })
    }
}

fn examine(mut checkup: Checkup<'_>) -> Checkup<'_> {
    // First of all, so that nobody else comes in while the rest is mended.
    layout::check(&mut checkup);
    // What the log will write anew is not damaged, wherever it is found below.
    let log = journal::inspect(&mut checkup);
    let people = account::check(&mut checkup);
    let known = keys::check(&mut checkup, people.as_ref());
    conversations::check(&mut checkup, &known);
    outbox::check(&mut checkup);
    hooks::check(&mut checkup);
    dropboxes::check(&mut checkup);
    checkup.while_no_daemon_runs(|checkup| journal::check(checkup, log, &known));
    attention::check(&mut checkup);
    checkup
}
