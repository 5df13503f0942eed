//! Through Tor: a real network of relays, which `scripts/test-tor` starts. What is claimed of a client is seen where it counts:
//! at the relays, and on the link.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;
mod tor_support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};

use tor_support::capture::Capture;
use tor_support::namespace::{self, Namespace};
use tor_support::packets::{self, UDP};
use tor_support::{Network, connections, socks};

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
    let network = Network::shared();
    if let Some(reason) = namespace::missing(&network) {
        return say(&format!("SKIPPED: {reason}"));
    }
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
