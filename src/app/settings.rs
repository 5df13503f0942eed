//! `chatterbox.toml`: the settings that a person edits (design, section 2).
//!
//! ```toml
//! dialer = "tor"
//! ```
//!
//! A key that this version does not know is an error: a setting that is passed over in silence may be the one that
//! somebody's safety depends on. Where no dialer is set it is Tor. A program that was built without Tor then refuses to
//! run: a direct connection in its place would show who talks to whom.

use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::failure::{Exit, Failure};
use crate::client::policy::Policy;
use crate::client::root::Root;
use crate::client::traffic::{Schedule, Traffic};
use crate::disk::open::{self, OpenError};
use crate::disk::real::RealDisk;
use crate::limits::{
    ACKNOWLEDGE_DELAY_MAX_MS, EXPIRE_MAX_MS, EXPIRE_MIN_MS, FANOUT_DELAY_MAX_MS, LARGE_CONTENT_BYTES_MAX,
    METADATA_FILE_BYTES_MAX, RETRY_PERIOD_MAX_MS, RETRY_PERIOD_MIN_MS, SCHEDULE_MEAN_MAX_MS, SCHEDULE_MEAN_MIN_MS,
};
use crate::net::dialer::{UnknownWay, Way};

const DIALER: &str = "dialer";
const FANOUT_DELAY: &str = "fanout_delay";
const SCHEDULE: &str = "schedule";
const SCHEDULE_MEAN: &str = "schedule_mean";
const ACKNOWLEDGE: &str = "acknowledge";
const ACKNOWLEDGE_DELAY: &str = "acknowledge_delay";
const RETRY_PERIOD: &str = "retry_period";
const SEND_LIMIT: &str = "send_limit";
const RECEIVE_LIMIT: &str = "receive_limit";
const EXPIRE: &str = "expire";
const NEVER: &str = "never";
const PRIVATE_TOR_NETWORK: &str = "dangerous_private_tor_network";
/// For the message about a key that is none of them. Who wants the other one knows its name.
const KEYS: &str = "dialer, fanout_delay, schedule, schedule_mean, acknowledge, acknowledge_delay, retry_period, \
                    send_limit, receive_limit, expire";

/// What `chatterbox.toml` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How connections are opened.
    pub dialer: Way,
    /// When envelopes leave.
    pub traffic: Traffic,
    /// What becomes of messages.
    pub policy: Policy,
    /// Arti's configuration of a Tor network other than the public one. For tests; `status` says all the time that it is
    /// there.
    pub private_tor_network: Option<PathBuf>,
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
    #[error("there is no setting called {0:?}; this version knows: {KEYS}")]
    UnknownKey(String),
    /// A value of the wrong type.
    #[error("{0} must be a text in quotes")]
    NotString(&'static str),
    /// The same for yes and no.
    #[error("{0} must be true or false")]
    NotBoolean(&'static str),
    /// A size that is none, or too large.
    #[error("{key} must be a size such as \"64 MiB\", up to {} GiB", most >> 30)]
    Size {
        /// The setting.
        key: &'static str,
        /// The largest, bytes.
        most: u64,
    },
    /// What is named is no dialer of this program.
    #[error("dialer: {0}")]
    Dialer(#[from] UnknownWay),
    /// A time that is none, or too short or too long.
    #[error("{key} must be a time such as \"{}\", from {} to {}", say((*least).max(Duration::from_secs(10))), say(*least), say(*most))]
    Time {
        /// The setting.
        key: &'static str,
        /// The shortest.
        least: Duration,
        /// The longest.
        most: Duration,
    },
    /// What is named is no schedule.
    #[error("there is no schedule called {0:?}; there are: immediate, poisson")]
    Schedule(String),
    /// A mean of nothing.
    #[error("schedule_mean does nothing without schedule = \"poisson\"")]
    MeanOfNothing,
    /// A path that depends on where the daemon was started.
    #[error("{0} must be an absolute path")]
    NotAbsolute(&'static str),
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(OpenError),
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        let doing = format!("reading {}", error.path.display());
        Self::new(Exit::Config, doing, error.fault, "Correct that line, or remove it: each setting has a default.")
    }
}

impl Settings {
    /// What an account begins with.
    pub fn new(dialer: Way) -> Self {
        Self {
            traffic: Traffic::by_default(&dialer),
            policy: Policy::by_default(&dialer),
            dialer,
            private_tor_network: None,
        }
    }

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
        // First, because other defaults depend on it.
        let dialer = table.get(DIALER).map(|value| Ok::<_, SettingsFault>(string(DIALER, value)?.parse()?));
        let mut settings = Self::new(dialer.transpose()?.unwrap_or(Way::Tor));
        let mut mean = None;
        for (key, value) in &table {
            match key.as_str() {
                DIALER => {}
                FANOUT_DELAY => settings.traffic.fanout_delay = time(FANOUT_DELAY, value, 0, FANOUT_DELAY_MAX_MS)?,
                SCHEDULE => settings.traffic.schedule = schedule(string(SCHEDULE, value)?)?,
                SCHEDULE_MEAN => {
                    mean = Some(time(SCHEDULE_MEAN, value, SCHEDULE_MEAN_MIN_MS, SCHEDULE_MEAN_MAX_MS)?);
                }
                ACKNOWLEDGE => settings.policy.acknowledge = boolean(ACKNOWLEDGE, value)?,
                ACKNOWLEDGE_DELAY => {
                    settings.policy.acknowledge_delay = time(ACKNOWLEDGE_DELAY, value, 0, ACKNOWLEDGE_DELAY_MAX_MS)?;
                }
                RETRY_PERIOD => {
                    settings.policy.retry_period = time(RETRY_PERIOD, value, RETRY_PERIOD_MIN_MS, RETRY_PERIOD_MAX_MS)?;
                }
                SEND_LIMIT => settings.policy.send_limit = size(SEND_LIMIT, value)?,
                RECEIVE_LIMIT => settings.policy.receive_limit = size(RECEIVE_LIMIT, value)?,
                // As conversations say it.
                EXPIRE if value.as_str() == Some(NEVER) => settings.policy.expire = None,
                EXPIRE => settings.policy.expire = Some(time(EXPIRE, value, EXPIRE_MIN_MS, EXPIRE_MAX_MS)?),
                PRIVATE_TOR_NETWORK => {
                    let path = PathBuf::from(string(PRIVATE_TOR_NETWORK, value)?);
                    let is_absolute = path.is_absolute();
                    settings.private_tor_network =
                        Some(is_absolute.then_some(path).ok_or(SettingsFault::NotAbsolute(PRIVATE_TOR_NETWORK))?);
                }
                _ => return Err(SettingsFault::UnknownKey(key.clone())),
            }
        }
        match (&mut settings.traffic.schedule, mean) {
            (Schedule::Poisson { mean }, Some(set)) => *mean = set,
            (Schedule::Immediate, Some(_)) => return Err(SettingsFault::MeanOfNothing),
            (_, None) => {}
        }
        Ok(settings)
    }

    /// The text of a new `chatterbox.toml`, with comments for the person who opens it.
    pub fn render(&self) -> String {
        format!(
            "# Settings of this Chatterbox account. chatterboxd reads them when it starts.\n\
             \n\
             # How chatterboxd opens connections:\n\
             #   \"tor\"                       Tor, inside chatterboxd. Needs nothing else.\n\
             #   \"socks5://127.0.0.1:9050\"   a Tor that runs already: the system's, Tails', Whonix's.\n\
             #   \"direct\"                    TCP from this machine. NOT PRIVATE: whoever watches the network sees\n\
             #                               which servers you talk to. For tests and closed networks.\n\
             dialer = \"{}\"\n\
             \n\
             # A message to several people leaves for each of them after a random delay, this at most, so that nobody sees\n\
             # by the time that they got the same. \"0s\" turns it off; with the dialer \"direct\" it is off by itself.\n\
             # fanout_delay = \"10s\"\n\
             \n\
             # When envelopes leave: \"immediate\", or by the schedule \"poisson\": one at a time, in random intervals, and\n\
             # an empty one where nothing waits, so that who watches this machine's link does not see when you write.\n\
             # It costs some 200 MB a day, and messages wait for their turn: docs/threat-model.md.\n\
             # schedule = \"poisson\"\n\
             # schedule_mean = \"30s\"\n\
             \n\
             # Whether others are told that their messages are on this disk (their state \"delivered\"), and after what\n\
             # random wait, this at most; with the dialer \"direct\" there is none.\n\
             # acknowledge = true\n\
             # acknowledge_delay = \"10s\"\n\
             \n\
             # How long a message is tried before it counts as failed.\n\
             # retry_period = \"7days\"\n\
             \n\
             # The largest files that are sent and taken.\n\
             # send_limit = \"64 MiB\"\n\
             # receive_limit = \"256 MiB\"\n\
             \n\
             # Messages of this age are erased. Without it they are kept. conversations/X/settings.toml may say otherwise\n\
             # for one conversation, of this and of acknowledge.\n\
             # expire = \"30days\"\n",
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

fn string<'a>(key: &'static str, value: &'a toml::Value) -> Result<&'a str, SettingsFault> {
    value.as_str().ok_or(SettingsFault::NotString(key))
}

fn time(key: &'static str, value: &toml::Value, least_ms: u64, most_ms: u64) -> Result<Duration, SettingsFault> {
    let (least, most) = (Duration::from_millis(least_ms), Duration::from_millis(most_ms));
    let parsed = humantime::parse_duration(string(key, value)?).ok();
    parsed.filter(|time| (least..=most).contains(time)).ok_or(SettingsFault::Time { key, least, most })
}

fn boolean(key: &'static str, value: &toml::Value) -> Result<bool, SettingsFault> {
    value.as_bool().ok_or(SettingsFault::NotBoolean(key))
}

/// A number of bytes, as "65536", "64 KiB", "64 MiB" or "1 GiB".
fn size(key: &'static str, value: &toml::Value) -> Result<u64, SettingsFault> {
    let text = string(key, value)?.trim();
    let (number, unit) = text.split_at(text.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.trim() {
        "" | "B" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        _ => None,
    };
    let bytes = shift.and_then(|shift| number.parse::<u64>().ok()?.checked_mul(1 << shift));
    let most = LARGE_CONTENT_BYTES_MAX;
    bytes.filter(|bytes| (1..=most).contains(bytes)).ok_or(SettingsFault::Size { key, most })
}

fn schedule(name: &str) -> Result<Schedule, SettingsFault> {
    match name {
        "immediate" => Ok(Schedule::Immediate),
        "poisson" => Ok(Schedule::poisson()),
        other => Err(SettingsFault::Schedule(other.to_owned())),
    }
}

fn say(time: Duration) -> String {
    const DAY_S: u64 = 86_400;
    match time.as_secs() {
        // Of so many years nobody wants to read the hours.
        long if long > 365 * DAY_S => format!("{}days", long / DAY_S),
        _ => humantime::format_duration(time).to_string(),
    }
}

fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_says_what_it_was_made_with() {
        for dialer in [Way::Tor, Way::Direct, "socks5://127.0.0.1:9050".parse().unwrap()] {
            let settings = Settings::new(dialer);
            assert_eq!(Settings::parse(&settings.render()).unwrap(), settings);
        }
    }

    #[test]
    fn a_direct_connection_is_never_assumed() {
        assert_eq!(Settings::parse("").unwrap().dialer, Way::Tor);
        let absent = tempfile::tempdir().unwrap();
        assert_eq!(Settings::load(&Root::new(absent.path())).unwrap().dialer, Way::Tor);
        assert!(matches!(Settings::parse("dialer = \"Direct\""), Err(SettingsFault::Dialer(_))));
        assert!(matches!(Settings::parse("dialer = \"socks5://localhost:9050\""), Err(SettingsFault::Dialer(_))));
        assert!(matches!(Settings::parse("dialer = true"), Err(SettingsFault::NotString("dialer"))));
    }

    #[test]
    fn what_a_new_file_says_in_comments_are_the_defaults() {
        let text = Settings::new(Way::Tor).render();
        let set = text.replace("# fanout_delay", "fanout_delay").replace("# schedule", "schedule");
        let settings = Settings::parse(&set).unwrap();
        assert_eq!(settings.traffic.fanout_delay, Settings::new(Way::Tor).traffic.fanout_delay);
        assert_eq!(settings.traffic.schedule, Schedule::poisson());
        let set = text.replace("# acknowledge", "acknowledge").replace("# retry", "retry").replace("# send", "send");
        let settings = Settings::parse(&set.replace("# receive", "receive")).unwrap();
        assert_eq!(settings.policy, Settings::new(Way::Tor).policy);
        assert_eq!(Settings::parse("schedule = \"poisson\"").unwrap().traffic.schedule, Schedule::poisson());
        assert_eq!(Settings::parse("").unwrap().traffic.schedule, Schedule::Immediate);
    }

    #[test]
    fn a_delay_that_is_set_counts_with_every_dialer() {
        let delay = |text: &str| Settings::parse(text).unwrap().traffic.fanout_delay;
        assert_eq!(delay("dialer = \"direct\""), Duration::ZERO);
        assert_eq!(delay("fanout_delay = \"2m\"\ndialer = \"direct\""), Duration::from_secs(120));
        assert_eq!(delay("fanout_delay = \"0s\""), Duration::ZERO);
    }

    #[test]
    fn times_have_bounds_and_a_mean_belongs_to_a_schedule() {
        let poisson = |mean: &str| Settings::parse(&format!("schedule = \"poisson\"\nschedule_mean = \"{mean}\""));
        assert_eq!(poisson("1h").unwrap().traffic.schedule.mean(), Some(Duration::from_secs(3_600)));
        for wrong in ["0s", "999ms", "1h 1s", "30", "-1s", "soon"] {
            let fault = poisson(wrong).unwrap_err();
            assert!(matches!(fault, SettingsFault::Time { key: SCHEDULE_MEAN, .. }), "{wrong}: {fault}");
        }
        for (text, age) in [("never", None), ("30 days", Some(Duration::from_secs(30 * 86_400)))] {
            assert_eq!(Settings::parse(&format!("expire = \"{text}\"")).unwrap().policy.expire, age);
        }
        let fault = Settings::parse("fanout_delay = \"61m\"").unwrap_err().to_string();
        assert_eq!(fault, "fanout_delay must be a time such as \"10s\", from 0s to 1h");
        for schedule in ["", "schedule = \"immediate\"\n"] {
            let fault = Settings::parse(&format!("{schedule}schedule_mean = \"30s\"")).unwrap_err();
            assert!(matches!(fault, SettingsFault::MeanOfNothing), "{fault}");
        }
        assert!(matches!(Settings::parse("schedule = \"Poisson\""), Err(SettingsFault::Schedule(_))));
    }

    #[test]
    fn sizes_have_units_and_a_bound() {
        let limit = |text: &str| Settings::parse(&format!("send_limit = \"{text}\"")).map(|settings| settings.policy);
        for (text, bytes) in [("1", 1), ("10 KiB", 10_240), ("3MiB", 3 << 20), ("8 GiB", 8 << 30), (" 5 B ", 5)] {
            assert_eq!(limit(text).unwrap().send_limit, bytes, "{text}");
        }
        for wrong in ["", "0", "9 GiB", "-1", "64 MB", "MiB", "99999999999999999999", "18446744073709551615 GiB"] {
            let fault = limit(wrong).unwrap_err();
            assert_eq!(fault.to_string(), "send_limit must be a size such as \"64 MiB\", up to 8 GiB", "{wrong}");
        }
        assert!(matches!(Settings::parse("acknowledge = \"yes\""), Err(SettingsFault::NotBoolean(ACKNOWLEDGE))));
    }

    #[test]
    fn another_tor_network_is_named_by_its_whole_path() {
        let parsed = |path: &str| Settings::parse(&format!("dangerous_private_tor_network = \"{path}\""));
        assert_eq!(parsed("/etc/x.toml").unwrap().private_tor_network, Some("/etc/x.toml".into()));
        assert!(matches!(parsed("x.toml"), Err(SettingsFault::NotAbsolute(_))));
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
