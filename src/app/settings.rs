//! `chatterbox.toml`: the settings that a person edits (design, section 2).
//!
//! ```toml
//! dialer = "direct"
//! ```
//!
//! A key that this version does not know is an error: a setting that is passed over in silence may be the one that
//! somebody's safety depends on. For the same reason no dialer is assumed where none is set. The design's default is
//! Tor, which this version does not have, and falling back to a direct connection would show who talks to whom.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::failure::{Exit, Failure};
use crate::client::root::Root;
use crate::disk::open::{self, OpenError};
use crate::disk::real::RealDisk;
use crate::limits::METADATA_FILE_BYTES_MAX;
use crate::net::dialer::{Dialer, UnknownDialer};

/// What `chatterbox.toml` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How connections are opened.
    pub dialer: Dialer,
}

/// What is wrong with `chatterbox.toml`. All of them are for a person to mend: exit code 78.
#[derive(Debug, Error)]
#[error("reading {}: {fault}", path.display())]
pub struct SettingsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub fault: SettingsFault,
}

/// What is wrong in the file.
#[derive(Debug, Error)]
pub enum SettingsFault {
    /// It is no TOML.
    #[error("line {line}: {problem}")]
    Toml {
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// It is no text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// A key that this version does not know.
    #[error("there is no setting called {0:?}; this version knows: dialer")]
    UnknownKey(String),
    /// A value of the wrong type.
    #[error("{0} must be a text in quotes")]
    NotString(&'static str),
    /// A dialer that this version does not have.
    #[error(transparent)]
    Dialer(#[from] UnknownDialer),
    /// None is set, or there is no file.
    #[error("no dialer is set, and the default, tor, is not in this version; it has: direct (not private)")]
    NoDialer,
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(OpenError),
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        let doing = format!("reading {}", error.path.display());
        Self::new(Exit::Config, doing, error.fault, "Correct the file; a line `dialer = \"direct\"` is all it needs.")
    }
}

impl Settings {
    /// Reads the settings of a root.
    ///
    /// # Errors
    /// [`SettingsError`], naming the file and what is wrong in it.
    pub fn load(root: &Root) -> Result<Self, SettingsError> {
        let path = root.settings();
        read(&path).map_err(|fault| SettingsError { path, fault })
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// [`SettingsFault`].
    pub fn parse(text: &str) -> Result<Self, SettingsFault> {
        let table: toml::Table = toml::from_str(text).map_err(|error| SettingsFault::Toml {
            line: error.span().map_or(1, |span| line_of(text, span.start)),
            problem: error.message().to_owned(),
        })?;
        let mut dialer = None;
        for (key, value) in &table {
            match key.as_str() {
                "dialer" => dialer = Some(value.as_str().ok_or(SettingsFault::NotString("dialer"))?.parse()?),
                _ => return Err(SettingsFault::UnknownKey(key.clone())),
            }
        }
        Ok(Self { dialer: dialer.ok_or(SettingsFault::NoDialer)? })
    }

    /// The text of a new `chatterbox.toml`, with comments for the person who opens it.
    pub fn render(&self) -> String {
        format!(
            "# Settings of this Chatterbox account. chatterboxd reads them when it starts.\n\
             \n\
             # How chatterboxd opens connections:\n\
             #   \"direct\"   TCP from this machine. NOT PRIVATE: whoever watches the network sees which servers you\n\
             #              talk to. For tests and closed networks.\n\
             # This version has no other; Tor will be the default.\n\
             dialer = \"{}\"\n",
            self.dialer
        )
    }
}

fn read(path: &Path) -> Result<Settings, SettingsFault> {
    let bytes = match open::read_regular(&RealDisk, path, METADATA_FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        // As an empty file: what the defaults are is decided in one place.
        Err(OpenError::Absent) => return Settings::parse(""),
        Err(error) => return Err(SettingsFault::Unreadable(error)),
    };
    Settings::parse(std::str::from_utf8(&bytes).map_err(|_| SettingsFault::NotText)?)
}

fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_says_what_it_was_made_with() {
        let settings = Settings { dialer: Dialer::Direct };
        assert_eq!(Settings::parse(&settings.render()).unwrap(), settings);
    }

    #[test]
    fn a_direct_connection_is_never_assumed() {
        assert!(matches!(Settings::parse(""), Err(SettingsFault::NoDialer)));
        assert!(matches!(Settings::parse("dialer = \"tor\""), Err(SettingsFault::Dialer(_))));
        assert!(matches!(Settings::parse("dialer = true"), Err(SettingsFault::NotString("dialer"))));
        let absent = tempfile::tempdir().unwrap();
        let refused = Settings::load(&Root::new(absent.path())).unwrap_err();
        assert!(matches!(refused.fault, SettingsFault::NoDialer));
    }

    #[test]
    fn an_unknown_key_is_named_with_the_file() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("chatterbox.toml"), "dialer = \"direct\"\ndailer = \"tor\"\n").unwrap();
        let failure = Failure::from(Settings::load(&Root::new(root.path())).unwrap_err());
        let text = failure.to_string();
        assert!(text.contains("chatterbox.toml") && text.contains("\"dailer\""), "{text}");
        assert_eq!(failure.exit(), Exit::Config);
    }

    #[test]
    fn a_fault_in_the_toml_is_found_by_its_line() {
        let fault = Settings::parse("# a comment\n\ndialer = direct\n").unwrap_err();
        assert!(matches!(fault, SettingsFault::Toml { line: 3, .. }), "{fault}");
    }
}
