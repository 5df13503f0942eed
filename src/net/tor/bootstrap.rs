//! From nothing to a client that is connected, and what a person hears of it meanwhile.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arti_client::TorClient;
use arti_client::status::{Blockage, BlockageKind, BootstrapStatus};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::remedy::{STATE, advise};
use super::{Client, Setup, configuration};
use crate::clock::Timestamp;
use crate::limits::{TOR_RETRY_MS, TOR_SLOW_MS};
use crate::net::dialer::Progress;

/// Makes a client and connects it, tells what happens, and goes on telling. Never ends.
pub(super) async fn run(setup: Arc<Setup>, made: watch::Sender<Option<Client>>, told: watch::Sender<Progress>) {
    let mut teller =
        Teller { told, is_private: setup.private_network.is_some(), is_ready: false, is_slow: false, percent: 0.0 };
    teller.tell("0%: starting".to_owned());
    let client = loop {
        match make(&setup).await {
            Ok(client) => break client,
            Err(problem) => teller.trouble(&problem),
        }
        sleep(Duration::from_millis(TOR_RETRY_MS)).await;
    };
    made.send_replace(Some(client.clone()));
    while let Err(problem) = connect(&setup, &client, &mut teller).await {
        teller.trouble(&problem);
        sleep(Duration::from_millis(TOR_RETRY_MS)).await;
    }
    teller.is_ready = true;
    tracing::info!("Tor: connected");
    teller.status(&client.bootstrap_status());
    let mut events = client.bootstrap_events();
    while let Some(status) = events.next().await {
        teller.status(&status);
    }
}

async fn make(setup: &Setup) -> Result<Client, String> {
    let config = configuration::load(setup)?;
    let made = TorClient::builder().config(config).create_unbootstrapped_async().await;
    made.map_err(|error| advise(&error, &setup.directory, STATE))
}

async fn connect(setup: &Setup, client: &Client, teller: &mut Teller) -> Result<(), String> {
    let mut events = client.bootstrap_events();
    let mut connecting = pin!(client.bootstrap());
    // Arti sees some causes late and some never: a wrong clock behind certificates that have expired, for example.
    let slow = sleep(Duration::from_millis(TOR_SLOW_MS));
    tokio::pin!(slow);
    loop {
        tokio::select! {
            done = &mut connecting => return done.map_err(|error| advise(&error, &setup.directory, STATE)),
            Some(status) = events.next() => if teller.status(&status) {
                teller.is_slow = false;
                slow.as_mut().reset(Instant::now() + Duration::from_millis(TOR_SLOW_MS));
            },
            () = &mut slow, if !teller.is_slow => {
                teller.is_slow = true;
                teller.status(&client.bootstrap_status());
            }
        }
    }
}

/// Says how far it is, and logs what is new of it.
struct Teller {
    told: watch::Sender<Progress>,
    is_private: bool,
    is_ready: bool,
    /// For [`TOR_SLOW_MS`] it came no further.
    is_slow: bool,
    /// The most of it that was done.
    percent: f32,
}

impl Teller {
    /// True if it has come further than ever.
    fn status(&mut self, status: &BootstrapStatus) -> bool {
        let percent = (status.as_frac() * 100.0).floor();
        match status.blocked() {
            Some(blockage) => self.trouble(&format!("{percent}%: {}", advice(&blockage, skew(status)))),
            None if self.is_ready => _ = self.tell("100%: connected".to_owned()),
            None if self.is_slow => self.trouble(&format!(
                "{percent}%: connecting, and coming no further. Check the network, whether it blocks Tor, and the clock: \
                 it says {}",
                clock()
            )),
            None => _ = self.tell(format!("{percent}%: connecting")),
        }
        let is_further = percent > self.percent;
        self.percent = self.percent.max(percent);
        is_further
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

/// What this machine takes for the time, to the minute: the person beside it knows whether that is so.
fn clock() -> String {
    format!("{} UTC", Timestamp::now().rfc3339().chars().take(16).collect::<String>().replace('T', " "))
}

/// How wrong the relays say our clock is, where they say so. Arti tells it only in the words of the whole status.
fn skew(status: &BootstrapStatus) -> Option<String> {
    let words = status.to_string();
    words.rsplit_once("Clock is ").map(|(_, skew)| skew.trim_end_matches(['.', ')']).to_owned())
}

/// What is in the way, and what a person can do about it.
fn advice(blockage: &Blockage, skew: Option<String>) -> String {
    if let Some(skew) = skew {
        return format!("the clock of this machine is wrong, by what relays say: {skew}. Set it; it is tried again");
    }
    let advice = match blockage.kind() {
        BlockageKind::Offline => "no connection to any relay gets through. Check the network; it is tried again",
        BlockageKind::Filtering => {
            return format!(
                "relays can be reached, but Tor's handshakes fail. Either the network blocks Tor, and a Tor with bridges and \
                 dialer = \"socks5://ADDRESS:PORT\" gets around that; or this machine's clock is wrong: it says {} ({})",
                clock(),
                blockage.message()
            );
        }
        BlockageKind::ClockSkewed => "the clock of this machine is wrong. Set it; it is tried again",
        BlockageKind::CantBootstrap => {
            return format!(
                "no directory of relays can be had. Check the network and the clock: it says {} ({})",
                clock(),
                blockage.message()
            );
        }
        _ => "the Tor network cannot be reached. Check the network and the clock; it is tried again",
    };
    format!("{advice} ({})", blockage.message())
}
