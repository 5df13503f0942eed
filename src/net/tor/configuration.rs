//! Arti's configuration: its defaults, with all it keeps under one directory.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use arti_client::TorClientConfig;
use arti_client::config::{CfgPath, TorClientConfigBuilder};

use super::in_words;
use crate::limits::{TOR_CONFIGURATION_BYTES_MAX, TOR_MEMORY_BYTES_MAX};

/// For a client that keeps what it learns in `directory`.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn load(directory: &Path, private_network: Option<&Path>) -> Result<TorClientConfig, String> {
    let mut builder = match private_network {
        None => TorClientConfigBuilder::default(),
        Some(path) => read(path).map_err(|problem| format!("reading {}: {problem}", path.display()))?,
    };
    // Literal: a `$` or `~` in a path means itself.
    builder.storage().state_dir(CfgPath::new_literal(directory.join("state")));
    builder.storage().cache_dir(CfgPath::new_literal(directory.join("cache")));
    builder.system().memory().max(TOR_MEMORY_BYTES_MAX);
    builder.build().map_err(|error| in_words(&error))
}

/// The file's configuration.
pub(super) fn read(path: &Path) -> Result<TorClientConfigBuilder, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(TOR_CONFIGURATION_BYTES_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
    toml::from_str(&text).map_err(|error| in_words(&error))
}
