//! A network namespace of a client, joined to ours by one link: whatever it sends passes over that link, and may be seen.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::support::holder::Holder;

/// Nobody but the processes started in it. Its link and its addresses are gone when its owner is.
pub struct Namespace {
    holder: Holder,
    /// Our end of the link, the only neighbour.
    pub ours: Ipv4Addr,
    pub theirs: Ipv4Addr,
}

impl Namespace {
    pub fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let holder = Holder::new(&["--net"], "true", &[]);
        let [ours, theirs] = [1, 2].map(|end| Ipv4Addr::new(10, 84, number, end));
        let namespace = Self { holder, ours, theirs };
        let pid = namespace.holder.pid();
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
        command.args(["--net", "--target", &self.holder.pid().to_string()]);
        command
    }

    /// Whether an address is the client's.
    pub fn is_theirs(&self, address: IpAddr) -> bool {
        address == self.theirs
    }
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
}
