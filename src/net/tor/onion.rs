//! An onion service: a door that is reached through Tor, by a name that is a key.
//!
//! ```text
//! introduction -> answering (ONION_ANSWERS_MAX at once) -> circuit (ONION_CIRCUITS_MAX) -> streams -> Door
//! ```
//!
//! A task for each circuit answers its client and accepts its streams. Whatever ends the service, the door stays: it is
//! launched anew. The tasks end with the service that ended, and what they accepted goes on, since the writing half of a
//! stream of arti's holds its circuit; only a further stream on a circuit whose task is gone has arti close that circuit.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use safelog::DisplayRedacted as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tor_cell::relaycell::msg::Connected;
use tor_hsservice::status::State;
use tor_hsservice::{RendRequest, StreamRequest};
use tor_proto::stream::IncomingStreamRequest;

use super::remedy::{SERVICE_STATE, advise};
use super::{Client, Setup, Tor, identity, in_words};
use crate::limits::{
    ONION_ANSWER_TIMEOUT_MS, ONION_ANSWERS_MAX, ONION_CIRCUIT_IDLE_MS, ONION_CIRCUITS_MAX, ONION_PATIENCE_MS,
    TOR_RETRY_MS,
};
use crate::net::incoming::{Door, Incoming};

/// Publishes the service whose key is below Tor's directory, as soon as Tor is connected, and again whenever it ended.
/// `name` is the key's, and is what is published or nothing is. Needs a running tokio runtime.
pub fn publish(tor: Tor, name: String, port: u16) -> Door {
    let (accepted, mut streams) = mpsc::channel(1);
    let service = Service { name, port, accepted: accepted.clone() };
    tokio::spawn(async move {
        tokio::select! {
            () = service.run(&tor) => {}
            // The door was closed.
            () = accepted.closed() => {}
        }
    });
    poll_fn(move |context| streams.poll_recv(context)).boxed()
}

struct Service {
    name: String,
    port: u16,
    accepted: mpsc::Sender<Incoming>,
}

/// Says how the service is, once for each change.
#[derive(Default)]
struct Teller {
    said: String,
}

impl Service {
    /// Never ends, unless Tor does.
    async fn run(&self, tor: &Tor) {
        let mut teller = Teller::default();
        // Before that every try would fail, and Tor says by itself what is in its way.
        let _ = tor.progress().wait_for(|progress| progress.is_ready).await;
        while let Some(client) = tor.client().await {
            match self.serve(&tor.setup, &client, &mut teller).await {
                Ok(()) => teller.warn("the onion service ended; it is started again"),
                Err(problem) => teller.warn(&format!("the onion service does not start: {problem}")),
            }
            sleep(Duration::from_millis(TOR_RETRY_MS)).await;
        }
    }

    /// Until the service ends.
    async fn serve(&self, setup: &Setup, client: &Client, teller: &mut Teller) -> Result<(), String> {
        // Arti makes a new key where there is none, and begins to publish it before anybody can compare it.
        self.check(identity::name(&setup.directory, setup.private_network.as_deref())?)?;
        let launched = client
            .launch_onion_service(identity::settings()?)
            .map_err(|error| advise(&error, &setup.directory, SERVICE_STATE))?;
        let (running, mut introductions) = launched.ok_or("it is switched off")?;
        self.check(running.onion_address().map(|name| name.display_unredacted().to_string()))?;
        teller.info(&format!(
            "published as {}:{}; clients find it once Tor's directories know of it, mostly within a minute",
            self.name, self.port
        ));
        let answering = Arc::new(Semaphore::new(ONION_ANSWERS_MAX));
        let mut circuits = JoinSet::new();
        let mut states = running.status_events();
        // When trouble that goes on is told.
        let mut troubled: Option<Instant> = None;
        let patience = Duration::from_millis(ONION_PATIENCE_MS);
        loop {
            // A place in front of the introduction: arti keeps a few of them waiting, and relays drop the others.
            if answering.available_permits() == 0 {
                teller.warn(
                    "all places for meeting clients of the onion service are taken; new clients wait or try again",
                );
            }
            let Ok(place) = Arc::clone(&answering).acquire_owned().await else { return Ok(()) };
            let introduction = tokio::select! {
                introduction = introductions.next() => match introduction {
                    Some(introduction) => introduction,
                    None => return Ok(()),
                },
                Some(status) = states.next() => {
                    troubled = match status.state() {
                        State::Running | State::DegradedReachable => {
                            teller.info("the onion service can be reached");
                            None
                        }
                        State::DegradedUnreachable => troubled.or(Some(Instant::now() + patience)),
                        // A part of it has crashed and stays so, without introductions ending.
                        State::Broken => return Ok(()),
                        // These come and go between the others.
                        _ => troubled,
                    };
                    continue;
                }
                () = sleep_until(troubled.unwrap_or_else(Instant::now)), if troubled.is_some() => {
                    teller.warn("Tor says that not every client can find the onion service now; it goes on trying");
                    troubled = None;
                    continue;
                }
                Some(_) = circuits.join_next() => continue,
            };
            if circuits.len() < ONION_CIRCUITS_MAX {
                circuits.spawn(answer(introduction, place, self.port, self.accepted.clone()));
            } else {
                // Its client tries again later.
                teller.warn("all circuits of the onion service are taken; new clients are not answered");
            }
        }
    }
}

impl Service {
    /// That the key of this name is ours.
    fn check(&self, name: Option<String>) -> Result<(), String> {
        match name {
            Some(name) if name == self.name => Ok(()),
            Some(name) => Err(format!("its key is that of {name}, and not of {}: put back the right one", self.name)),
            None => Err(format!("the key of {} is gone or damaged: put it back from a copy", self.name)),
        }
    }
}

/// Meets a client where it asks to, and accepts its streams until it has none and opens none.
async fn answer(introduction: RendRequest, place: OwnedSemaphorePermit, port: u16, accepted: mpsc::Sender<Incoming>) {
    let meeting = timeout(Duration::from_millis(ONION_ANSWER_TIMEOUT_MS), introduction.accept()).await;
    drop(place);
    let mut requests = match meeting {
        Ok(Ok(requests)) => requests,
        Ok(Err(error)) => return tracing::debug!(cause = %in_words(&error), "meeting a client failed"),
        Err(_) => return tracing::debug!("meeting a client took too long"),
    };
    // Each stream of this circuit that is not over has a clone.
    let streams = Arc::new(());
    loop {
        match timeout(Duration::from_millis(ONION_CIRCUIT_IDLE_MS), requests.next()).await {
            Ok(Some(request)) => {
                let Some(stream) = accept(request, port, Arc::clone(&streams)).await else { return };
                if accepted.send(stream).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(_) if Arc::strong_count(&streams) == 1 => {
                return tracing::debug!("a circuit without streams was closed");
            }
            Err(_) => {}
        }
    }
}

/// A stream to our port. For anything else the circuit is closed, as Tor's own services do: a client of ours asks for
/// nothing else, and who looks for other ports is not told about them one by one.
async fn accept(request: StreamRequest, port: u16, held: Arc<()>) -> Option<Incoming> {
    let is_ours = matches!(request.request(), IncomingStreamRequest::Begin(begin) if begin.port() == port);
    if !is_ours {
        // It fails only where the circuit is gone.
        let _ = request.shutdown_circuit();
        return None;
    }
    let stream = match request.accept(Connected::new_empty()).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(cause = %in_words(&error), "accepting a stream failed");
            return None;
        }
    };
    let (reader, writer) = stream.split();
    Some(Incoming { held, ..Incoming::new(reader, writer) })
}

impl Teller {
    fn info(&mut self, text: &str) {
        if self.is_news(text) {
            tracing::info!("{text}");
        }
    }

    fn warn(&mut self, text: &str) {
        if self.is_news(text) {
            tracing::warn!("{text}");
        }
    }

    fn is_news(&mut self, text: &str) -> bool {
        let is_news = self.said != text;
        text.clone_into(&mut self.said);
        is_news
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Service").field("port", &self.port).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, DirBuilder};
    use std::os::unix::fs::DirBuilderExt as _;

    use arti_client::TorClient;

    use super::super::configuration;
    use super::*;

    #[tokio::test]
    async fn where_the_key_is_gone_or_another_no_service_is_launched_and_no_key_made() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let scratch = tempfile::tempdir().unwrap();
        let setup = Setup { directory: scratch.path().join("tor"), private_network: None, is_scheduled: false };
        let made = identity::make(&setup.directory).unwrap();
        let config = configuration::load(&setup).unwrap();
        let client = TorClient::builder().config(config).create_unbootstrapped_async().await.unwrap();
        let service = |name: &str| Service { name: name.to_owned(), port: 1, accepted: mpsc::channel(1).0 };
        let mut teller = Teller::default();

        let problem = service("another.onion").serve(&setup, &client, &mut teller).await.unwrap_err();
        assert!(problem.contains(&made) && problem.contains("another.onion"), "{problem}");

        fs::remove_dir_all(setup.directory.join("state/keystore")).unwrap();
        let problem = service(&made).serve(&setup, &client, &mut teller).await.unwrap_err();
        assert!(problem.contains(&made) && problem.contains("is gone"), "{problem}");
        assert_eq!(identity::name(&setup.directory, None), Ok(None));
    }

    #[tokio::test]
    async fn what_a_service_wrote_and_is_damaged_is_named_and_its_key_is_not() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let scratch = tempfile::tempdir().unwrap();
        let setup = Setup { directory: scratch.path().join("tor"), private_network: None, is_scheduled: false };
        let name = identity::make(&setup.directory).unwrap();
        let state = setup.directory.join("state/hss");
        DirBuilder::new().recursive(true).mode(0o700).create(state.join("chatterbox")).unwrap();
        fs::write(state.join("chatterbox/ipts.json"), "{").unwrap();
        let config = configuration::load(&setup).unwrap();
        let client = TorClient::builder().config(config).create_unbootstrapped_async().await.unwrap();
        let service = Service { name, port: 1, accepted: mpsc::channel(1).0 };
        let problem = service.serve(&setup, &client, &mut Teller::default()).await.unwrap_err();
        assert!(problem.contains(&format!("move {} away", state.display())), "{problem}");
    }
}
