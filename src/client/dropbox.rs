//! A dropbox: a directory outside the root into which one other user of this machine may drop messages, for the recipients
//! that its owner has chosen. `dropboxes/NAME.toml` says which directory, whose files, for whom and how many of them.
//!
//! ```toml
//! to = ["bob", "carol"]
//! uid = 33
//! rate = "10/min"
//! directory = "/var/tmp/chatterbox-1000/alerts"
//! ```
//!
//! Whoever can write there is no friend: nothing that lies there is believed ([`place`] checks the directory itself).

pub mod place;

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::root::Root;
use crate::disk::open::{self, OpenError};
use crate::limits::{DROPBOX_FILE_BYTES_MAX, DROPBOX_RATE, DROPBOX_RATE_MAX, DROPBOXES_MAX, PARTICIPANTS_MAX};
use crate::name::{self, is_ignored};

/// Where the settings are, relative to the root.
pub const DIRECTORY: &str = "dropboxes";

/// The ending of a file there.
pub const SUFFIX: &str = ".toml";

/// What `dropboxes/NAME.toml` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropbox {
    /// What its owner calls it.
    pub name: String,
    /// The contacts that every message goes to, as a person names them.
    pub to: Vec<String>,
    /// The user whose files are sent.
    pub uid: u32,
    /// How many of them.
    pub rate: Rate,
    /// The directory, absolute.
    pub directory: PathBuf,
}

/// So many files in such a time; as many may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many, at least one.
    pub files: u32,
    /// In which time.
    pub period: Period,
}

/// What a rate is counted over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// `min`
    Minute,
    /// `hour`
    Hour,
    /// `day`
    Day,
}

/// Why a file in `dropboxes/` makes no dropbox: what is wrong and what to do, a sentence each.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DropboxFault {
    /// No TOML, or a field is missing, unknown or of another type.
    #[error(
        "This cannot be understood: {0}.\nIt needs lines like `to = [\"bob\"]`, `uid = 33` and `directory = \"/var/tmp/…\"`, and may have `rate = \"10/min\"`."
    )]
    Toml(String),
    /// Nobody, or too many.
    #[error("This names {0} recipients.\nPut 1 to {max} contacts into `to`.", max = PARTICIPANTS_MAX - 1)]
    Recipients(usize),
    /// It is no rate.
    #[error("{0:?} is no rate.\nWrite it as \"10/min\", \"100/hour\" or \"500/day\", at most {DROPBOX_RATE_MAX}.")]
    Rate(String),
    /// It depends on where the daemon was started.
    #[error("The directory is no absolute path.\nWrite it from / on, without `..` in it.")]
    NotAbsolute,
    /// Its name does not end in `.toml`, or is none.
    #[error(
        "A dropbox's file is called NAME.toml, NAME being letters, digits, - and _, and this one is not.\nRename it."
    )]
    Name,
    /// One too many.
    #[error("There are more than {DROPBOXES_MAX} dropboxes.\nRemove those that are not used.")]
    TooMany,
    /// Two that read the same directory.
    #[error("The dropbox {0} has the same directory.\nGive each one its own.")]
    SameDirectory(String),
    /// It cannot be read.
    #[error("This cannot be read: {0}.\nPut a plain file here.")]
    Unreadable(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    to: Vec<String>,
    uid: u32,
    rate: Option<String>,
    directory: PathBuf,
}

impl Dropbox {
    /// Reads one file's text.
    ///
    /// # Errors
    /// [`DropboxFault`].
    pub fn parse(name: &str, text: &str) -> Result<Self, DropboxFault> {
        let file: File = toml::from_str(text).map_err(|error| DropboxFault::Toml(error.message().to_owned()))?;
        if file.to.is_empty() || file.to.len() >= PARTICIPANTS_MAX {
            return Err(DropboxFault::Recipients(file.to.len()));
        }
        let is_plain = file.directory.is_absolute() && !file.directory.iter().any(|part| part == "..");
        Ok(Self {
            name: check_name(name)?.to_owned(),
            to: file.to,
            uid: file.uid,
            rate: file.rate.map_or(Ok(Rate::default()), |rate| rate.parse())?,
            directory: is_plain.then_some(file.directory).ok_or(DropboxFault::NotAbsolute)?,
        })
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let (to, rate) = (self.to.clone(), Some(self.rate.to_string()));
        let file = File { to, uid: self.uid, rate, directory: self.directory.clone() };
        toml::to_string(&file).expect("strings, numbers and a path that came from text are TOML")
    }
}

/// All files in `dropboxes/` that are no drafts or leftovers, by name, and what each says.
pub fn all(root: &Root) -> Vec<(OsString, Result<Dropbox, DropboxFault>)> {
    let mut names = root.names(DIRECTORY);
    names.retain(|name| !is_ignored(name));
    names.sort();
    let mut found: Vec<(OsString, Result<Dropbox, DropboxFault>)> = Vec::new();
    for file in names {
        let good = found.iter().filter_map(|(_, result)| result.as_ref().ok());
        let result = read(root, &file).and_then(|dropbox| match good.clone().count() < DROPBOXES_MAX {
            true => Ok(dropbox),
            false => Err(DropboxFault::TooMany),
        });
        let result = result.and_then(|dropbox| match good.clone().find(|other| other.directory == dropbox.directory) {
            Some(other) => Err(DropboxFault::SameDirectory(other.name.clone())),
            None => Ok(dropbox),
        });
        found.push((file, result));
    }
    found
}

fn read(root: &Root, file: &OsString) -> Result<Dropbox, DropboxFault> {
    let stem = file.as_bytes().strip_suffix(SUFFIX.as_bytes()).and_then(|stem| std::str::from_utf8(stem).ok());
    let name = check_name(stem.ok_or(DropboxFault::Name)?)?;
    let path = root.join(DIRECTORY).join(file);
    let unreadable = |error: OpenError| DropboxFault::Unreadable(error.to_string());
    let bytes = open::read_regular(root.disk(), &path, DROPBOX_FILE_BYTES_MAX).map_err(unreadable)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| DropboxFault::Toml("it is not UTF-8".into()))?;
    Dropbox::parse(name, text)
}

/// A name that may be a dropbox's: it becomes part of a path that others see.
///
/// # Errors
/// [`DropboxFault::Name`].
pub fn check_name(name: &str) -> Result<&str, DropboxFault> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let fits = (1..=name::ACCOUNT_NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('-');
    if fits && name.bytes().all(legal) { Ok(name) } else { Err(DropboxFault::Name) }
}

/// Where the dropboxes of a user are, if nothing else is said.
pub fn default_parent(owner: u32) -> PathBuf {
    PathBuf::from(format!("/var/tmp/chatterbox-{owner}"))
}

impl Rate {
    /// The seconds of the period.
    pub fn seconds(&self) -> u32 {
        match self.period {
            Period::Minute => 60,
            Period::Hour => 3_600,
            Period::Day => 86_400,
        }
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self { files: DROPBOX_RATE, period: Period::Minute }
    }
}

impl FromStr for Rate {
    type Err = DropboxFault;

    fn from_str(text: &str) -> Result<Self, DropboxFault> {
        let wrong = || DropboxFault::Rate(text.chars().take(32).collect());
        let (files, period) = text.split_once('/').ok_or_else(wrong)?;
        let files = files.parse().ok().filter(|files| (1..=DROPBOX_RATE_MAX).contains(files)).ok_or_else(wrong)?;
        let period = match period {
            "min" | "minute" => Period::Minute,
            "h" | "hour" => Period::Hour,
            "d" | "day" => Period::Day,
            _ => return Err(wrong()),
        };
        Ok(Self { files, period })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = match self.period {
            Period::Minute => "min",
            Period::Hour => "hour",
            Period::Day => "day",
        };
        write!(formatter, "{}/{period}", self.files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_as_written_and_what_is_wrong_is_named() {
        let text = "to = [\"bob\", \"a, b\"]\nuid = 33\ndirectory = \"/var/tmp/x\"\n";
        let dropbox = Dropbox::parse("alerts", text).unwrap();
        assert_eq!(dropbox.rate, Rate { files: 10, period: Period::Minute });
        assert_eq!(Dropbox::parse("alerts", &dropbox.render()), Ok(dropbox));
        assert_eq!(Dropbox::parse("a b", text), Err(DropboxFault::Name));
        let with = |line: &str| Dropbox::parse("alerts", &format!("{text}{line}\n")).unwrap_err();
        assert_eq!(with("rate = \"0/min\""), DropboxFault::Rate("0/min".into()));
        assert!(matches!(with("rats = 1"), DropboxFault::Toml(_)));
        let nobody = "to = []\nuid = 33\ndirectory = \"/x\"\n";
        assert_eq!(Dropbox::parse("alerts", nobody), Err(DropboxFault::Recipients(0)));
        for directory in ["x", "/x/../etc"] {
            let text = format!("to = [\"bob\"]\nuid = 33\ndirectory = \"{directory}\"\n");
            assert_eq!(Dropbox::parse("alerts", &text), Err(DropboxFault::NotAbsolute));
        }
    }

    #[test]
    fn rates() {
        for (text, files, seconds) in
            [("10/min", 10, 60), ("100/hour", 100, 3_600), ("1/day", 1, 86_400), ("5/h", 5, 3_600)]
        {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.files, rate.seconds()), (files, seconds));
        }
        for text in ["", "10", "10/", "-1/min", "1/week", "10001/day", " 1/min"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
