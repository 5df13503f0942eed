//! `chatterbox init`: makes an account.

use std::str::FromStr as _;

use rand_core::OsRng;

use super::causes;
use super::output::{self, Output};
use crate::app::failure::{Exit, Failure};
use crate::app::settings::Settings;
use crate::client::account::{Account, CreateError};
use crate::client::root::Root;
use crate::name;
use crate::net::dialer::Dialer;
use crate::wire::address::ServerAddress;

const EXAMPLES: &str = "\
Examples:
  chatterbox init alice --server chatterbox-server://127.0.0.1:1984/KEY --dialer direct
  chatterbox init alice --server \"$(chatterbox-server address DIR)\" --dialer direct";

/// Make an account: its keys and its directory.
///
/// NAME is what you are called on your card: 1 to 64 of a-z 0-9 . _ -, starting with a letter or digit. Nobody
/// registers it; others may call you what they like. The keys never leave the directory, so back it up.
///
/// The card is printed: give it to the people you want to hear from, and get theirs. Then start chatterboxd.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Init {
    /// What you are called on your card: 1 to 64 of a-z 0-9 . _ -
    name: String,
    /// Your home server: chatterbox-server://HOST:PORT/KEY, as its operator gives it
    #[arg(long, value_name = "ADDRESS")]
    server: String,
    /// How to connect: direct, which is not private (this version has no other yet)
    #[arg(long, value_name = "DIALER")]
    dialer: Option<String>,
}

impl Init {
    pub(super) fn run(self, root: &Root, output: &mut Output) -> Result<(), Failure> {
        let shown = output::safe(&self.name).into_owned();
        let doing = format!("making account {shown}");
        if !name::is_account_name(&self.name) {
            let cause = format!("{shown:?} is no account name");
            let remedy = "Choose 1 to 64 of a-z 0-9 . _ - and start with a letter or digit.";
            return Err(Failure::new(Exit::Usage, doing, cause, remedy));
        }
        let server = server(&doing, &self.server)?;
        let dialer = dialer(&doing, self.dialer.as_deref())?;
        let settings = Settings { dialer }.render();
        let account = Account::create(root, &self.name, server, &settings, &mut OsRng)
            .map_err(|error| refused(&doing, &error))?;
        match dialer {
            Dialer::Direct => output::note(
                "warning: dialer direct is not private: whoever watches the network sees which servers you talk to",
            ),
        }
        output.text(&format!("{}\n", account.profile))
    }
}

/// A server's address, as a person gives it.
pub(super) fn server(doing: &str, given: &str) -> Result<ServerAddress, Failure> {
    ServerAddress::from_str(given).map_err(|error| {
        let remedy = "Ask whoever runs the server for the whole line that `chatterbox-server address DIR` prints there: \
                      chatterbox-server://HOST:PORT/KEY.";
        Failure::new(Exit::Data, doing, error, remedy)
    })
}

fn dialer(doing: &str, given: Option<&str>) -> Result<Dialer, Failure> {
    let remedy = "This version only has `--dialer direct`, which is not private: whoever watches the network sees \
                  which servers you talk to. It is for tests and closed networks.";
    let usage = |cause: String| Failure::new(Exit::Usage, doing, cause, remedy);
    let given =
        given.ok_or_else(|| usage("no dialer is given, and the default, tor, is not in this version".into()))?;
    given.parse().map_err(|_| usage(format!("there is no dialer called {:?}", output::safe(given))))
}

fn refused(doing: &str, error: &CreateError) -> Failure {
    match error {
        CreateError::Exists(_) => {
            let remedy = "Use the account that is there (`chatterbox card` shows it), or name another directory with \
                          --root DIR.";
            Failure::new(Exit::CannotCreate, doing, error, remedy)
        }
        CreateError::Name(error) => Failure::new(Exit::Usage, doing, error, "Choose another name."),
        CreateError::Disk(error) => causes::disk(doing, error),
    }
}
