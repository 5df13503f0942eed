//! The control port of a tor (control-spec): questions, and events to wait for.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};

use data_encoding::HEXUPPER;

use crate::support::DEADLINE;

/// A connection that has authenticated itself.
pub struct Control {
    reader: BufReader<TcpStream>,
    events: VecDeque<String>,
}

impl Control {
    pub(super) fn open(address: SocketAddr, cookie: &[u8]) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        // Ends a test that waits in vain.
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut control = Self { reader: BufReader::new(stream), events: VecDeque::new() };
        control.ask(&format!("AUTHENTICATE {}", HEXUPPER.encode(cookie)));
        control
    }

    /// The lines of the reply, without their codes and without the last one, which must be `250 OK`.
    pub fn ask(&mut self, command: &str) -> Vec<String> {
        write!(self.reader.get_mut(), "{command}\r\n").unwrap();
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            let (code, rest) = line.split_at_checked(3).unwrap();
            let (kind, rest) = rest.split_at_checked(1).unwrap();
            match (code, kind) {
                ("650", _) => self.events.push_back(rest.to_owned()),
                ("250", " ") => return lines,
                ("250", "-") => lines.push(rest.to_owned()),
                ("250", "+") => {
                    lines.push(rest.to_owned());
                    lines.extend(std::iter::from_fn(|| Some(self.line()).filter(|line| line != ".")));
                }
                _ => panic!("{command}: {line}"),
            }
        }
    }

    /// What GETINFO says about something that may have many lines, such as `circuit-status`.
    pub fn info(&mut self, keyword: &str) -> Vec<String> {
        let mut lines = self.ask(&format!("GETINFO {keyword}"));
        let value = lines[0].strip_prefix(&format!("{keyword}=")).unwrap().to_owned();
        if value.is_empty() {
            lines.remove(0);
        } else {
            lines[0] = value;
        }
        lines
    }

    /// Makes it tell what happens, from now on: `CIRC STREAM` for example.
    pub fn watch(&mut self, events: &str) {
        self.ask(&format!("SETEVENTS {events}"));
    }

    /// The next event that `look` finds something in.
    pub fn wait_for<T>(&mut self, mut look: impl FnMut(&str) -> Option<T>) -> T {
        loop {
            let event = self.events.pop_front().unwrap_or_else(|| {
                let line = self.line();
                line.strip_prefix("650").and_then(|rest| rest.get(1..)).expect("nothing was asked").to_owned()
            });
            if let Some(found) = look(&event) {
                return found;
            }
        }
    }

    /// The circuit that carries a stream to `target`: its number, and its relays by name, the guard first.
    pub fn circuit_to(&mut self, target: &str) -> (String, Vec<String>) {
        let streams = self.info("stream-status");
        let words = streams.iter().map(|line| line.split(' ').collect::<Vec<_>>());
        let stream = words.into_iter().find(|words| words[3] == target && words[1] == "SUCCEEDED").unwrap();
        let circuits = self.info("circuit-status");
        let circuit = circuits.iter().find_map(|line| line.strip_prefix(&format!("{} BUILT ", stream[2]))).unwrap();
        let path = circuit.split(' ').next().unwrap().split(',');
        (stream[2].to_owned(), path.map(|relay| relay.split_once('~').unwrap().1.to_owned()).collect())
    }

    /// Makes this tor publish an onion service whose port 1984 is `target`, as long as this connection lasts. Hands out the
    /// name of the service when a directory has it.
    pub fn onion_service(&mut self, target: SocketAddr) -> String {
        self.watch("HS_DESC");
        let made = self.ask(&format!("ADD_ONION NEW:ED25519-V3 Flags=DiscardPK Port=1984,{target}"));
        let id = made[0].strip_prefix("ServiceID=").unwrap().to_owned();
        self.wait_for(|event| event.starts_with(&format!("HS_DESC UPLOADED {id} ")).then_some(()));
        format!("{id}.onion")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n").expect("tor goes on").to_owned()
    }
}
