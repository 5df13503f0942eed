//! A network namespace of a client, joined to ours by one link: whatever it sends passes over that link, and may be seen.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use super::Network;

/// Nobody but the processes started in it. Its link and its addresses are gone when its owner is.
pub struct Namespace {
    holder: Child,
    /// Our end of the link, the only neighbour.
    pub ours: Ipv4Addr,
    pub theirs: Ipv4Addr,
}

/// Why there can be none here; `None` if there can.
pub fn missing(network: &Network) -> Option<String> {
    // Then scripts/test-tor had none, either; and links are not to be made in a namespace that others live in.
    let loopback = network.address().is_loopback();
    loopback.then(|| "the Tor network is on the loopback of this machine".to_owned())
}

impl Namespace {
    pub fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // `cat` holds the namespace, and ends with its input: with us.
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let [ours, theirs] = [1, 2].map(|end| Ipv4Addr::new(10, 84, number, end));
        let namespace = Self { holder, ours, theirs };
        let pid = namespace.holder.id();
        // With a default route for both families: a leak shall be a packet, not an error that nobody sees.
        run(Command::new("sh").args([
            "-ec",
            &format!(
                "ip link add client{number} type veth peer name eth0 netns {pid}
                 ip address add {ours}/24 dev client{number}
                 [ ! -e /proc/net/if_inet6 ] || ip address add fd84:{number}::1/64 dev client{number} nodad
                 ip link set client{number} up"
            ),
        ]));
        run(namespace.enter().args([
            "sh",
            "-ec",
            &format!(
                "ip link set lo up
                 ip address add {theirs}/24 dev eth0
                 [ ! -e /proc/net/if_inet6 ] || ip address add fd84:{number}::2/64 dev eth0 nodad
                 ip link set eth0 up
                 ip route add default via {ours}
                 [ ! -e /proc/net/if_inet6 ] || ip route add default via fd84:{number}::1"
            ),
        ]));
        namespace
    }

    /// A command line that a program is appended to: it runs as our own child, inside the namespace.
    pub fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.holder.id().to_string()]);
        command
    }

    /// Whether an address is the client's.
    pub fn is_theirs(&self, address: IpAddr) -> bool {
        address == self.theirs
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
}
