//! What is to be asked on the home connection, request by request. Without a schedule all of it goes at once; with one, a
//! request in each slot.

use std::collections::VecDeque;

use super::event::HomeOrder;
use crate::limits::{DELETE_IDS_MAX, FRAME_BODY_BYTES_MAX};
use crate::wire::prekey::SignedPrekey;
use crate::wire::request::Command;

/// Room for the fields around the prekeys of one upload.
const UPLOAD_OVERHEAD_BYTES: usize = 64;

/// What a request was, for when its reply comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Account,
    Counter,
    CounterWrite(u64),
    Count,
    CountAfterUpload,
    CountNow,
    Subscription,
    Deletion,
    Upload,
    Replacement,
    Ping,
}

/// What comes next on the connection.
#[derive(Debug)]
pub enum Next {
    /// A request.
    Ask(Asked, Command),
    /// Its end: it is to begin anew.
    Reconnect,
}

/// Requests that wait, in order. It stays short: deletions and counts are merged, and of all else the engine asks for no
/// more before it was answered.
#[derive(Debug, Default)]
pub struct HomeQueue(VecDeque<Next>);

impl HomeQueue {
    /// What an order asks for goes to the end.
    pub fn push(&mut self, order: HomeOrder) {
        match order {
            HomeOrder::Delete(ids) => self.push_deletions(ids),
            HomeOrder::Upload { prekeys, replaces } => {
                for (place, prekeys) in uploads(prekeys).into_iter().enumerate() {
                    let asked = if replaces { Asked::Replacement } else { Asked::Upload };
                    self.ask(asked, Command::UploadPrekeys { prekeys, replace: replaces && place == 0 });
                }
                self.ask(Asked::CountAfterUpload, Command::CountPrekeys);
            }
            HomeOrder::WriteCounter(number, record) => {
                self.ask(Asked::CounterWrite(number), Command::WriteCounter(record));
            }
            // One that has not left yet answers both.
            HomeOrder::Count if self.0.iter().any(|next| matches!(next, Next::Ask(Asked::CountNow, _))) => {}
            HomeOrder::Count => self.ask(Asked::CountNow, Command::CountPrekeys),
            HomeOrder::Reconnect => {
                // What waits is void on the next connection.
                self.0.clear();
                self.0.push_back(Next::Reconnect);
            }
        }
    }

    /// Takes the first out.
    pub fn pop(&mut self) -> Option<Next> {
        self.0.pop_front()
    }

    /// In as few requests as they fit: those that wait already are filled first.
    fn push_deletions(&mut self, mut new: Vec<u64>) {
        for next in &mut self.0 {
            if let Next::Ask(Asked::Deletion, Command::DeleteEnvelopes(ids)) = next {
                let room = DELETE_IDS_MAX.saturating_sub(ids.len()).min(new.len());
                ids.extend(new.drain(..room));
            }
        }
        for ids in new.chunks(DELETE_IDS_MAX) {
            self.ask(Asked::Deletion, Command::DeleteEnvelopes(ids.to_vec()));
        }
    }

    fn ask(&mut self, asked: Asked, command: Command) {
        self.0.push_back(Next::Ask(asked, command));
    }
}

/// Prekeys in portions that fit a frame each.
fn uploads(prekeys: Vec<SignedPrekey>) -> Vec<Vec<SignedPrekey>> {
    let mut portions = vec![Vec::new()];
    let mut room = FRAME_BODY_BYTES_MAX - UPLOAD_OVERHEAD_BYTES;
    for prekey in prekeys {
        // The field's tag and length take 3 bytes at these sizes; 8 leave room.
        let size = prekey.to_bytes().len() + 8;
        if size > room {
            portions.push(Vec::new());
            room = FRAME_BODY_BYTES_MAX - UPLOAD_OVERHEAD_BYTES;
        }
        room -= size;
        if let Some(last) = portions.last_mut() {
            last.push(prekey);
        }
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(queue: &mut HomeQueue) -> Vec<Asked> {
        let next = std::iter::from_fn(|| queue.pop());
        next.map(|next| if let Next::Ask(asked, _) = next { asked } else { panic!("{next:?}") }).collect()
    }

    #[test]
    fn deletions_that_wait_go_together_in_as_few_requests_as_they_fit() {
        let mut queue = HomeQueue::default();
        let many = u64::try_from(DELETE_IDS_MAX).unwrap() + 10;
        queue.push(HomeOrder::Delete(vec![0]));
        queue.push(HomeOrder::WriteCounter(1, vec![2]));
        queue.push(HomeOrder::Delete((1..many).collect()));
        queue.push(HomeOrder::Delete((many..many + 5).collect()));
        let mut requests = Vec::new();
        while let Some(next) = queue.pop() {
            match next {
                Next::Ask(Asked::Deletion, Command::DeleteEnvelopes(ids)) => requests.push(ids),
                Next::Ask(Asked::CounterWrite(1), _) => assert_eq!(requests.len(), 1, "the oldest is first"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(requests.iter().map(Vec::len).collect::<Vec<_>>(), [DELETE_IDS_MAX, 15]);
        assert_eq!(requests.concat(), (0..many + 5).collect::<Vec<_>>());
    }

    #[test]
    fn a_count_that_has_not_left_answers_whoever_asks_for_another() {
        let mut queue = HomeQueue::default();
        queue.push(HomeOrder::Count);
        queue.push(HomeOrder::Count);
        assert_eq!(asked(&mut queue), [Asked::CountNow]);
        queue.push(HomeOrder::Count);
        assert_eq!(asked(&mut queue), [Asked::CountNow]);
    }

    #[test]
    fn what_waits_is_void_where_the_connection_begins_anew() {
        let mut queue = HomeQueue::default();
        queue.push(HomeOrder::Delete(vec![1]));
        queue.push(HomeOrder::Reconnect);
        assert!(matches!(queue.pop(), Some(Next::Reconnect)));
        assert!(queue.pop().is_none());
    }
}
