//! When a courier leaves, and who waits for whom.

use futures_util::FutureExt as _;

use super::*;
use crate::crypto::sign::SigningKey;
use crate::wire::state::AccountKeys;

/// A courier that is asked for these, which spread or do not, and who asks.
fn asked(delay: Duration, spreads: &[bool]) -> (Courier, mpsc::UnboundedSender<Order>) {
    asked_at(1, delay, spreads)
}

fn asked_at(port: u16, delay: Duration, spreads: &[bool]) -> (Courier, mpsc::UnboundedSender<Order>) {
    let server = ServerAddress::new("127.0.0.1", port, SecretKey::random(&mut OsRng).public()).unwrap();
    asked_of(server, delay, spreads)
}

fn asked_of(server: ServerAddress, delay: Duration, spreads: &[bool]) -> (Courier, mpsc::UnboundedSender<Order>) {
    let keys = AccountKeys {
        signing: SigningKey::random(&mut OsRng),
        auth: SecretKey::random(&mut OsRng),
        transport: SecretKey::random(&mut OsRng),
    };
    let (account, identity) = (keys.account(), keys.identity());
    let profile = Profile { name: "bob".into(), server, account, identity, version: 1 };
    let recipient = SignedProfile::sign(profile, &keys.signing).unwrap();
    let (sender, orders) = mpsc::unbounded_channel();
    for spreads in spreads {
        sender.send(Order { recipient: recipient.clone(), errand: Errand::TakePrekey, spreads: *spreads }).unwrap();
    }
    let courier = Courier {
        dialer: Dialer::Direct,
        circuit: Circuit::fresh(Instant::now(), &mut OsRng),
        returned: watch::channel(0).1,
        room: Room::new(Places { retrying: 1, connecting: 1, standing: 1, doubtful: 1 }),
        recipient,
        orders,
        errands: Errands::new(delay),
        events: mpsc::channel(1).0,
    };
    (courier, sender)
}

/// A courier's visit among others, perhaps after one that has failed.
fn visit(
    room: &Room,
    (mut courier, engine): (Courier, mpsc::UnboundedSender<Order>),
    has_failed: bool,
) -> tokio::task::JoinHandle<()> {
    courier.room = room.clone();
    courier.note_all();
    tokio::spawn(async move {
        let mut backoff = Backoff::default();
        if has_failed {
            backoff.failed(&mut OsRng);
        }
        let _ = courier.visit(&mut backoff).await;
        drop(engine);
    })
}

#[tokio::test]
async fn nothing_leaves_before_its_delay_is_over_and_without_one_it_leaves_at_once() {
    let hour = Duration::from_secs(3_600);
    let goes = |delay, spreads: &[bool]| {
        let (mut courier, _engine) = asked(delay, spreads);
        courier.note_all();
        courier.wait().now_or_never()
    };
    assert_eq!(goes(hour, &[true]), None);
    assert_eq!(goes(hour, &[true, false]), None, "behind one that waits");
    assert_eq!(goes(hour, &[false, true]), Some(true));
    assert_eq!(goes(Duration::ZERO, &[true]), Some(true));
}

#[tokio::test]
async fn servers_that_let_their_callers_hang_hold_up_each_other_and_nobody_new() {
    use tokio::net::TcpListener;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let room = Room::new(Places { retrying: 2, connecting: 5, standing: 64, doubtful: 2 });
    let visit = |has_failed: bool| visit(&room, asked_at(port, Duration::ZERO, &[false]), has_failed);
    // They are let in and never answered.
    let hanging: Vec<_> = (0..100).map(|_| visit(true)).collect();
    let mut let_in = vec![listener.accept().await.unwrap(), listener.accept().await.unwrap()];
    assert_eq!(room.retrying.available_permits(), 0, "the others wait without a connection");
    let newcomer = visit(false);
    let_in.push(listener.accept().await.unwrap());
    assert_eq!(room.connecting.available_permits(), 2, "three are connecting");
    hanging.iter().chain([&newcomer]).for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn servers_that_let_their_callers_in_and_never_answer_leave_most_places_to_others() {
    use crate::client::recorder::Recorder;
    use crate::net::connection::accept;
    use tokio::net::TcpListener;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let key = SecretKey::random(&mut OsRng);
    let silent = ServerAddress::new("127.0.0.1", listener.local_addr().unwrap().port(), key.public()).unwrap();
    let (asked, mut questions) = mpsc::unbounded_channel();
    let (met, mut meetings) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (key, asked, met) = (key.clone(), asked.clone(), met.clone());
            tokio::spawn(async move {
                let (_, mut reader, writer) = accept(stream.into_split(), key, &mut OsRng).await.unwrap();
                let _ = met.send(());
                while reader.read().await.is_ok() {
                    let _ = asked.send(());
                }
                drop(writer);
            });
        }
    });
    let room = Room::new(Places { retrying: 4, connecting: 5, standing: 2, doubtful: 1 });
    let visit =
        |server: ServerAddress, has_failed: bool| visit(&room, asked_of(server, Duration::ZERO, &[false]), has_failed);
    let hanging: Vec<_> = (0..20).map(|_| visit(silent.clone(), true)).collect();
    questions.recv().await.unwrap();
    // One has asked; the others have a connection and wait.
    for _ in 0..4 {
        meetings.recv().await.unwrap();
    }
    let mut recorder = Recorder::start(0).await;
    let newcomer = visit(recorder.address.clone(), false);
    tokio::select! {
        asked = recorder.requests.recv() => assert!(asked.is_some()),
        _ = questions.recv() => panic!("another of them got a place"),
    }
    hanging.iter().chain([&newcomer]).for_each(tokio::task::JoinHandle::abort);
}
