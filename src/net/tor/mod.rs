//! Arti in this process: the dialer `tor`, and onion services.
//!
//! | module | what |
//! |---|---|
//! | `bootstrap` | from nothing to connected, and what is in the way |
//! | `configuration` | arti's configuration |
//! | [`identity`] | the key of an onion service, and its name |
//! | [`onion`] | an onion service as a door |
//! | `remedy` | what to do when its files are damaged |
//!
//! It connects to the Tor network by itself and goes on trying; what is in its way is told as [`Progress`]. Once it has
//! been ready it stays so: arti notices that a network is back only when somebody tries, so whoever dials goes on trying.

mod bootstrap;
mod configuration;
pub mod identity;
pub mod onion;
mod remedy;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arti_client::config::BoolOrAuto;
use arti_client::{DataStream, ErrorKind, HasKind as _, StreamPrefs, TorClient};
use tokio::sync::watch;
use tor_rtcompat::PreferredRuntime;

pub use self::configuration::Setup;
use super::dialer::Progress;
use super::isolation::Isolation;
use crate::wire::address::ServerAddress;

type Client = Arc<TorClient<PreferredRuntime>>;

/// A client of the Tor network. Clones share it.
#[derive(Clone)]
pub struct Tor {
    setup: Arc<Setup>,
    client: watch::Receiver<Option<Client>>,
    progress: watch::Receiver<Progress>,
}

impl Tor {
    /// Begins to connect. Needs a running tokio runtime.
    pub fn start(setup: Setup) -> Self {
        // Fails only where there is one already, which is this one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (told, progress) = watch::channel(Progress::default());
        let (made, client) = watch::channel(None);
        let setup = Arc::new(setup);
        tokio::spawn(bootstrap::run(Arc::clone(&setup), made, told));
        Self { setup, client, progress }
    }

    /// How far it is.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Opens a stream to `server`, by an exit or, for an onion name, to the onion service.
    ///
    /// # Errors
    /// What arti says, in words.
    pub async fn connect(&self, server: &ServerAddress, isolation: &Isolation) -> Result<DataStream, String> {
        let Some(client) = self.client().await else { return Err("Tor has ended".to_owned()) };
        let mut preferences = StreamPrefs::new();
        preferences.set_isolation(isolation.token()).connect_to_onion_services(BoolOrAuto::Explicit(true));
        let connecting = client.connect_with_prefs((server.host(), server.port()), &preferences).await;
        connecting.map_err(|error| match error.kind() {
            ErrorKind::ForbiddenStreamTarget => {
                "Tor does not lead to addresses of private networks. Set dialer = \"direct\", or have the server run as an \
                 onion service"
                    .to_owned()
            }
            _ => in_words(&error),
        })
    }
}

impl Tor {
    /// Arti, once it could be made.
    async fn client(&self) -> Option<Client> {
        let mut made = self.client.clone();
        made.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl fmt::Debug for Tor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tor").field("progress", &*self.progress.borrow()).finish_non_exhaustive()
    }
}

/// Whether `path` is a file with arti's configuration, as [`Setup`] names it.
///
/// # Errors
/// What is wrong, in words.
pub fn check_private_network(path: &Path) -> Result<(), String> {
    configuration::read(path).map(drop)
}

/// An error of arti's with what caused it, on one line. Each says only its own part.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string().trim_start_matches("tor: ").to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}
