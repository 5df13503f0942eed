//! Arti's configuration: its defaults, with all it keeps under one directory.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use arti_client::TorClientConfig;
use arti_client::config::{CfgPath, TorClientConfigBuilder};

use super::in_words;
use crate::limits::{TOR_CONFIGURATION_BYTES_MAX, TOR_MEMORY_BYTES_MAX};

/// What Tor in this process is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Where arti keeps what it learns. It makes it, with mode 0700.
    pub directory: PathBuf,
    /// A file with arti's configuration of a network other than the public one, which is for tests. Every text of the
    /// progress then says so.
    pub private_network: Option<PathBuf>,
    /// Circuits are built when a stream wants one, and none in reserve.
    pub is_scheduled: bool,
}

/// Arti's configuration of it.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn load(setup: &Setup) -> Result<TorClientConfig, String> {
    let Setup { directory, private_network, is_scheduled } = setup;
    let mut builder = match private_network {
        None => TorClientConfigBuilder::default(),
        Some(path) => read(path).map_err(|problem| format!("reading {}: {problem}", path.display()))?,
    };
    // Literal: a `$` or `~` in a path means itself.
    builder.storage().state_dir(CfgPath::new_literal(directory.join("state")));
    builder.storage().cache_dir(CfgPath::new_literal(directory.join("cache")));
    builder.system().memory().max(TOR_MEMORY_BYTES_MAX);
    if *is_scheduled {
        // Arti keeps two circuits in reserve for each port that was asked for within the hour. They would be built outside the
        // slots, and show a first visit to a port. At this number of circuits it builds none; by `min_exit_circs_for_port`
        // it would still build one.
        builder.preemptive_circuits().disable_at_threshold(0);
    }
    builder.build().map_err(|error| in_words(&error))
}

/// The file's configuration.
pub(super) fn read(path: &Path) -> Result<TorClientConfigBuilder, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(TOR_CONFIGURATION_BYTES_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
    toml::from_str(&text).map_err(|error| in_words(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_a_schedule_no_circuit_is_built_in_reserve() {
        let set = |is_scheduled| {
            let setup = Setup { directory: PathBuf::from("/nowhere"), private_network: None, is_scheduled };
            // Arti shows it nowhere else.
            format!("{:?}", load(&setup).unwrap()).contains("disable_at_threshold: 0,")
        };
        assert!(set(true) && !set(false));
    }
}
