//! `chatterbox profile`: changes what our card says.

use clap::Subcommand;

use super::output::{self, Output};
use super::{causes, context, init};
use crate::app::failure::{Exit, Failure};
use crate::app::settings::Settings;
use crate::client::account::{Account, RenewError};
use crate::client::root::Root;
use crate::disk::lock;
use crate::net::dialer::Way;

const SET_EXAMPLES: &str = "\
Examples:
  chatterbox profile set --server chatterbox-server://HOST:PORT/KEY
  chatterbox profile set                sign it anew, with a higher version alone";

/// Change what your card says.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct ProfileCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Sign the profile anew with the same keys and a higher version: with another home server, or saying the same.
    ///
    /// Whoever you write to learns of it with your next message to them, and answers to the new server. Nobody has to
    /// compare keys again: they are the same. chatterboxd reads it when it starts.
    ///
    /// Before you move, let chatterboxd fetch what lies at the old server: it is asked only while its address is in the
    /// profile. Those who have not heard of the new server yet go on writing to the old one, which takes it and says
    /// nothing. To fetch that, move back for a while in the same way.
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// Your new home server: chatterbox-server://HOST:PORT/KEY, as its operator gives it
        #[arg(long, value_name = "ADDRESS")]
        server: Option<String>,
    },
}

impl ProfileCommand {
    pub(super) fn run(self, root: &Root, output: &mut Output) -> Result<(), Failure> {
        let Action::Set { server } = self.action;
        let doing = "changing the profile";
        context::own_profile(root)?;
        let server = server.map(|given| init::server(doing, &given)).transpose()?;
        let moves = server.is_some();
        let leads_nowhere = server.as_ref().is_some_and(|server| {
            server.is_onion() && Settings::load(root).is_ok_and(|settings| settings.dialer == Way::Direct)
        });
        let account = Account::renew(root, server).map_err(|error| refused(doing, &error))?;
        // Where that cannot be told it is said too often rather than not at all.
        if !matches!(lock::is_held(&root.lock()), Ok(None)) {
            output::note("note: restart chatterboxd, which goes on with the old profile until then");
        }
        if leads_nowhere {
            output::note(
                "warning: the dialer direct cannot reach an onion service: set dialer = \"tor\" or a proxy in chatterbox.toml",
            );
        }
        if moves {
            output::note("note: who has not heard from you since goes on writing to the old server; write to them");
        }
        output.text(&format!("{}\n", account.profile))
    }
}

fn refused(doing: &str, error: &RenewError) -> Failure {
    match error {
        RenewError::State(error) => causes::state(doing, error),
        RenewError::Profile(error) => Failure::new(Exit::Data, doing, error, "Make a new account."),
        RenewError::Disk(error) => causes::disk(doing, error),
    }
}
