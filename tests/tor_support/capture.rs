//! What passes over a link, by tcpdump.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use tempfile::TempDir;

use super::namespace::Namespace;
use super::packets::{self, Packet};
use crate::support::{Signal, send_signal, wait_for};

/// Nobody listens there, in any namespace.
const DISCARD: u16 = 9;
const LAST: &[u8] = b"the last packet of this capture";

/// A capture that runs.
pub struct Capture {
    tcpdump: Child,
    said: BufReader<ChildStderr>,
    directory: TempDir,
    /// An address that packets from here to pass the link.
    beyond: Ipv4Addr,
}

impl Capture {
    /// Of all that processes in the namespace send and get, over its link and its own loopback.
    pub fn of(namespace: &Namespace) -> Self {
        Self::start(namespace.enter(), "any", "", namespace.theirs)
    }

    /// Of our own loopback, as far as a filter of tcpdump takes it.
    pub fn of_loopback(filter: &str) -> Self {
        let filter = format!("({filter}) or udp port {DISCARD}");
        Self::start(Command::new("env"), "lo", &filter, Ipv4Addr::LOCALHOST)
    }

    fn start(mut wrapper: Command, interface: &str, filter: &str, beyond: Ipv4Addr) -> Self {
        let directory = TempDir::new().unwrap();
        let mut tcpdump = wrapper
            // As root where it is, who can read what it writes.
            .args(["tcpdump", "-n", "-U", "--immediate-mode", "-B", "16384", "-Z", "root", "-i", interface, "-w"])
            .arg(directory.path().join("pcap"))
            .arg(filter)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(tcpdump.stderr.take().unwrap());
        let mut line = String::new();
        // From then on it sees all.
        while !line.contains("listening on") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "tcpdump has ended");
        }
        Self { tcpdump, said, directory, beyond }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("pcap")
    }

    /// Ends it, and hands out what had passed by now.
    pub fn stop(mut self) -> Vec<Packet> {
        // What came before a packet of ours is in the file when that one is.
        let sentinel: SocketAddr = (self.beyond, DISCARD).into();
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(LAST, sentinel).unwrap();
        let file = self.file();
        let is_last = |packet: &Packet| packet.to == sentinel && packet.payload == LAST;
        let mut packets = wait_for(self.directory.path(), "the end of the capture", || {
            let packets = packets::read(&fs::read(&file).unwrap());
            packets.iter().any(is_last).then_some(packets)
        });
        packets.truncate(packets.iter().position(is_last).unwrap());
        send_signal(&self.tcpdump, Signal::INT);
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("\n0 packets dropped by kernel"), "{rest}");
        packets
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}
