//! Slots one by one, against a server that writes down what it is asked.

use std::collections::HashSet;

use tokio::sync::mpsc::UnboundedReceiver;

use super::super::recorder::{Recorder, Seen};
use super::super::ticket::{Left, Ticket};
use super::*;
use crate::crypto::sign::SigningKey;
use crate::limits::ENVELOPE_BYTES;
use crate::wire::envelope::Envelope;
use crate::wire::profile::{Profile, SignedProfile};
use crate::wire::state::AccountKeys;

fn recipient(name: &str, server: &ServerAddress) -> SignedProfile {
    let keys = AccountKeys {
        signing: SigningKey::random(&mut OsRng),
        auth: SecretKey::random(&mut OsRng),
        transport: SecretKey::random(&mut OsRng),
    };
    let (account, identity) = (keys.account(), keys.identity());
    let profile = Profile { name: name.into(), server: server.clone(), account, identity, version: 1 };
    SignedProfile::sign(profile, &keys.signing).unwrap()
}

fn deliver(recipient: &SignedProfile, sequence: u64) -> Order {
    deliver_by(recipient, sequence, Ticket::new())
}

fn deliver_by(recipient: &SignedProfile, sequence: u64, ticket: Ticket) -> Order {
    let byte = u8::try_from(sequence).unwrap();
    let envelope = Envelope::from_slice(&[byte; ENVELOPE_BYTES]).unwrap();
    let errand = Errand::Deliver { sequence, envelope, alone: false, ticket };
    Order { recipient: recipient.clone(), errand, spreads: true }
}

struct Bench {
    pacer: Pacer,
    events: mpsc::Receiver<Event>,
    ends: UnboundedReceiver<Ended>,
    seen: UnboundedReceiver<Seen>,
}

impl Bench {
    async fn new(refusals: usize) -> (Self, ServerAddress) {
        let Recorder { address, connections: seen, .. } = Recorder::start(refusals).await;
        let ((sender, events), (ended, ends)) = (mpsc::channel(64), mpsc::unbounded_channel());
        let visitor = Visitor { dialer: Dialer::Direct, home: address.clone(), events: sender, ended };
        let pacer = Pacer { line: Line::default(), visits: Arc::new(Semaphore::new(COURIERS_MAX)), visitor };
        (Self { pacer, events, ends, seen }, address)
    }

    /// One slot, to the end of its visit.
    async fn slot(&mut self) -> Seen {
        self.pacer.slot();
        let seen = self.seen.recv().await.unwrap();
        if !matches!(seen.1[..], [Command::Ping]) {
            let end = self.ends.recv().await.unwrap();
            self.pacer.note(end);
        }
        seen
    }
}

#[tokio::test]
async fn each_slot_is_one_connection_with_one_request_whether_something_waits_or_not() {
    let (mut bench, address) = Bench::new(0).await;
    let [bob, carol] = ["bob", "carol"].map(|name| recipient(name, &address));
    for order in [deliver(&bob, 1), deliver(&bob, 2), deliver(&carol, 3)] {
        bench.pacer.line.push(order);
    }
    let mut keys = HashSet::new();
    let mut said = Vec::new();
    for _ in 0..6 {
        let (key, mut asked) = bench.slot().await;
        assert!(keys.insert(key.0), "a key for each visit");
        said.push(match (asked.pop().unwrap(), asked.is_empty()) {
            (Command::Deliver { envelope, .. }, true) => envelope.as_bytes()[0],
            (Command::Ping, true) => 0,
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(said, [1, 2, 3, 0, 0, 0]);
    for expected in 1..=3 {
        let Some(Event::Accepted { sequence, .. }) = bench.events.recv().await else { panic!("not accepted") };
        assert_eq!(sequence, expected);
    }
    assert!(bench.seen.try_recv().is_err(), "and nothing else");
}

#[tokio::test]
async fn a_visit_that_failed_gets_another_slot_and_nothing_overtakes_it() {
    let (mut bench, address) = Bench::new(1).await;
    let bob = recipient("bob", &address);
    bench.pacer.line.push(deliver(&bob, 1));
    bench.pacer.line.push(deliver(&bob, 2));
    bench.slot().await;
    assert!(matches!(bench.events.recv().await, Some(Event::Trouble { .. })));
    // Slots before its time are cover.
    let mut said = Vec::new();
    while said.len() < 2 {
        let (_, asked) = bench.slot().await;
        match &asked[..] {
            [Command::Deliver { envelope, .. }] => said.push(envelope.as_bytes()[0]),
            [Command::Ping] => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(said, [1, 2]);
}

#[tokio::test]
async fn what_was_taken_back_before_it_left_is_a_visit_like_any_other_and_does_not_leave() {
    let (mut bench, address) = Bench::new(0).await;
    let (bob, ticket) = (recipient("bob", &address), Ticket::new());
    bench.pacer.line.push(deliver_by(&bob, 1, ticket.clone()));
    bench.pacer.line.push(deliver(&bob, 2));
    assert_eq!(ticket.withdraw(), Left::Never);
    // As for cover: a visit to their server that asks for nothing.
    bench.pacer.slot();
    let (_, asked) = bench.seen.recv().await.unwrap();
    assert!(matches!(asked[..], [Command::Ping]), "{asked:?}");
    let end = bench.ends.recv().await.unwrap();
    bench.pacer.note(end);
    let (_, asked) = bench.slot().await;
    assert!(matches!(&asked[..], [Command::Deliver { envelope, .. }] if envelope.as_bytes()[0] == 2), "{asked:?}");
    let Some(Event::Accepted { sequence, .. }) = bench.events.recv().await else { panic!("not accepted") };
    assert_eq!(sequence, 2);
}

#[tokio::test]
async fn a_slot_for_which_no_visit_is_left_is_lost() {
    let (mut bench, address) = Bench::new(0).await;
    bench.pacer.line.push(deliver(&recipient("bob", &address), 1));
    let all = bench.pacer.visits.clone().acquire_many_owned(u32::try_from(COURIERS_MAX).unwrap()).await.unwrap();
    bench.pacer.slot();
    drop(all);
    let (_, asked) = bench.slot().await;
    assert!(matches!(asked[..], [Command::Deliver { .. }]), "it still waits for its slot");
    assert!(bench.seen.try_recv().is_err());
}

#[tokio::test]
async fn slots_come_without_orders_and_end_with_the_engine() {
    let Recorder { address, connections: mut seen, .. } = Recorder::start(0).await;
    let ((events, _queue), (orders, orders_queue)) = (mpsc::channel(4), mpsc::unbounded_channel());
    let mean = Duration::from_millis(1);
    let running = tokio::spawn(run(mean, Dialer::Direct, address, events, orders_queue));
    for _ in 0..5 {
        let (_, asked) = seen.recv().await.unwrap();
        assert!(matches!(asked[..], [Command::Ping]), "{asked:?}");
    }
    drop(orders);
    running.await.unwrap();
}
