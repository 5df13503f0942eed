//! The file of the sessions with one peer, from a hostile or damaged disk. An input is a byte that says which of three, and
//! what follows:
//!
//! | byte modulo 3 | file |
//! |---:|---|
//! | 0 | the bytes as they are |
//! | 1 | what was written, then changed |
//! | 2 | a session whose fields are right, and whose numbers, chains and skipped keys are not |
//!
//! What parses is written and read again as it was; and the session sends, announces its tags and receives, whatever it
//! holds: it refuses and stays as it was, or takes and keeps its bounds.

use std::sync::OnceLock;

use chatterbox::crypto::secret::Secret;
use chatterbox::limits::{CHAIN_JUMP_MAX, RECEIVING_CHAINS_MAX, SKIPPED_KEYS_MAX, TAG_WINDOW};
use chatterbox::ratchet::{ChainAt, Refused, Session};
use chatterbox::wire::header::Header;
use chatterbox::wire::session::SessionState;
use chatterbox::wire::state::AccountKeys;

use super::hostile;
use super::input::Input;
use super::receiver::{NOW, account};
use super::rng::Rng;
use super::{envelope, stored};

const EDITS_MAX: u8 = 4;
const CHANGES_MAX: u8 = 12;
/// Beyond the bound, and not so many that one input takes seconds.
const CHAINS_MAX: usize = RECEIVING_CHAINS_MAX + 8;
const SESSIONS_MAX: usize = 4;

/// Checks one input; says whether it is a file of sessions.
///
/// # Panics
/// If something does not hold.
pub fn check(input: &[u8]) -> bool {
    let mut input = Input(input);
    let bytes = match input.byte() % 3 {
        0 => std::mem::take(&mut input.0).to_vec(),
        1 => {
            let mut bytes = written().clone();
            for _ in 0..input.byte() % EDITS_MAX {
                input.edit(&mut bytes);
            }
            bytes
        }
        _ => stored::serialize(&stored::with(vec![wrong(&mut input)])),
    };
    let Ok(mut parsed) = stored::parse(&bytes) else { return false };
    let again = stored::serialize(&parsed);
    assert!(stored::parse(&again).as_ref() == Ok(&parsed), "a file does not come back");
    let sessions = stored::sessions(&mut parsed);
    let any = !sessions.is_empty();
    sessions.drain(..).take(SESSIONS_MAX).for_each(|state| lives(Session::new(state), &mut input));
    any
}

/// With a closed chain and an open one, and with skipped keys in both.
fn standing() -> &'static SessionState {
    static STANDING: OnceLock<SessionState> = OnceLock::new();
    STANDING.get_or_init(|| envelope::standing().state().clone())
}

fn written() -> &'static Vec<u8> {
    static WRITTEN: OnceLock<Vec<u8>> = OnceLock::new();
    WRITTEN.get_or_init(|| stored::serialize(&stored::with(vec![standing().clone()])))
}

fn ours() -> &'static AccountKeys {
    static KEYS: OnceLock<AccountKeys> = OnceLock::new();
    KEYS.get_or_init(|| account("bob"))
}

/// A state that no history leads to.
fn wrong(input: &mut Input<'_>) -> SessionState {
    let mut state = standing().clone();
    for _ in 0..input.byte() % CHANGES_MAX {
        let change = input.byte();
        let chains = state.receiving.len();
        let chain = &mut state.receiving;
        match change % 14 {
            0 => state.sending.counter = input.counter(),
            1 => state.sending.previous = input.counter(),
            2 => state.generation = input.counter(),
            3 => state.peer.auth = hostile::public_key(input),
            4 => state.sending.peer_auth = hostile::public_key(input),
            5 => state.sending.ciphertext = hostile::ciphertext(&state.sending.ciphertext, input),
            6 => {
                let copies = usize::from(input.byte()) % CHAINS_MAX;
                if let Some(last) = chain.last().cloned() {
                    chain.extend(std::iter::repeat_n(last, copies.min(CHAINS_MAX - chains.min(CHAINS_MAX))));
                }
            }
            7 => chain.truncate(input.place(chains + 1)),
            8 => {
                let (place, counter) = (input.place(chains), input.counter());
                chain.iter_mut().skip(place).take(1).for_each(|chain| chain.counter = counter);
            }
            9 => {
                let (place, key) = (input.place(chains), input.byte());
                let key = (key & 1 != 0).then(|| Secret::new([key; 32]));
                chain.iter_mut().skip(place).take(1).for_each(|chain| chain.chain_key.clone_from(&key));
            }
            10 => {
                let (place, from, count) = (input.place(chains), input.counter(), input.counter());
                let count = count.min(SKIPPED_KEYS_MAX as u64 + 100);
                let Some(chain) = chain.get_mut(place) else { continue };
                let Some(skipped) = chain.skipped.values().next().cloned() else { continue };
                chain.skipped.extend((0..count).map(|more| (from.saturating_add(more), skipped.clone())));
            }
            11 => {
                let place = input.place(chains);
                chain.iter_mut().skip(place).take(1).for_each(|chain| chain.skipped.clear());
            }
            12 => state.retired = input.number(),
            _ => {
                let (since, accepted, begun) = (input.number(), input.number(), input.number());
                (state.sending.since, state.sending.accepted) = (since, accepted);
                chain.iter_mut().for_each(|chain| {
                    chain.since = begun;
                    chain.skipped.values_mut().for_each(|skipped| skipped.since = begun);
                });
            }
        }
    }
    state
}

/// Does with a session what the client does.
fn lives(mut session: Session, input: &mut Input<'_>) {
    let mut rng = Rng::new(b"session");
    let identity = ours().identity();
    let announced = session.announced();
    let (open, skipped) =
        (session.state().receiving.iter().filter(|chain| chain.chain_key.is_some()).count(), kept(&session));
    assert!(session.expected_tags().len() as u64 <= TAG_WINDOW * (1 + open as u64) + skipped as u64);
    // Near the end of what a counter can be it says yes: no harm, the tags are made anew.
    session.has_outrun(&announced);
    let (first, second) = (session.send(&identity, &mut rng), session.send(&identity, &mut rng));
    assert!(first.message_key != second.message_key, "a message key repeats");
    assert!(second.header.counter >= first.header.counter);

    let at = match input.byte() {
        240.. => ChainAt::Begun(usize::MAX),
        200.. => ChainAt::Next,
        place => ChainAt::Begun(usize::from(place) % session.state().receiving.len().max(1)),
    };
    let ratchet = match at {
        ChainAt::Begun(place) => session.state().receiving.get(place).map(|chain| chain.peer_ratchet),
        ChainAt::Next => Some(hostile::public_key(input)),
    };
    let mut header: Header = first.header;
    header.ratchet = ratchet.unwrap_or(header.ratchet);
    header.counter = input.counter();
    header.previous = input.counter();
    let before = session.clone();
    // One or the other: a walk takes long.
    let is_authentic = input.byte() % 4 < 3;
    let refusal = if is_authentic { Ok(()) } else { Err(Refused::Inconsistent) };
    if session.receive(ours(), at, &header, NOW, &mut rng, |_, _| refusal).is_ok() {
        assert!(is_authentic && jump(&before, at, &header) <= CHAIN_JUMP_MAX, "too far ahead");
        assert!(session.state().receiving.len() <= RECEIVING_CHAINS_MAX && kept(&session) <= SKIPPED_KEYS_MAX);
        session.has_outrun(&announced);
        session.expected_tags();
        session.send(&identity, &mut rng);
    } else {
        assert!(session == before, "what is not authentic changed something");
    }
    ages(&mut session, input);
    let state = session.state().clone();
    let again = stored::parse(&stored::serialize(&stored::with(vec![state.clone()])));
    assert!(again == Ok(stored::with(vec![state])), "a session does not come back");
}

/// Whatever the file says of times, the clock says something else.
fn ages(session: &mut Session, input: &mut Input<'_>) {
    let now = input.number();
    session.sealed(now);
    session.accepted(now);
    session.begun(input.number(), input.number());
    session.retire(now);
    assert!(session.sending_since() > 0 && session.state().retired > 0, "0 says that it never was");
    session.is_over(now);
    session.is_spent(now);
    if session.expire(now) {
        assert!(!session.expire(now), "what is expired is gone");
    }
}

/// How far a message takes a chain.
fn jump(session: &Session, at: ChainAt, header: &Header) -> u64 {
    let chains = &session.state().receiving;
    match at {
        ChainAt::Begun(place) => header.counter.saturating_sub(chains[place].counter),
        ChainAt::Next => {
            let open = chains.last().filter(|chain| chain.chain_key.is_some());
            // The last message of the chain that it closes is taken along.
            let closed = open.map_or(0, |chain| header.previous.saturating_sub(chain.counter.saturating_add(1)));
            closed.max(header.counter)
        }
    }
}

fn kept(session: &Session) -> usize {
    session.state().receiving.iter().map(|chain| chain.skipped.len()).sum()
}

/// Inputs to begin with.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    // A message of the peer's next chain: its counter, and the length of the chain before.
    let next = |before: &[u8], after: [u8; 2]| [before, &[200, 3], &[9; 32], &after].concat();
    vec![
        ("nothing", vec![]),
        ("not-protobuf", vec![0, 0xff, 0xff]),
        ("empty-session", vec![0, 0x0a, 0]),
        ("good", vec![1]),
        ("good-next-chain", next(&[1, 0], [1, 5])),
        ("good-next-chain-too-far", next(&[1, 0], [239, 0])),
        ("good-skipped-key", vec![1, 0, 0]),
        ("good-far-ahead", vec![1, 0, 1, 235, 0]),
        ("good-too-far-ahead", vec![1, 0, 1, 239, 0]),
        ("good-previous-too-far-ahead", next(&[1, 0], [1, 239])),
        ("good-not-authentic", vec![1, 0, 0, 9, 0, 3]),
        ("good-no-such-chain", vec![1, 0, 255]),
        ("changed", vec![1, 1, 0, 0, 1, 1]),
        ("shorter", vec![1, 1, 1, 0, 64, 1, 0]),
        ("last-position", vec![2, 1, 0, 255]),
        ("last-position-received", vec![2, 1, 8, 0, 1, 255, 1, 255]),
        ("last-position-of-all", next(&[2, 2, 8, 0, 1, 254, 0, 255], [0, 255])),
        ("two-open-chains", vec![2, 1, 9, 0, 0, 1, 0, 7, 0]),
        ("no-chains", next(&[2, 1, 7, 0, 0], [0, 0])),
        ("too-many-chains", vec![2, 1, 6, 39, 1, 9, 0]),
        ("too-many-skipped", vec![2, 2, 10, 0, 0, 0, 229, 10, 0, 1, 0, 229, 1, 9, 0]),
        ("skipped-in-the-future", vec![2, 1, 10, 0, 1, 251, 20, 1, 9, 0]),
        ("times-to-come", vec![2, 2, 12, 255, 13, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255]),
        ("times-long-past", vec![2, 1, 13, 1, 1, 1, 0, 0, 0, 0, 255, 0, 0]),
        ("keys-of-small-order", next(&[2, 2, 3, 4, 4, 0], [0, 0])),
    ]
}
