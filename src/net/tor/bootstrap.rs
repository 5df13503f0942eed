//! From nothing to a client that is connected, and what a person hears of it meanwhile.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use arti_client::TorClient;
use arti_client::status::{Blockage, BlockageKind, BootstrapStatus};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Client, configuration, in_words};
use crate::limits::TOR_RETRY_MS;
use crate::net::dialer::Progress;

/// Makes a client and connects it, tells what happens, and goes on telling. Never ends.
pub(super) async fn run(
    directory: PathBuf,
    private_network: Option<PathBuf>,
    made: watch::Sender<Option<Client>>,
    told: watch::Sender<Progress>,
) {
    let mut teller = Teller { told, is_private: private_network.is_some(), is_ready: false };
    teller.tell("0%: starting".to_owned());
    let client = loop {
        match make(&directory, private_network.as_deref()).await {
            Ok(client) => break client,
            Err(problem) => teller.trouble(&problem),
        }
        sleep(Duration::from_millis(TOR_RETRY_MS)).await;
    };
    made.send_replace(Some(client.clone()));
    while let Err(problem) = connect(&client, &mut teller).await {
        teller.trouble(&problem);
        sleep(Duration::from_millis(TOR_RETRY_MS)).await;
    }
    teller.is_ready = true;
    teller.status(&client.bootstrap_status());
    let mut events = client.bootstrap_events();
    while let Some(status) = events.next().await {
        teller.status(&status);
    }
}

async fn make(directory: &Path, private_network: Option<&Path>) -> Result<Client, String> {
    let config = configuration::load(directory, private_network)?;
    TorClient::builder().config(config).create_unbootstrapped_async().await.map_err(|error| in_words(&error))
}

async fn connect(client: &Client, teller: &mut Teller) -> Result<(), String> {
    let mut events = client.bootstrap_events();
    let mut connecting = pin!(client.bootstrap());
    loop {
        tokio::select! {
            done = &mut connecting => return done.map_err(|error| in_words(&error)),
            Some(status) = events.next() => teller.status(&status),
        }
    }
}

/// Says how far it is, and logs what is new of it.
struct Teller {
    told: watch::Sender<Progress>,
    is_private: bool,
    is_ready: bool,
}

impl Teller {
    fn status(&self, status: &BootstrapStatus) {
        let percent = (status.as_frac() * 100.0).floor();
        match status.blocked() {
            Some(blockage) => self.trouble(&format!("{percent}%: {}", advice(&blockage))),
            None if self.is_ready => _ = self.tell("100%: connected".to_owned()),
            None => _ = self.tell(format!("{percent}%: connecting")),
        }
    }

    fn trouble(&self, text: &str) {
        if self.tell(text.to_owned()) {
            tracing::warn!("Tor: {text}");
        }
    }

    /// True if it is news.
    fn tell(&self, text: String) -> bool {
        let text = if self.is_private { format!("{text} (a private Tor network, which hides nothing)") } else { text };
        let told = Progress { is_ready: self.is_ready, text };
        self.told.send_if_modified(|progress| {
            let is_news = *progress != told;
            *progress = told;
            is_news
        })
    }
}

/// What is in the way, and what a person can do about it.
fn advice(blockage: &Blockage) -> String {
    let advice = match blockage.kind() {
        BlockageKind::Offline => "no connection to any relay gets through. Check the network; it is tried again",
        BlockageKind::Filtering => {
            "relays can be reached, but Tor's handshakes fail: the network may block Tor. A Tor with bridges and \
             dialer = \"socks5://ADDRESS:PORT\" gets around that"
        }
        BlockageKind::ClockSkewed => "the clock of this machine is wrong. Set it; it is tried again",
        BlockageKind::CantBootstrap => "no directory of relays can be had. Check the clock and the network",
        _ => "the Tor network cannot be reached. Check the network and the clock; it is tried again",
    };
    format!("{advice} ({})", blockage.message())
}
