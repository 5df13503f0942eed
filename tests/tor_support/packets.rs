//! Captured packets, and the streams of TCP in them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Numbers of transports, as IP has them.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Looking for neighbours and routers, and for who listens to groups (RFC 4861, 3810): what the kernel does by itself on a link
/// with IPv6.
const HOUSEKEEPING: [u8; 6] = [133, 134, 135, 136, 137, 143];

/// A packet of IP. What is neither TCP nor UDP has the ports 0.
#[derive(Clone, Debug)]
pub struct Packet {
    pub transport: u8,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub payload: Vec<u8>,
    /// Of TCP: the number of the first byte, and whether it opens a direction.
    sequence: u32,
    is_opening: bool,
}

/// The packets in a file of tcpdump's, also in one that is being written. What is not IP is left out, and so is the housekeeping
/// of IPv6.
pub fn read(file: &[u8]) -> Vec<Packet> {
    let word = |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().unwrap()));
    let Some(link) = word(20) else { return Vec::new() };
    assert_eq!(word(0), Some(0xa1b2_c3d4), "a file of this machine's byte order, with microseconds");
    let mut packets = Vec::new();
    let mut at = 24;
    while let Some(length) = word(at + 8) {
        let length = usize::try_from(length).unwrap();
        assert_eq!(word(at + 8), word(at + 12), "cut off");
        let Some(frame) = file.get(at + 16..at + 16 + length) else { break };
        packets.extend(packet(link, frame));
        at += 16 + length;
    }
    packets
}

fn packet(link: u32, frame: &[u8]) -> Option<Packet> {
    // LINKTYPE_ETHERNET and LINKTYPE_LINUX_SLL2.
    let (kind, packet) = match link {
        1 => (&frame[12..14], &frame[14..]),
        276 => (&frame[..2], &frame[20..]),
        other => panic!("a link of type {other}"),
    };
    let (transport, from, to, segment): (_, IpAddr, IpAddr, _) = match kind {
        [8, 0] => {
            let header = usize::from(packet[0] & 15) * 4;
            let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            assert_eq!(u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff, 0, "a fragment");
            let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
            (packet[9], address(12).into(), address(16).into(), &packet[header..length])
        }
        [0x86, 0xdd] => {
            let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
            let (mut transport, mut segment) = (packet[6], &packet[40..40 + length]);
            if transport == 0 {
                // Hop-by-hop options, which only housekeeping has.
                (transport, segment) = (segment[0], &segment[8 + 8 * usize::from(segment[1])..]);
            }
            if transport == ICMPV6 && HOUSEKEEPING.contains(&segment[0]) {
                return None;
            }
            (transport, address(8).into(), address(24).into(), segment)
        }
        _ => return None,
    };
    let port = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
    let (ports, payload) = match transport {
        TCP => ((port(0), port(2)), &segment[usize::from(segment[12] >> 4) * 4..]),
        UDP => ((port(0), port(2)), &segment[8..]),
        _ => ((0, 0), segment),
    };
    let is_tcp = transport == TCP;
    Some(Packet {
        transport,
        from: (from, ports.0).into(),
        to: (to, ports.1).into(),
        payload: payload.to_vec(),
        sequence: if is_tcp { u32::from_be_bytes(segment[4..8].try_into().unwrap()) } else { 0 },
        is_opening: is_tcp && segment[13] & 2 != 0,
    })
}

/// A connection, seen from its beginning: the bytes of both directions.
#[derive(Clone, Debug)]
pub struct Stream {
    pub client: SocketAddr,
    pub sent: Vec<u8>,
    pub received: Vec<u8>,
}

/// The connections to a server, in the order in which they were opened.
pub fn streams(packets: &[Packet], server: SocketAddr) -> Vec<Stream> {
    let segments = || packets.iter().filter(|packet| packet.transport == TCP);
    let mut clients: Vec<SocketAddr> = Vec::new();
    for packet in segments().filter(|packet| packet.to == server && packet.is_opening) {
        if !clients.contains(&packet.from) {
            clients.push(packet.from);
        }
    }
    let direction = |from: SocketAddr, to: SocketAddr| {
        let of_it = || segments().filter(move |packet| (packet.from, packet.to) == (from, to));
        let Some(opening) = of_it().find(|packet| packet.is_opening) else { return Vec::new() };
        let mut pieces = BTreeMap::new();
        for packet in of_it().filter(|packet| !packet.payload.is_empty() && !packet.is_opening) {
            let at = packet.sequence.wrapping_sub(opening.sequence).wrapping_sub(1);
            // A byte of a direction that has ended or was looked for; not content.
            let piece = pieces.entry(usize::try_from(at).unwrap()).or_insert_with(Vec::new);
            if piece.len() < packet.payload.len() {
                piece.clone_from(&packet.payload);
            }
        }
        let mut bytes = Vec::new();
        for (at, piece) in pieces {
            assert!(at <= bytes.len(), "{from} to {to}: a piece is missing at {}", bytes.len());
            let known = bytes.len() - at;
            bytes.extend_from_slice(piece.get(known..).unwrap_or_default());
        }
        bytes
    };
    let stream = |client| Stream { client, sent: direction(client, server), received: direction(server, client) };
    clients.into_iter().map(stream).collect()
}
