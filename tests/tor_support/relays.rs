//! Which circuits carried what, as the relays see it: they log it in `circuits.log`. That holds for any client, also for one
//! that does not say which circuits it uses.
//!
//! tor does its work in one thread, and logs the circuit of each cell that it gets before it says what the cell asks for. A
//! line that opens a connection is written before the connection is: who has accepted one finds its line.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;

use super::{Network, RELAYS};

/// A circuit, at the relay where it ends. Numbers are random, 31 bits: nobody meets one twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Circuit {
    pub relay: String,
    pub number: u32,
}

/// A moment, as a place in each log.
#[derive(Clone, Debug)]
pub struct Moment(HashMap<&'static str, usize>);

impl Network {
    pub fn now(&self) -> Moment {
        Moment(RELAYS.iter().map(|relay| (*relay, self.log(relay).len())).collect())
    }

    /// For each TCP connection that exit relays have opened to `server` since then, the circuit that asked for it. In order of
    /// time where they are of one relay.
    pub fn circuits_to(&self, server: SocketAddr, since: &Moment) -> Vec<Circuit> {
        let target = format!("connection_connect(): Connecting to \"{}\":{}.", server.ip(), server.port());
        let mut found = Vec::new();
        for (relay, log) in self.logs(since) {
            let (mut number, mut is_exit) = (None, false);
            for line in log.lines() {
                if line.contains("() returning circuit ") {
                    number = number_after(line, " for circ_id ");
                } else if line.contains("connection_exit_connect(): about to try connecting") {
                    is_exit = true;
                } else if line.contains("connection_connect(): Connecting to ") {
                    // Relays open connections to each other, too.
                    if std::mem::take(&mut is_exit) && line.ends_with(&target) {
                        found.push(Circuit { relay: relay.to_owned(), number: number.expect("the cell came by one") });
                    }
                }
            }
        }
        found
    }

    /// The circuits of clients that have met an onion service since then: one for each, however many streams they carry.
    pub fn rendezvous(&self, since: &Moment) -> Vec<Circuit> {
        let mut found = Vec::new();
        for (relay, log) in self.logs(since) {
            let met = log.lines().filter(|line| line.contains("rend_mid_rendezvous(): Completing rendezvous: "));
            let numbers = met.map(|line| number_after(line, " joins circuit ").expect("it names it"));
            found.extend(numbers.map(|number| Circuit { relay: relay.to_owned(), number }));
        }
        found
    }

    /// What each relay has logged since then.
    fn logs(&self, since: &Moment) -> impl Iterator<Item = (&'static str, String)> {
        let new = |relay: &'static str| String::from_utf8_lossy(&self.log(relay)[since.0[relay]..]).into_owned();
        RELAYS.into_iter().map(move |relay| (relay, new(relay)))
    }

    fn log(&self, relay: &str) -> Vec<u8> {
        fs::read(self.data(relay).join("circuits.log")).unwrap()
    }
}

fn number_after(text: &str, what: &str) -> Option<u32> {
    let (_, text) = text.split_once(what)?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().ok()
}
