//! Through Tor: a real network of relays, which `scripts/test-tor` starts. What is claimed of a client is seen where it counts:
//! at the relays, and on the link.

#![cfg(all(feature = "daemon", feature = "server", feature = "tor"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;
mod tor_support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use chatterbox::limits::ONION_CIRCUIT_STREAMS_MAX;
use chatterbox::wire::address::ServerAddress;
use data_encoding::HEXLOWER;
use support::clock::Clock;
use support::{Process, World, entries, wait_patiently};
use tor_support::capture::Capture;
use tor_support::namespace::Namespace;
use tor_support::packets::{self, UDP};
use tor_support::people::{self, Way};
use tor_support::{Network, connections, socks};

/// Arti leaves a guard that was down alone for minutes, and a daemon tries less and less often meanwhile.
const RECOVERY: Duration = Duration::from_secs(600);

/// A port on loopback that takes connections.
fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// For people too: what a test that succeeds prints is not shown otherwise.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn relays_show_one_circuit_for_one_identity_and_another_for_another() {
    let network = Network::shared();
    let (listener, server) = listener();
    let before = network.now();
    let open = |user: &str| {
        let opened = socks::connect(network.socks(), user, &server.ip().to_string(), server.port()).unwrap();
        (opened, listener.accept().unwrap().0)
    };
    let mut seen = Vec::new();
    let mut streams = Vec::new();
    for user in ["ann", "ann", "ben", "cleo"] {
        streams.push(open(user));
        let circuits = network.circuits_to(server, &before);
        assert_eq!(circuits.len(), streams.len(), "every connection is seen");
        seen.push(circuits.into_iter().find(|circuit| user == "ann" || !seen.contains(circuit)).unwrap());
    }
    assert_eq!(seen[0], seen[1], "one identity");
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 3, "three identities");
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn the_relay_that_is_seen_is_the_exit_that_the_client_chose() {
    let network = Network::shared();
    let (_listener, server) = listener();
    let before = network.now();
    let _stream = socks::connect(network.socks(), "dora", &server.ip().to_string(), server.port()).unwrap();
    let (_, path) = network.control("client").circuit_to(&server.to_string());
    let seen = network.circuits_to(server, &before);
    assert_eq!(seen.iter().map(|circuit| &circuit.relay).collect::<Vec<_>>(), [path.last().unwrap()]);
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn relays_show_one_rendezvous_for_one_identity_and_another_for_another() {
    // Which service a client meets does not show: nobody else may meet one.
    let network = Network::alone();
    let (listener, server) = listener();
    let mut control = network.control("client");
    let onion = control.onion_service(server);
    let before = network.now();
    let mut streams = Vec::new();
    let mut open = |user: &str| {
        streams.push((socks::connect(network.socks(), user, &onion, 1984).unwrap(), listener.accept().unwrap().0));
        network.rendezvous(&before)
    };
    let first = open("ann");
    assert_eq!(first.len(), 1);
    assert_eq!(open("ann"), first, "one identity");
    let all: BTreeSet<_> = [open("ben"), open("cleo")].concat().into_iter().collect();
    assert_eq!(all.len(), 3, "three identities");
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn a_packet_that_leaks_is_captured() {
    let namespace = Namespace::new();
    let capture = Capture::of(&namespace);
    // A question for a name, to where nothing is, over both families; and a connection.
    let script = "for to in 192.0.2.7 2001:db8::7; do echo name >/dev/udp/$to/53; done
        timeout 1 bash -c '</dev/tcp/192.0.2.8/443' || echo nobody answers";
    let leaked = namespace.enter().args(["bash", "-ec", script]).output().unwrap();
    assert!(leaked.status.success(), "{leaked:?}");
    let packets = capture.stop();
    let to = |text: &str| packets.iter().filter(|packet| packet.to == text.parse().unwrap()).collect::<Vec<_>>();
    for (address, transport) in [("192.0.2.7:53", UDP), ("[2001:db8::7]:53", UDP), ("192.0.2.8:443", packets::TCP)] {
        assert!(to(address).iter().any(|packet| packet.transport == transport), "{address}: {packets:?}");
    }
    assert_eq!(to("192.0.2.7:53")[0].payload, b"name\n");
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn the_bytes_of_a_captured_connection_are_those_that_were_sent() {
    let (listener, server) = listener();
    let capture = Capture::of_loopback(&format!("tcp port {}", server.port()));
    let mut client = TcpStream::connect(server).unwrap();
    let mut accepted = listener.accept().unwrap().0;
    let question: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let writing = std::thread::spawn({
        let question = question.clone();
        move || client.write_all(&question).map(|()| client)
    });
    let mut read = vec![0; question.len()];
    std::io::Read::read_exact(&mut accepted, &mut read).unwrap();
    accepted.write_all(b"heard").unwrap();
    let client = writing.join().unwrap().unwrap();
    std::io::Read::read_exact(&mut &client, &mut [0; 5]).unwrap();
    let [stream] = &packets::streams(&capture.stop(), server)[..] else { panic!("one connection") };
    assert_eq!(stream.client, client.local_addr().unwrap());
    assert!(stream.sent == question && stream.received == b"heard");
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn a_killed_guard_is_replaced_and_a_restarted_network_works_again() {
    let mut network = Network::alone();
    let (listener, server) = listener();
    let host = server.ip().to_string();
    let first = socks::connect(network.socks(), "eve", &host, server.port()).unwrap();
    let _accepted = listener.accept().unwrap();
    let mut control = network.control("client");
    let (circuit, path) = control.circuit_to(&server.to_string());
    let guard = &path[0];
    let client = network.pid("client");
    let of_client = |network: &Network| -> Vec<String> {
        connections(client).into_iter().filter_map(|far| network.relay_at(far).map(str::to_owned)).collect()
    };
    assert!(of_client(&network).contains(guard));
    control.watch("CIRC");
    network.kill(guard);
    let closed = format!("CIRC {circuit} CLOSED ");
    control.wait_for(|event| event.starts_with(&closed).then_some(()));
    assert!(!of_client(&network).contains(guard));
    drop(first);
    // Circuits that the killed relay was on farther away may not be known as closed yet.
    let _second = socks::connect_at_last(network.socks(), "eve", &host, server.port());
    assert_ne!(&control.circuit_to(&server.to_string()).1[0], guard);
    network.restart();
    socks::connect_at_last(network.socks(), "eve", &host, server.port());
}

/// A home server, as the tests here have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    /// At a port, which relays open connections to.
    Port,
    /// An onion service.
    Onion,
}

impl Home {
    fn start(self, network: &Network, world: &World) -> (Option<Process>, String) {
        match self {
            Self::Port => (None, world.server.address.clone()),
            Self::Onion => {
                let (server, address) = network.onion_server(world);
                (Some(server), address)
            }
        }
    }
}

fn messages_go_both_ways(home: Home, way: Way) {
    let network = Network::shared();
    let world = World::new();
    let (_server, address) = home.start(&network, &world);
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| network.user(&world, name, &address, way));
    people::introduce(&alice, &bob);
    alice.start();
    bob.start();
    people::exchange(&alice, &bob, "through Tor");
    people::exchange(&bob, &alice, "and again");
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn two_daemons_with_tor_in_process_write_to_each_other() {
    messages_go_both_ways(Home::Port, Way::Arti);
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn two_daemons_with_a_tor_that_runs_already_write_to_each_other() {
    messages_go_both_ways(Home::Port, Way::Proxy);
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn two_daemons_with_tor_in_process_write_to_each_other_by_an_onion_service() {
    messages_go_both_ways(Home::Onion, Way::Arti);
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn two_daemons_with_a_tor_that_runs_already_write_to_each_other_by_an_onion_service() {
    messages_go_both_ways(Home::Onion, Way::Proxy);
}

/// What a client of an onion service of ours does on the circuit of a stream that stands, which must end that stream.
fn a_circuit_is_cut(misuse: impl FnOnce(SocketAddr, &str)) {
    let network = Network::shared();
    let world = World::new();
    let (_server, address) = network.onion_server(&world);
    let address: ServerAddress = address.parse().unwrap();
    let open = |user: &str| socks::connect_at_last(network.socks(), user, address.host(), address.port());
    // The server ends those who say nothing, too: the first of them before the second.
    let other = open("ben");
    let mut stream = open("ann");
    misuse(network.socks(), address.host());
    assert!(matches!(std::io::Read::read(&mut stream, &mut [0]), Ok(0)));
    other.set_nonblocking(true).unwrap();
    let stands = std::io::Read::read(&mut &other, &mut [0]).unwrap_err();
    assert_eq!(stands.kind(), std::io::ErrorKind::WouldBlock);
    open("ann");
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn a_client_that_asks_an_onion_service_for_another_port_loses_its_circuit() {
    a_circuit_is_cut(|socks, host| {
        let host = host.to_owned();
        // The proxy tries again, by other circuits; nobody waits for its answer.
        std::thread::spawn(move || socks::connect(socks, "ann", &host, 1985));
    });
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn a_client_that_opens_more_streams_to_an_onion_service_than_it_may_loses_its_circuit() {
    a_circuit_is_cut(|socks, host| {
        for _ in 1..=ONION_CIRCUIT_STREAMS_MAX {
            let host = host.to_owned();
            // As above; those that get a stream keep it.
            std::thread::spawn(move || std::mem::forget(socks::connect(socks, "ann", &host, 1984)));
        }
    });
}

/// One server for all, and it is the writer's own, too: what has most reason to be shared is not.
fn nothing_shares_a_circuit(home: Home, way: Way) {
    // Which service a rendezvous is for does not show: nobody else may have one.
    let network = if home == Home::Onion { Network::alone() } else { Network::shared() };
    let world = World::new();
    let (_server, address) = home.start(&network, &world);
    let mut alice = network.user(&world, "alice", &address, way);
    let mut others = ["bob", "carol", "dave"].map(|name| network.user(&world, name, &address, Way::Proxy));
    for other in &mut others {
        people::introduce(&alice, other);
        other.start();
    }
    // Their accounts are there then. What the relays carry to the server from now on is Alice's.
    for other in &mut others {
        other.wait_for_status("prekeys: 100");
        other.stop();
    }
    let before = network.now();
    alice.start();
    alice.wait_for_status("connection: connected");
    for other in &others {
        alice.drop_file(&other.name, "message", format!("to {} alone", other.name));
        let message = alice.wait_for_message(&format!("to {} alone", other.name));
        alice.wait_until_accepted(&message);
    }
    let circuits = match home {
        Home::Port => network.circuits_to(world.server.listen_address().parse().unwrap(), &before),
        // A circuit is here once, whatever it carries. Were one shared, they would be fewer.
        Home::Onion => network.rendezvous(&before),
    };
    let distinct: BTreeSet<_> = circuits.iter().collect();
    assert!(circuits.len() >= 4, "a home connection and three couriers: {circuits:?}");
    assert_eq!(distinct.len(), circuits.len(), "{circuits:?}");
    say(&format!("to one server ({home:?}, {way:?}): {} connections, {} circuits", circuits.len(), distinct.len()));
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn tor_in_process_has_a_circuit_for_the_home_connection_and_one_for_each_recipient() {
    nothing_shares_a_circuit(Home::Port, Way::Arti);
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn a_tor_that_runs_already_has_a_circuit_for_the_home_connection_and_one_for_each_recipient() {
    nothing_shares_a_circuit(Home::Port, Way::Proxy);
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn tor_in_process_meets_an_onion_service_once_for_the_home_connection_and_once_for_each_recipient() {
    nothing_shares_a_circuit(Home::Onion, Way::Arti);
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn a_tor_that_runs_already_meets_an_onion_service_once_for_the_home_connection_and_once_for_each_recipient() {
    nothing_shares_a_circuit(Home::Onion, Way::Proxy);
}

fn messages_arrive_once_though_the_network_dies(home: Home) {
    let mut network = Network::alone();
    let world = World::new();
    let (_server, address) = home.start(&network, &world);
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| network.user(&world, name, &address, Way::Arti));
    people::introduce(&alice, &bob);
    alice.start();
    bob.start();
    people::exchange(&alice, &bob, "before");
    let mut texts = vec!["before, there".to_owned()];
    let mut drop_some = || {
        for _ in 0..5 {
            texts.push(format!("number {}", texts.len()));
            alice.drop_file("bob", &texts.len().to_string(), texts.last().unwrap());
        }
        texts.last().unwrap().clone()
    };
    let pid = alice.daemon.as_ref().unwrap().pid();
    let guards: BTreeSet<String> =
        connections(pid).into_iter().filter_map(|far| network.relay_at(far).map(str::to_owned)).collect();
    assert!(!guards.is_empty(), "{:?}", connections(pid));
    let wait_for = |text: &str| {
        wait_patiently(RECOVERY, &bob.root, text, || {
            bob.heard_from("alice").iter().any(|heard| heard == text).then_some(())
        });
    };
    drop_some();
    // Which of them her circuits use does not show: one after the other.
    for guard in &guards {
        network.kill(guard);
        let last = drop_some();
        if home == Home::Onion {
            // The service's own paths go through it as well, by layers of guards that arti keeps for long: in so small a network
            // it may be unreachable for as long as the relay is dead.
            network.revive();
        }
        wait_for(&last);
        network.revive();
    }
    drop_some();
    network.restart();
    wait_for(&drop_some());
    bob.wait_for("all of them", || (bob.heard_from("alice").len() >= texts.len()).then_some(()));
    // What comes twice would have come before this.
    alice.drop_file("bob", "last", "last");
    bob.wait_for_message("last");
    texts.push("last".to_owned());
    let mut heard = bob.heard_from("alice");
    heard.sort();
    texts.sort();
    assert_eq!(heard, texts);
    assert!(entries(&bob.at("alerts")).is_empty() && entries(&alice.at("alerts")).is_empty());
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn messages_arrive_once_though_the_guard_is_killed_and_the_network_restarted() {
    messages_arrive_once_though_the_network_dies(Home::Port);
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn messages_arrive_once_by_an_onion_service_though_the_guard_is_killed_and_the_network_restarted() {
    messages_arrive_once_though_the_network_dies(Home::Onion);
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn a_wrong_clock_is_said_with_what_it_says_and_by_the_right_one_messages_go() {
    let network = Network::shared();
    let world = World::new();
    let [mut alice, mut bob] =
        ["alice", "bob"].map(|name| network.user(&world, name, &world.server.address, Way::Arti));
    people::introduce(&alice, &bob);
    bob.start();
    let clock = Clock::ahead(world.scratch.path(), -2 * 24 * 60 * 60);
    alice.start_under(clock.wrapper());
    alice.drop_file("bob", "message", "from the past");
    alice.wait_for("what its clock says", || {
        let status = std::fs::read_to_string(alice.at("status")).unwrap_or_default();
        let mut lines = status.lines();
        lines.any(|line| line.starts_with("tor: ") && line.contains("clock: it says ")).then_some(())
    });
    assert!(bob.heard_from("alice").is_empty());
    // Set under a daemon that runs it helps, too, once arti tries again: that takes minutes.
    alice.stop();
    alice.start();
    bob.wait_for_message("from the past");
}

/// A daemon in a namespace of its own, from which everything is a packet on one link.
fn nothing_leaves_but_to_tor(way: Way) {
    let network = Network::shared();
    let world = World::new();
    let namespace = Namespace::new();
    let mut alice = network.user(&world, "alice", &world.server.address, way);
    let mut bob = world.user("bob");
    let address: ServerAddress = world.server.address.parse().unwrap();
    let key = HEXLOWER.encode(&address.key().0);
    let nobody = world.user_at("nobody", &format!("chatterbox-server://no-such-host.invalid:1984/{key}"));
    people::introduce(&alice, &bob);
    alice.add(&nobody);
    let capture = Capture::of(&namespace);
    bob.start();
    alice.start_under(namespace.enter());
    people::exchange(&alice, &bob, "nobody sees this");
    // A name that only the relay at the other end is asked for.
    alice.drop_file("nobody", "message", "to nobody");
    alice.wait_for_status("trouble: nobody: ");
    alice.stop();
    let allowed = match way {
        Way::Arti => network.relays(),
        Way::Proxy => vec![network.socks()],
    };
    let packets = capture.stop();
    let leaked: Vec<_> = packets
        .iter()
        .filter(|packet| {
            let far = if packet.from.ip() == namespace.theirs { packet.to } else { packet.from };
            packet.transport != packets::TCP || !allowed.contains(&far)
        })
        .map(|packet| (packet.transport, packet.from, packet.to))
        .collect();
    assert_eq!(leaked, [], "neither UDP, nor port 53, nor anybody but Tor");
    assert!(packets.len() > 100, "what was sent is there: {}", packets.len());
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn nothing_leaves_a_daemon_with_tor_in_process_but_to_relays() {
    nothing_leaves_but_to_tor(Way::Arti);
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn nothing_leaves_a_daemon_with_a_tor_that_runs_already_but_to_its_port() {
    nothing_leaves_but_to_tor(Way::Proxy);
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn a_name_that_a_direct_daemon_looks_up_is_captured() {
    let world = World::new();
    let namespace = Namespace::new();
    let address: ServerAddress = world.server.address.parse().unwrap();
    let key = HEXLOWER.encode(&address.key().0);
    let mut alice = world.user_at("alice", &format!("chatterbox-server://no-such-host.invalid:1984/{key}"));
    let capture = Capture::of(&namespace);
    alice.start_under(namespace.enter());
    alice.wait_for_status("connection: not connected to no-such-host.invalid:1984: ");
    alice.stop();
    let packets = capture.stop();
    let asked = |packet: &packets::Packet| {
        let name = b"\x0cno-such-host\x07invalid";
        packet.to.port() == 53 && packet.payload.windows(name.len()).any(|part| part == name)
    };
    assert!(packets.iter().any(asked), "{packets:?}");
}

/// The lengths of what one side of a connection sends: its ephemeral key, and its frames, each with its varint.
fn lengths(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = vec![32];
    bytes = &bytes[32..];
    while !bytes.is_empty() {
        let varint = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let number = |(place, byte): (usize, &u8)| usize::from(byte & 0x7f) << (7 * place);
        let length = varint + bytes[..varint].iter().enumerate().map(number).sum::<usize>();
        lengths.push(length);
        bytes = &bytes[length..];
    }
    lengths
}

#[test]
#[ignore = "needs a Tor network: scripts/test-tor"]
fn a_connection_that_sends_and_one_that_only_receives_differ_in_the_number_of_frames_alone() {
    let world = World::new();
    let [mut alice, mut bob] = world.friends(["alice", "bob"]);
    bob.wait_for_status("prekeys: 100");
    alice.drop_file("bob", "first", "a session");
    bob.wait_for_message("a session");
    alice.stop();
    bob.stop();
    // Bob's would be a fourth connection.
    bob.set("acknowledge = false");
    let server = world.server.listen_address();
    let (host, port) = server.split_once(':').unwrap();
    let capture = Capture::of_loopback(&format!("host {host} and tcp port {port}"));
    bob.start();
    bob.wait_for_status("connection: connected");
    alice.start();
    for number in 0..10 {
        let text = format!("number {number} {}", "x".repeat(number * 100));
        alice.drop_file("bob", &number.to_string(), &text);
        bob.wait_for_message(&text);
    }
    alice.stop();
    bob.stop();
    let streams = packets::streams(&capture.stop(), server.parse().unwrap());
    // Their home connections, and that of Alice to Bob's account.
    assert_eq!(streams.len(), 3);
    let mut frames = Vec::new();
    for stream in &streams {
        frames.push([&stream.sent, &stream.received].map(|side| {
            let lengths = lengths(side);
            assert_eq!(lengths[..2], [32, 130], "a key and a proof");
            assert!(lengths[2..].iter().all(|length| *length == 16_659), "{lengths:?}");
            lengths.len() - 2
        }));
    }
    let busy = frames.iter().filter(|[sent, received]| *sent >= 10 && *received >= 10);
    assert_eq!(busy.count(), 2, "ten messages went from Alice and came to Bob: {frames:?}");
    say(&format!("frames of one size, sent and received: {frames:?}"));
}
