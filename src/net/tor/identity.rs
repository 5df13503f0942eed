//! The long-term key of an onion service: made without a network, so that the service's name is known before it runs.
//!
//! Arti keeps it in its keystore, `state/keystore/hss/chatterbox/` below the directory of Tor. Whoever has it can pose
//! as the service; who loses it has lost the name.

use std::path::Path;

use arti_client::TorClient;
use arti_client::config::onion_service::{OnionServiceConfig, OnionServiceConfigBuilder};
use safelog::DisplayRedacted as _;
use tor_hsservice::config::TokenBucketConfig;
use tor_hsservice::{HsNickname, OnionService};
use tor_rtcompat::PreferredRuntime;

use super::{Setup, configuration, in_words};
use crate::limits::{ONION_CIRCUIT_STREAMS_MAX, ONION_INTRODUCTIONS_BURST, ONION_INTRODUCTIONS_PER_S};

/// What arti calls the service in its keystore and its state. Never changed: under another name there is another key.
const NICKNAME: &str = "chatterbox";

/// Makes the key below `directory`, or takes the one that is there, and tells its name, `….onion`. It is not yet synced.
///
/// # Errors
/// What arti says, in words.
pub fn make(directory: &Path) -> Result<String, String> {
    let made = service(directory, None)?.generate_identity_key(Default::default());
    Ok(made.map_err(|error| in_words(&error))?.display_unredacted().to_string())
}

/// The name of the key below `directory`; none where no key is there or what is there is none. `private_network` as in
/// [`Setup`].
///
/// # Errors
/// What arti says, in words: of its directory, which must be private to us, and of the private network's file.
pub fn name(directory: &Path, private_network: Option<&Path>) -> Result<Option<String>, String> {
    let name = service(directory, private_network)?.onion_address();
    Ok(name.map(|name| name.display_unredacted().to_string()))
}

fn service(directory: &Path, private_network: Option<&Path>) -> Result<OnionService, String> {
    let setup = Setup {
        directory: directory.to_owned(),
        private_network: private_network.map(Path::to_owned),
        is_scheduled: false,
    };
    let config = configuration::load(&setup)?;
    TorClient::<PreferredRuntime>::create_onion_service(&config, settings()?).map_err(|error| in_words(&error))
}

/// How the service is run. What is not set here is as most onion services have it, so that ours looks like them: three
/// introduction points; no proof of work, which is not built in (and costs phones more than it costs an attacker); open
/// to everybody who knows the name, as everybody is who holds a card of somebody here. Vanguards are on in arti by
/// themselves.
pub(super) fn settings() -> Result<OnionServiceConfig, String> {
    let nickname = HsNickname::new(NICKNAME.to_owned()).map_err(|error| in_words(&error))?;
    OnionServiceConfigBuilder::default()
        .nickname(nickname)
        .max_concurrent_streams_per_circuit(ONION_CIRCUIT_STREAMS_MAX)
        // Without it Tor's network has no limit, and every introduction has this machine build a circuit, which tells
        // those who watch relays a little about where it is.
        .rate_limit_at_intro(Some(TokenBucketConfig::new(ONION_INTRODUCTIONS_PER_S, ONION_INTRODUCTIONS_BURST)))
        .build()
        .map_err(|error| in_words(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_its_name_is_found_again() {
        let scratch = tempfile::tempdir().unwrap();
        let (one, other) = (scratch.path().join("one"), scratch.path().join("other"));
        assert_eq!(name(&one, None), Ok(None));
        let made = make(&one).unwrap();
        assert!(made.len() == 62 && made.ends_with(".onion"), "{made}");
        assert_eq!(make(&one).as_ref(), Ok(&made));
        assert_eq!(name(&one, None), Ok(Some(made.clone())));
        assert_ne!(make(&other), Ok(made));
    }
}
