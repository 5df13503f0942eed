//! A private Tor network to test in, and eyes for it: what its relays relay, and what passes over a link.
//!
//! `scripts/test-tor` starts the network and names its directory in `CHATTERBOX_TOR_NETWORK`.

#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic)]

pub mod capture;
pub mod control;
pub mod namespace;
pub mod packets;
pub mod people;
pub mod relays;
pub mod socks;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use control::Control;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/tor-network");

pub const RELAYS: [&str; 9] =
    ["authority1", "authority2", "authority3", "relay1", "relay2", "relay3", "relay4", "relay5", "relay6"];

/// Who ends nodes, or counts what is not marked as their own, has the network alone.
static USERS: RwLock<()> = RwLock::new(());

enum Use {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// The network, as long as a test needs it.
pub struct Network {
    directory: PathBuf,
    nodes: Vec<Node>,
    down: Vec<String>,
    // The last to be dropped.
    _use: Use,
}

struct Node {
    name: String,
    or: u16,
    control: u16,
    socks: u16,
}

impl Network {
    /// Together with other tests.
    pub fn shared() -> Self {
        // What a failed test left behind, `drop` has mended.
        Self::new(Use::Shared { _guard: USERS.read().unwrap_or_else(PoisonError::into_inner) })
    }

    /// While no other test uses it.
    pub fn alone() -> Self {
        Self::new(Use::Alone { _guard: USERS.write().unwrap_or_else(PoisonError::into_inner) })
    }

    fn new(used: Use) -> Self {
        let directory = std::env::var_os("CHATTERBOX_TOR_NETWORK").expect("there is a network: run scripts/test-tor");
        let directory = PathBuf::from(directory);
        let ports = fs::read_to_string(directory.join("ports")).unwrap();
        let nodes = ports.lines().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let port = |number: usize| words[number].parse().unwrap();
            Node { name: words[0].to_owned(), or: port(1), control: port(3), socks: port(4) }
        });
        Self { nodes: nodes.collect(), directory, down: Vec::new(), _use: used }
    }

    fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).unwrap()
    }

    /// What its nodes listen on.
    pub fn address(&self) -> IpAddr {
        let env = fs::read_to_string(self.directory.join("env")).unwrap();
        env.lines().find_map(|line| line.strip_prefix("TOR_NETWORK_ADDRESS=")).unwrap().parse().unwrap()
    }

    /// The SOCKS port of the client. Streams with different credentials share no circuit.
    pub fn socks(&self) -> SocketAddr {
        (self.address(), self.node("client").socks).into()
    }

    /// Where relays take connections of clients and of each other.
    pub fn relays(&self) -> Vec<SocketAddr> {
        RELAYS.iter().map(|name| (self.address(), self.node(name).or).into()).collect()
    }

    /// The relay that takes connections there.
    pub fn relay_at(&self, address: SocketAddr) -> Option<&str> {
        let node = self.nodes.iter().find(|node| (self.address(), node.or) == (address.ip(), address.port()));
        node.map(|node| node.name.as_str())
    }

    /// Configuration for arti.
    pub fn arti(&self) -> PathBuf {
        self.directory.join("arti.toml")
    }

    fn data(&self, node: &str) -> PathBuf {
        self.directory.join(node)
    }

    /// A connection to the control port of a node.
    pub fn control(&self, node: &str) -> Control {
        let cookie = fs::read(self.data(node).join("control_auth_cookie")).unwrap();
        Control::open((self.address(), self.node(node).control).into(), &cookie)
    }

    pub fn pid(&self, node: &str) -> u32 {
        fs::read_to_string(self.data(node).join("pid")).unwrap().trim_end().parse().unwrap()
    }

    /// SIGKILL for a node. It is back at the latest when the network is handed on.
    pub fn kill(&mut self, node: &str) {
        assert!(matches!(self._use, Use::Alone { .. }), "others use it too");
        self.script("kill", &[node]);
        self.down.push(node.to_owned());
    }

    /// Starts again what was killed, and waits until it works.
    pub fn revive(&mut self) {
        let down = std::mem::take(&mut self.down);
        if !down.is_empty() {
            self.script("restart", &down.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    /// Kills all nodes, starts them again, and waits until they work.
    pub fn restart(&mut self) {
        assert!(matches!(self._use, Use::Alone { .. }), "others use it too");
        self.down.clear();
        self.script("restart", &[]);
    }

    fn script(&self, command: &str, nodes: &[&str]) {
        let status = Command::new(SCRIPT).arg(command).arg(&self.directory).args(nodes).status().unwrap();
        assert!(status.success(), "{command} {nodes:?}");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.revive();
    }
}

/// The far ends of the TCP connections that a process has now.
pub fn connections(pid: u32) -> Vec<SocketAddr> {
    let sockets = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    });
    let sockets: Vec<String> = sockets.collect();
    // That of its own network namespace.
    let table = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("net/tcp")).unwrap();
    let found = table.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let established = columns[3] == "01" && sockets.iter().any(|inode| inode == columns[9]);
        let (address, port) = columns[2].split_once(':')?;
        let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
        let port = u16::from_str_radix(port, 16).ok()?;
        established.then(|| (address, port).into())
    });
    found.collect()
}
