//! Accounts whose daemons go through the Tor network, and a home server that is in it.

use std::fs;
use std::process::Command;

use super::Network;
use crate::support::{Process, User, World};

const SERVER: &str = env!("CARGO_BIN_EXE_chatterbox-server");

/// How a daemon comes to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By Tor in its own process.
    Arti,
    /// By the network's client, which is a tor of its own.
    Proxy,
}

impl Network {
    /// Lets an account's daemon go this way, from its next start on.
    pub fn lead(&self, user: &User, way: Way) {
        let settings = match way {
            Way::Arti => {
                let file = self.arti();
                format!("dialer = \"tor\"\ndangerous_private_tor_network = \"{}\"\n", file.display())
            }
            Way::Proxy => format!("dialer = \"socks5://{}\"\n", self.socks()),
        };
        fs::write(user.at("chatterbox.toml"), settings).unwrap();
    }

    /// An account whose daemon goes this way, and is not started yet.
    pub fn user(&self, world: &World, name: &str, address: &str, way: Way) -> User {
        let user = world.user_by(name, address, "tor");
        self.lead(&user, way);
        user
    }

    /// A home server that is reached as an onion service alone, and its address.
    pub fn onion_server(&self, world: &World) -> (Process, String) {
        let directory = world.scratch.path().join("onion");
        let made = Command::new(SERVER).arg("init").arg(&directory).arg("--onion").output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let log = fs::File::create(directory.with_extension("log")).unwrap();
        let mut run = Command::new(SERVER);
        run.arg("run").arg(&directory).args(["--onion", "--dangerous-private-tor-network"]).arg(self.arti());
        let process = Process::of(run.stdout(log.try_clone().unwrap()).stderr(log));
        (process, String::from_utf8(made.stdout).unwrap().trim_end().to_owned())
    }
}

/// Makes them know each other.
pub fn introduce(one: &User, other: &User) {
    one.add(other);
    other.add(one);
}

/// A message of each to the other, and the names under which both have it.
pub fn exchange(one: &User, other: &User, text: &str) {
    let [there, back] = ["there", "back"].map(|way| format!("{text}, {way}"));
    one.drop_file(&other.name, "message", &there);
    other.wait_for_message(&there);
    other.drop_file(&one.name, "message", &back);
    one.wait_for_message(&back);
    for (author, reader) in [(one, other), (other, one)] {
        author.wait_for_message(if author.name == one.name { &there } else { &back });
        assert_eq!(listing(author), listing(reader), "they have the same files under the same names");
    }
}

/// What `ls` shows of all conversations.
pub fn listing(user: &User) -> Vec<(String, String)> {
    user.messages().into_iter().map(|(directory, name, _)| (directory, name)).collect()
}
