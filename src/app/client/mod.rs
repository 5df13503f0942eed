//! `chatterbox`, the command line for people and scripts: one command a file.
//!
//! It works on the directory only, as any other UI does: no command opens a connection, and none needs a daemon. What
//! it queues, `chatterboxd` sends.

mod block;
mod cancel;
mod card;
pub(super) mod causes;
mod contact;
mod context;
mod conversations;
mod doctor;
mod dropbox;
mod gaps;
mod hints;
mod init;
mod list;
mod message;
mod new;
mod outbox;
mod output;
mod profile;
mod request;
mod send;
mod show;
mod status;
mod verified;
mod verify;
mod wait;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use self::context::Context;
use self::output::Output;
use crate::app::failure::{Exit, Failure};

/// The program's name, in messages and as the owner of its scratch directory.
const PROGRAM: &str = "chatterbox";

const EXAMPLES: &str = "\
Examples:
  chatterbox init alice --server chatterbox-server://HOST:PORT/KEY
  chatterbox card > alice.card          give this to the people you want to hear from
  chatterbox contact add bob < bob.card
  echo 'Lunch at noon?' | chatterbox send bob
  chatterbox list
  chatterbox show bob

Errors go to standard error; exit codes are those of sysexits.h (docs/exit-codes.md).";

/// Private messaging whose interface is the filesystem.
///
/// A message is a file. Dropping it into outbox/NAME/ sends it; what arrives stands under conversations/. What this
/// program does to messages is what mv, cat and ls do: it works on the directory only, and chatterboxd does the
/// sending.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, max_term_width = 100, after_help = EXAMPLES, arg_required_else_help = true)]
struct CommandLine {
    /// The account's directory [default: $CHATTERBOX_ROOT, else ~/.chatterbox]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Card(card::Card),
    Profile(profile::ProfileCommand),
    Contact(contact::ContactCommand),
    Request(request::RequestCommand),
    Dropbox(dropbox::DropboxCommand),
    Verify(verify::Verify),
    New(new::New),
    Send(send::Send),
    Wait(wait::Wait),
    Cancel(cancel::Cancel),
    List(list::List),
    Show(show::Show),
    Status(status::StatusCommand),
    Doctor(doctor::Doctor),
}

/// Runs a command line, the program's name first, and says how it ended.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let line = match CommandLine::try_parse_from(arguments) {
        Ok(line) => line,
        Err(refused) => {
            // Help that nobody reads to its end is no failure, and neither is a closed stderr.
            let _ = refused.print();
            return match refused.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(Exit::Usage as u8),
            };
        }
    };
    match line.run(&mut Output::stdout()) {
        Ok(exit) => exit,
        Err(failure) => failure.report(PROGRAM),
    }
}

impl CommandLine {
    fn run(self, output: &mut Output) -> Result<ExitCode, Failure> {
        let root = crate::app::root::root(self.root)?;
        let done = match self.command {
            Command::Init(command) => command.run(&root, output),
            Command::Card(command) => command.run(&root, output),
            Command::Profile(command) => command.run(&root, output),
            Command::Contact(command) => command.run(Context::open(root)?, output),
            Command::Request(command) => command.run(&Context::open(root)?, output),
            Command::Dropbox(command) => command.run(&Context::open(root)?, output),
            Command::Verify(command) => command.run(&Context::open(root)?, output),
            Command::New(command) => command.run(&Context::open(root)?, output),
            Command::Send(command) => command.run(&Context::open(root)?, output),
            Command::Wait(command) => command.run(&Context::open(root)?, output),
            Command::Cancel(command) => command.run(&Context::open(root)?, output),
            Command::List(command) => command.run(&Context::open(root)?, output),
            Command::Show(command) => command.run(&Context::open(root)?, output),
            Command::Status(command) => command.run(&root, output),
            // It may work and yet find something.
            Command::Doctor(command) => return command.run(&root, output),
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_says_what_it_is() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&CommandLine::command());
    }
}
