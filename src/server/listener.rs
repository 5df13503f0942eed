//! Takes connections from all doors, bounds how many there are, and ends them when the server stops.

use std::future::Future;
use std::sync::Arc;

use futures_util::stream::{StreamExt as _, select_all};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::bounds::Bounds;
use super::connection::{self, Stopping};
use super::store::Store;
use crate::crypto::dh::SecretKey;
use crate::net::incoming::{Door, Incoming};

/// Serves what comes in by `doors` until `shutdown` is ready: closes them, lets the requests under way finish within
/// `bounds.stop`, and ends what is left.
pub async fn run<S: Store>(
    doors: Vec<Door>,
    key: SecretKey,
    store: Arc<S>,
    bounds: Bounds,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let accepting = accept(doors, key, store, bounds, stopping, &mut connections);
    tokio::select! {
        () = shutdown => {}
        () = accepting => {}
    }
    // The doors are closed by now: the future that had them is gone.
    stop.send_replace(true);
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(bounds.stop, finished).await.is_err() {
        tracing::warn!("some connections did not finish in time and were cut");
    }
    connections.shutdown().await;
}

/// Accepts for ever, as long as a door does.
async fn accept<S: Store>(
    doors: Vec<Door>,
    key: SecretKey,
    store: Arc<S>,
    bounds: Bounds,
    stopping: Stopping,
    connections: &mut JoinSet<()>,
) {
    let mut incoming = select_all(doors);
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut full = false;
    loop {
        let stream = tokio::select! {
            stream = incoming.next() => match stream {
                Some(stream) => stream,
                None => return,
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!("a connection ended in a panic, which is a fault in this program");
                }
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            // Closed rather than left in the queue: the client knows at once and tries again later.
            if !full {
                tracing::warn!(connections = bounds.connections, "all connections are taken; closing new ones");
            }
            full = true;
            continue;
        };
        full = false;
        let (key, store, stopping) = (key.clone(), Arc::clone(&store), stopping.clone());
        connections.spawn(async move {
            let Incoming { reader, writer, held } = stream;
            connection::serve((reader, writer), key, store, bounds, stopping).await;
            drop((held, place));
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream::poll_fn;
    use rand_core::OsRng;
    use tokio::io::{AsyncReadExt as _, duplex, split};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::net::connection::connect;
    use crate::net::incoming;
    use crate::server::store::memory::MemoryStore;

    #[tokio::test]
    async fn beyond_the_bound_connections_are_closed_and_a_place_that_is_free_is_given_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let key = SecretKey::random(&mut OsRng);
        let public = key.public();
        let bounds = Bounds { connections: 2, ..Bounds::default() };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let serving =
            tokio::spawn(run(vec![incoming::tcp(listener)], key, Arc::new(MemoryStore::default()), bounds, shutdown));
        let shake = || async {
            let stream = TcpStream::connect(at).await.unwrap();
            connect(stream.into_split(), public, SecretKey::random(&mut OsRng), &mut OsRng).await
        };
        let (one, two) = (shake().await.unwrap(), shake().await.unwrap());
        let mut three = TcpStream::connect(at).await.unwrap();
        assert!(matches!(three.read(&mut [0]).await, Ok(0) | Err(_)));
        drop(one);
        let four = loop {
            if let Ok(four) = shake().await {
                break four;
            }
        };
        stop.send(()).unwrap();
        serving.await.unwrap();
        for (mut reader, _) in [two, four] {
            assert!(reader.read().await.is_err(), "stopping ends idle connections");
        }
    }

    #[tokio::test]
    async fn what_comes_in_by_two_doors_counts_together_and_is_held_until_it_ends() {
        let key = SecretKey::random(&mut OsRng);
        let public = key.public();
        let bounds = Bounds { connections: 2, ..Bounds::default() };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        // A door hands out what it is sent.
        let door = || {
            let (sender, mut receiver) = mpsc::channel::<Incoming>(1);
            (sender, poll_fn(move |context| receiver.poll_recv(context)).boxed())
        };
        let ((front, first), (back, second)) = (door(), door());
        let serving = tokio::spawn(run(vec![first, second], key, Arc::new(MemoryStore::default()), bounds, shutdown));
        let come = async |door: &mpsc::Sender<Incoming>| {
            let (near, far) = duplex(1_024);
            let (reader, writer) = split(far);
            let incoming = Incoming::new(reader, writer);
            let held = Arc::downgrade(&incoming.held);
            door.send(incoming).await.unwrap();
            (connect(split(near), public, SecretKey::random(&mut OsRng), &mut OsRng).await, held)
        };
        let (one, held) = come(&front).await;
        let (two, _) = come(&back).await;
        assert!(come(&front).await.0.is_err() && come(&back).await.0.is_err(), "both doors find all places taken");
        assert!(held.upgrade().is_some() && one.is_ok() && two.is_ok());
        stop.send(()).unwrap();
        serving.await.unwrap();
        assert!(held.upgrade().is_none());
        assert!(front.is_closed() && back.is_closed());
    }
}
