//! The rules by which two clients come to send in one session (`chatterbox::ratchet::rank`), in all orders of events that
//! small scopes allow: both open whenever they like, the network delays, reorders and repeats, prekeys are new after a
//! loss, and an old state comes back without notice. What is secret is left out of the model; what is decided is decided by
//! the functions that the client calls.

#![allow(clippy::print_stderr, reason = "how much was covered")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chatterbox::limits::{ANNOUNCED_WAIT_S, CHAIN_LIFETIME_S};
use chatterbox::ratchet::rank::{self, PeerChain};
use chatterbox::wire::control::Rank;
use chatterbox::wire::session::Standing;
use stateright::{Checker as _, HasDiscoveries, Model, Property};

/// When it all begins, seconds since 1970.
const START_S: u64 = 1_000_000_000;

/// Rounds after which both must agree whatever happened: each writes, everything arrives, a week passes.
const ROUNDS: usize = 4;

/// What may happen, and how often.
#[derive(Clone, Debug)]
struct Scope {
    /// The network keeps the order of each direction and repeats nothing, as honest servers do.
    in_order: bool,
    /// Messages that each writes; the first opens a session.
    writes: [u8; 2],
    /// How far each one's clock is ahead.
    ahead_s: [u64; 2],
    /// Weeks that pass.
    weeks: u8,
    /// Longer times, after which a session that was retired is erased.
    months: u8,
    /// Openings that come again.
    replays: u8,
    /// Who loses all sessions and prekeys and knows it.
    losses: [u8; 2],
    /// Whose earlier state comes back without notice.
    restores: [u8; 2],
    /// Later openings have the higher hashes, or the lower ones.
    hashes_rise: bool,
    broken: Option<Broken>,
}

/// A rule left out, to show that the model would tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// Of equal generations each side takes its own.
    Ties,
    /// A lower opening is not answered.
    Answer,
    /// Who opened above what the other named is told of that by an opening in turn.
    Await,
    /// Prekeys do not remember what they served.
    Memory,
    /// A chain goes on without an answer.
    Chain,
    /// Both having opened at once is not told from a stranger with a copy of the keys.
    Weeks,
}

/// A session as one side has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    /// Whether we opened it.
    is_ours: bool,
    /// Our chain and the peer's newest that we know of, counted from 1.
    mine: u8,
    theirs: u8,
    sent: u64,
    since_s: u64,
    accepted_s: u64,
    received: u64,
    begun_s: u64,
    retired_s: u64,
    /// Raised where the state came back from earlier and had moved on since: its keys fit no more.
    fork: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Client {
    sessions: BTreeMap<Rank, Held>,
    standing: Standing,
    /// What prekeys have served.
    served: BTreeSet<Rank>,
    /// Which set of prekeys it has.
    prekeys: u8,
    /// It lost state and is to tell the other.
    owes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Envelope {
    to: usize,
    rank: Rank,
    sealed_s: u64,
    fork: u8,
    content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Content {
    Opening { prekeys: u8 },
    Message { chain: u8 },
    Answer { chain: u8, named: Rank },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    clients: [Client; 2],
    earlier: [Option<Client>; 2],
    /// Under way.
    network: Vec<Envelope>,
    /// All openings that ever were, for whoever repeats them.
    openings: BTreeSet<Envelope>,
    now_s: u64,
    left: Left,
    /// Openings for a person's message, for a loss or a chain that was over; and those because of a note.
    opened: u8,
    opened_in_turn: u8,
    /// An opening was accepted that the same state had accepted before.
    accepted_twice: bool,
    /// Somebody was told that a session came about that nothing explains.
    alarmed: bool,
    forks: u8,
}

/// What the scope still allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Left {
    writes: [u8; 2],
    weeks: u8,
    months: u8,
    replays: u8,
    losses: [u8; 2],
    keeps: [u8; 2],
    restores: [u8; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Act {
    Write(usize),
    OpenInTurn(usize),
    Tell(usize),
    Deliver(usize),
    Repeat(Envelope),
    /// Longer than what is named can be under way.
    Hour,
    Week,
    Month,
    Lose(usize),
    Keep(usize),
    Restore(usize),
}

impl Scope {
    fn quiet() -> Self {
        Self {
            in_order: false,
            writes: [1, 1],
            ahead_s: [0, 0],
            weeks: 0,
            months: 0,
            replays: 0,
            losses: [0, 0],
            restores: [0, 0],
            hashes_rise: true,
            broken: None,
        }
    }

    fn is_broken(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    fn highest(&self, client: &Client) -> Option<Rank> {
        let ranks = client.sessions.iter();
        match self.is_broken(Broken::Ties) {
            false => ranks.map(|(rank, _)| *rank).max(),
            true => ranks.max_by_key(|(rank, held)| (rank.generation, held.is_ours)).map(|(rank, _)| *rank),
        }
    }

    fn is_usable(&self, world: &World, client: &Client) -> bool {
        let held = self.highest(client).and_then(|rank| client.sessions.get(&rank));
        let over = |held: &Held| rank::is_over(held.sent, held.since_s, world.now_s) && !self.is_broken(Broken::Chain);
        held.is_some_and(|held| !over(held))
    }

    fn is_due(&self, world: &World, who: usize) -> bool {
        let client = &world.clients[who];
        rank::is_due(&client.standing, self.highest(client), world.now_s)
    }

    /// Whether somebody waits for a session while nothing is under way.
    fn waits_in_vain(&self, world: &World) -> bool {
        let waits = |client: &Client| rank::is_outranked(&client.standing, self.highest(client));
        world.network.is_empty() && world.clients.iter().any(waits)
    }

    fn send(&self, world: &mut World, from: usize, rank: Rank, note: Option<Rank>) {
        let now_s = world.now_s;
        let Some(held) = world.clients[from].sessions.get_mut(&rank) else { return };
        held.sent += 1;
        if held.since_s == 0 {
            held.since_s = now_s;
        }
        let content = match note {
            Some(named) => Content::Answer { chain: held.mine, named },
            None => Content::Message { chain: held.mine },
        };
        let envelope = Envelope { to: 1 - from, rank, sealed_s: now_s, fork: held.fork, content };
        world.network.push(envelope);
        let highest = self.highest(&world.clients[from]);
        let sent_in = highest.and_then(|rank| world.clients[from].sessions.get_mut(&rank));
        if let Some(held) = sent_in.filter(|held| held.since_s > 0 && held.accepted_s == 0) {
            held.accepted_s = now_s;
        }
    }

    fn open(&self, world: &mut World, from: usize) {
        let number = world.opened + world.opened_in_turn;
        let hash = if self.hashes_rise { number } else { u8::MAX - number };
        let clock_s = world.now_s + self.ahead_s[from];
        let client = &mut world.clients[from];
        let highest = self.highest(client);
        let generation = rank::generation(&client.standing, highest, clock_s * 1_000_000);
        let rank = Rank { generation, opening: [hash; 32] };
        let held = Held {
            is_ours: true,
            mine: 1,
            theirs: 0,
            sent: 1,
            since_s: world.now_s,
            accepted_s: world.now_s,
            received: 0,
            begun_s: 0,
            retired_s: 0,
            fork: 0,
        };
        self.add(client, rank, held, world.now_s);
        let content = Content::Opening { prekeys: world.clients[1 - from].prekeys };
        let envelope = Envelope { to: 1 - from, rank, sealed_s: clock_s, fork: 0, content };
        world.openings.insert(envelope.clone());
        world.network.push(envelope);
    }

    fn add(&self, client: &mut Client, rank: Rank, held: Held, now_s: u64) {
        client.sessions.insert(rank, held);
        let highest = self.highest(client);
        let lower = client.sessions.iter_mut().filter(|(rank, held)| Some(**rank) < highest && held.retired_s == 0);
        lower.for_each(|(_, held)| held.retired_s = now_s);
    }

    /// A message, or what has to go before it.
    fn write(&self, world: &mut World, from: usize) {
        let client = &world.clients[from];
        match self.highest(client).filter(|_| self.is_usable(world, client)) {
            Some(rank) => self.send(world, from, rank, None),
            None => {
                self.open(world, from);
                world.opened += 1;
            }
        }
    }

    fn deliver(&self, world: &mut World, envelope: &Envelope) {
        match envelope.content {
            Content::Opening { prekeys } => self.deliver_opening(world, envelope, prekeys),
            Content::Message { chain } => {
                if self.receive(world, envelope, chain).is_some() {
                    rank::received(&mut world.clients[envelope.to].standing, envelope.rank);
                }
            }
            Content::Answer { chain, named } => {
                if self.receive(world, envelope, chain).is_some() {
                    let client = &mut world.clients[envelope.to];
                    let (has, highest) = (client.sessions.contains_key(&named), self.highest(client));
                    if self.is_broken(Broken::Await) {
                        client.standing.invitation = None;
                    }
                    rank::heed(&mut client.standing, named, has, highest, world.now_s);
                }
            }
        }
    }

    fn deliver_opening(&self, world: &mut World, envelope: &Envelope, prekeys: u8) {
        let (to, rank, now_s) = (envelope.to, envelope.rank, world.now_s);
        let client = &mut world.clients[to];
        let is_known = client.served.contains(&rank);
        let is_refused = match self.is_broken(Broken::Memory) {
            false => is_known,
            true => client.sessions.contains_key(&rank),
        };
        if prekeys != client.prekeys || is_refused {
            return;
        }
        world.accepted_twice |= is_known;
        client.served.insert(rank);
        let heard = client.sessions.iter().rfind(|(_, held)| held.theirs > 0);
        let newest = heard.map(|(_, held)| PeerChain {
            envelopes: held.received,
            since_s: held.begun_s,
            answered_s: held.accepted_s,
        });
        let opened_s = (rank.generation / 1_000_000).max(envelope.sealed_s).min(now_s);
        world.alarmed |= match self.is_broken(Broken::Weeks) {
            false => rank::is_unexplained(&client.standing, rank, newest, opened_s, now_s),
            true => newest.is_some(),
        };
        rank::received(&mut client.standing, rank);
        let highest = self.highest(client);
        let answer = rank::answer(&mut client.standing, rank, highest, now_s);
        let held = Held {
            is_ours: false,
            mine: 1,
            theirs: 1,
            sent: 0,
            since_s: 0,
            accepted_s: 0,
            received: 1,
            begun_s: envelope.sealed_s.min(now_s),
            retired_s: 0,
            fork: 0,
        };
        self.add(client, rank, held, now_s);
        if let Some(named) = answer.filter(|_| !self.is_broken(Broken::Answer)) {
            self.send(world, to, rank, Some(named));
        }
    }

    /// None where its session is not here, or its keys do not fit.
    fn receive(&self, world: &mut World, envelope: &Envelope, chain: u8) -> Option<()> {
        let now_s = world.now_s;
        let client = &mut world.clients[envelope.to];
        let held = client.sessions.get_mut(&envelope.rank).filter(|held| held.fork == envelope.fork)?;
        if chain > held.theirs {
            held.begun_s = envelope.sealed_s.min(now_s).max(held.since_s);
            (held.theirs, held.mine, held.received) = (chain, held.mine + 1, 0);
            (held.sent, held.since_s, held.accepted_s) = (0, 0, 0);
        }
        held.received += 1;
        Some(())
    }

    fn pass(world: &mut World, seconds: u64) {
        world.now_s += seconds;
        // What waits in a mailbox comes before anything is erased for its age.
        let waiting: Vec<usize> = world.network.iter().map(|envelope| envelope.to).collect();
        let clients = world.clients.iter_mut().enumerate();
        for (_, client) in clients.filter(|(who, _)| !waiting.contains(who)) {
            let (standing, now_s) = (&mut client.standing, world.now_s);
            client.sessions.retain(|_, held| {
                let spent = held.retired_s > 0 && now_s >= held.retired_s + 30 * 86_400;
                standing.heard |= spent && held.theirs > 0;
                !spent
            });
        }
    }

    fn restore(world: &mut World, who: usize) {
        let Some(mut back) = world.earlier[who].clone() else { return };
        world.forks += 1;
        for (rank, held) in &mut back.sessions {
            if world.clients[who].sessions.get(rank) != Some(held) {
                held.fork = world.forks;
            }
        }
        world.clients[who] = back;
    }

    /// Whether nothing is under way and nobody has anything to do by themselves.
    fn is_at_rest(&self, world: &World) -> bool {
        world.network.is_empty() && !self.waits_in_vain(world) && !world.clients.iter().any(|client| client.owes)
    }

    /// Whether both send in the same session, and can read each other there.
    fn agree(&self, world: &World) -> bool {
        let sends_in = |client: &Client| {
            let rank = self.highest(client)?;
            Some((rank, client.sessions.get(&rank)?.fork))
        };
        let [one, other] = world.clients.each_ref().map(sends_in);
        one.is_none() || other.is_none() || one == other
    }

    /// What becomes of a world in which nothing bad happens any more.
    fn settle(&self, world: &World) -> World {
        let mut world = world.clone();
        for _ in 0..ROUNDS {
            for who in [0, 1] {
                self.write(&mut world, who);
                while !self.is_at_rest(&world) {
                    if !world.network.is_empty() {
                        let envelope = world.network.remove(0);
                        self.deliver(&mut world, &envelope);
                    }
                    if self.waits_in_vain(&world) {
                        world.now_s += ANNOUNCED_WAIT_S;
                    }
                    for who in [0, 1] {
                        if self.is_due(&world, who) {
                            self.open(&mut world, who);
                            world.opened_in_turn += 1;
                        }
                    }
                }
            }
            Self::pass(&mut world, CHAIN_LIFETIME_S);
        }
        world
    }
}

impl Model for Scope {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        let left = Left {
            writes: self.writes,
            weeks: self.weeks,
            months: self.months,
            replays: self.replays,
            losses: self.losses,
            keeps: self.restores,
            restores: self.restores,
        };
        vec![World {
            clients: Default::default(),
            earlier: Default::default(),
            network: Vec::new(),
            openings: BTreeSet::new(),
            now_s: START_S,
            left,
            opened: 0,
            opened_in_turn: 0,
            accepted_twice: false,
            alarmed: false,
            forks: 0,
        }]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        let left = &world.left;
        for who in [0, 1] {
            let client = &world.clients[who];
            // A chain is given up once the mailbox has come to rest.
            let is_settled = self.highest(client).is_none() || !world.network.iter().any(|envelope| envelope.to == who);
            let may_write = self.is_usable(world, client) || !self.in_order || is_settled;
            acts.extend((left.writes[who] > 0 && may_write).then_some(Act::Write(who)));
            acts.extend(self.is_due(world, who).then_some(Act::OpenInTurn(who)));
            acts.extend(client.owes.then_some(Act::Tell(who)));
            acts.extend((left.losses[who] > 0).then_some(Act::Lose(who)));
            acts.extend((left.keeps[who] > 0).then_some(Act::Keep(who)));
            acts.extend((left.restores[who] > 0 && world.earlier[who].is_some()).then_some(Act::Restore(who)));
        }
        for (place, envelope) in world.network.iter().enumerate() {
            let mut before = world.network[..place].iter();
            let waits = match self.in_order {
                true => before.any(|other| other.to == envelope.to),
                false => before.any(|other| other == envelope),
            };
            acts.extend((!waits).then_some(Act::Deliver(place)));
        }
        if left.replays > 0 {
            acts.extend(world.openings.iter().cloned().map(Act::Repeat));
        }
        let is_due = self.is_due(world, 0) || self.is_due(world, 1);
        acts.extend((self.waits_in_vain(world) && !is_due).then_some(Act::Hour));
        acts.extend((left.weeks > 0).then_some(Act::Week));
        acts.extend((left.months > 0).then_some(Act::Month));
    }

    fn next_state(&self, before: &World, act: Act) -> Option<World> {
        let mut world = before.clone();
        let left = &mut world.left;
        match act {
            Act::Write(who) => {
                left.writes[who] -= 1;
                self.write(&mut world, who);
            }
            Act::Tell(who) => {
                // In a session of its own: one that came meanwhile may be below what the other knows and this one lost.
                world.clients[who].owes = false;
                self.open(&mut world, who);
                world.opened += 1;
            }
            Act::OpenInTurn(who) => {
                self.open(&mut world, who);
                world.opened_in_turn += 1;
            }
            Act::Deliver(place) => {
                let envelope = world.network.remove(place);
                self.deliver(&mut world, &envelope);
            }
            Act::Repeat(envelope) => {
                left.replays -= 1;
                world.network.push(envelope);
            }
            Act::Hour => world.now_s += ANNOUNCED_WAIT_S,
            Act::Week => {
                left.weeks -= 1;
                Self::pass(&mut world, CHAIN_LIFETIME_S);
            }
            Act::Month => {
                left.months -= 1;
                Self::pass(&mut world, 5 * CHAIN_LIFETIME_S);
            }
            Act::Lose(who) => {
                left.losses[who] -= 1;
                let prekeys = world.clients[who].prekeys + 1;
                world.clients[who] = Client { prekeys, owes: true, ..Client::default() };
            }
            Act::Keep(who) => {
                left.keeps[who] -= 1;
                world.earlier[who] = Some(world.clients[who].clone());
            }
            Act::Restore(who) => {
                left.restores[who] -= 1;
                Self::restore(&mut world, who);
            }
        }
        if !self.in_order {
            world.network.sort();
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("both send in one session", |scope: &Self, world: &World| {
                // A state that came back unnoticed needs a week of silence to be told from the right one. So does an
                // opening of before a loss that a server lets arrive behind the one after it.
                let is_told = scope.restores == [0, 0] && (scope.in_order || scope.losses == [0, 0]);
                !scope.is_at_rest(world) || !is_told || scope.agree(world)
            }),
            Property::always("both come to send in one session", |scope, world| {
                !scope.is_at_rest(world) || scope.agree(&scope.settle(world))
            }),
            Property::always("no opening is accepted twice", |_, world: &World| !world.accepted_twice),
            Property::always("what happens leads to few openings in turn", |scope: &Self, world: &World| {
                let (all, left) = (scope, &world.left);
                let passed = all.weeks - left.weeks + all.months - left.months;
                let gone = |all: [u8; 2], left: [u8; 2]| all[0] + all[1] - left[0] - left[1];
                let gone = gone(all.losses, left.losses) + gone(all.restores, left.restores);
                // Each of these may set both on the way again.
                world.opened_in_turn <= world.opened + 2 * (passed + gone)
            }),
            Property::always("nobody is alarmed for nothing", |scope: &Self, world: &World| {
                let is_honest = scope.in_order && (scope.losses, scope.restores) == ([0, 0], [0, 0]);
                !is_honest || !world.alarmed
            }),
        ]
    }
}

fn check(name: &str, scope: Scope) {
    for hashes_rise in [true, false] {
        let scope = Scope { hashes_rise, ..scope.clone() };
        let checker = scope.checker().threads(2).spawn_bfs().join();
        checker.assert_properties();
        eprintln!("{name}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    }
}

#[test]
fn whatever_the_network_does_both_come_to_send_in_one_session() {
    check("both write", Scope { writes: [3, 3], ..Scope::quiet() });
    check("chains end", Scope { writes: [2, 1], weeks: 1, ..Scope::quiet() });
    check("first messages come again", Scope { months: 1, replays: 2, ..Scope::quiet() });
    let ahead_s = [0, 1_000_000_000];
    check("a clock is ahead", Scope { writes: [2, 2], ahead_s, ..Scope::quiet() });
}

#[test]
fn whoever_loses_state_comes_to_send_in_one_session_with_the_other() {
    let ahead_s = [0, 1_000_000_000];
    check("both lose their state", Scope { losses: [1, 1], writes: [1, 1], ..Scope::quiet() });
    check("the one whose clock is behind", Scope { losses: [1, 0], writes: [2, 1], ahead_s, ..Scope::quiet() });
    check("the one whose clock is ahead", Scope { losses: [0, 1], writes: [2, 1], ahead_s, ..Scope::quiet() });
    let in_order = true;
    check("losses, in order", Scope { losses: [1, 1], in_order, ..Scope::quiet() });
    check("losses, in order, a clock ahead", Scope { losses: [1, 1], in_order, ahead_s, ..Scope::quiet() });
    check("earlier states come back", Scope { restores: [1, 1], ..Scope::quiet() });
    check("one comes back while chains end", Scope { restores: [1, 0], weeks: 1, ..Scope::quiet() });
}

#[test]
fn two_honest_clients_are_never_alarmed() {
    let in_order = Scope { in_order: true, ..Scope::quiet() };
    check("in order", Scope { writes: [3, 2], weeks: 2, ..in_order.clone() });
    check("in order, over months", Scope { writes: [3, 2], weeks: 1, months: 1, ..in_order });
}

/// Each rule is needed: without it the model finds a case.
#[test]
fn the_model_tells_when_a_rule_is_left_out() {
    let in_order = Scope { in_order: true, ..Scope::quiet() };
    let behind = Scope { losses: [1, 0], ahead_s: [0, 1_000_000_000], ..Scope::quiet() };
    for (broken, scope, property) in [
        (Broken::Ties, Scope::quiet(), "both send in one session"),
        (Broken::Answer, Scope { in_order: true, ..behind }, "both send in one session"),
        (Broken::Await, Scope { writes: [2, 2], ..Scope::quiet() }, "what happens leads to few openings in turn"),
        (Broken::Memory, Scope { months: 1, replays: 1, ..Scope::quiet() }, "no opening is accepted twice"),
        (Broken::Chain, Scope { restores: [1, 0], ..Scope::quiet() }, "both come to send in one session"),
        (Broken::Weeks, Scope { writes: [2, 1], weeks: 1, ..in_order }, "nobody is alarmed for nothing"),
    ] {
        let scope = Scope { broken: Some(broken), ..scope };
        let finish = HasDiscoveries::AnyOf([property].into());
        let checker = scope.checker().finish_when(finish).timeout(Duration::from_secs(600)).spawn_bfs().join();
        let found = checker.discovery(property);
        assert!(found.is_some(), "{broken:?} makes no difference in {} states", checker.unique_state_count());
        eprintln!("{broken:?} left out: found after {} states", checker.unique_state_count());
    }
}
