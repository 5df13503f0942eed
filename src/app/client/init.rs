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
use crate::net::dialer::{NoTor, UnknownWay, Way};
use crate::net::direct;
use crate::wire::address::ServerAddress;

const EXAMPLES: &str = "\
Examples:
  chatterbox init alice --server chatterbox-server://ADDRESS.onion:1984/KEY
  chatterbox init alice --server chatterbox-server://chat.example:1984/KEY --dialer socks5://127.0.0.1:9050
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
    /// How to connect: tor, socks5://ADDRESS:PORT (a Tor that runs already), or direct, which is not private
    #[arg(long, value_name = "DIALER", default_value = "tor")]
    dialer: String,
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
        let dialer = dialer(&doing, &self.dialer, &server)?;
        let settings = Settings::new(dialer).render();
        let is_leaky = dialer == Way::Direct && direct::is_public(&server);
        let is_local = dialer == Way::Tor && !direct::is_public(&server);
        let account = Account::create(root, &self.name, server, &settings, &mut OsRng)
            .map_err(|error| refused(&doing, &error))?;
        if is_leaky {
            output::note(
                "warning: dialer direct is not private, and this server is not in a private network: whoever watches \
                 the network sees which servers you talk to. `dialer = \"tor\"` in chatterbox.toml hides it.",
            );
        }
        if is_local {
            output::note(
                "warning: this server is in a private network, where Tor does not lead: set dialer = \"direct\" in \
                 chatterbox.toml, or have the server run as an onion service",
            );
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

fn dialer(doing: &str, given: &str, server: &ServerAddress) -> Result<Way, Failure> {
    let usage = |cause: String, remedy: &str| Failure::new(Exit::Usage, doing, cause, remedy);
    let way = given.parse().map_err(|error: UnknownWay| {
        let remedy = "Without --dialer it is tor, which needs nothing else.";
        usage(output::safe(&error.to_string()).into_owned(), remedy)
    })?;
    match way {
        Way::Direct if server.is_onion() => Err(usage(
            "the dialer direct cannot reach an onion service".to_owned(),
            "Leave --dialer out, or give a Tor that runs already: --dialer socks5://127.0.0.1:9050.",
        )),
        // Only where this build has a daemon can it be the one that will run.
        Way::Tor if cfg!(all(feature = "daemon", not(feature = "tor"))) => {
            Err(usage(NoTor.to_string(), "Give a Tor that runs already: --dialer socks5://127.0.0.1:9050."))
        }
        way => Ok(way),
    }
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
