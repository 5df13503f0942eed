//! Accepts connections, bounds how many there are, and ends them when the server stops.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::bounds::Bounds;
use super::connection::{self, Stopping};
use super::store::Store;
use crate::crypto::dh::SecretKey;
use crate::limits::ACCEPT_RETRY_MS;

/// Serves until `shutdown` is ready: stops accepting, lets the requests under way finish within `bounds.stop`, and ends
/// what is left.
pub async fn run<S: Store>(
    listener: TcpListener,
    key: SecretKey,
    store: Arc<S>,
    bounds: Bounds,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let accepting = accept(listener, key, store, bounds, stopping, &mut connections);
    tokio::select! {
        () = shutdown => {}
        () = accepting => {}
    }
    // The listener is closed by now: its future is gone.
    stop.send_replace(true);
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(bounds.stop, finished).await.is_err() {
        tracing::warn!("some connections did not finish in time and were cut");
    }
    connections.shutdown().await;
}

/// Accepts for ever.
async fn accept<S: Store>(
    listener: TcpListener,
    key: SecretKey,
    store: Arc<S>,
    bounds: Bounds,
    stopping: Stopping,
    connections: &mut JoinSet<()>,
) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut full = false;
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Without a descriptor for it the connection stays in the kernel's queue and `accept` fails at once
                    // again: waiting lets others close, and keeps this from spinning.
                    tracing::warn!(cause = %error, "accepting a connection failed; trying again");
                    sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                    continue;
                }
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
            serve(stream, key, store, bounds, stopping).await;
            drop(place);
        });
    }
}

async fn serve<S: Store>(stream: TcpStream, key: SecretKey, store: Arc<S>, bounds: Bounds, stopping: Stopping) {
    // A frame is written whole: nothing is gained by waiting for more. Where it cannot be set, all works but slower.
    let _ = stream.set_nodelay(true);
    connection::serve(stream.into_split(), key, store, bounds, stopping).await;
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;
    use tokio::io::AsyncReadExt as _;
    use tokio::sync::oneshot;

    use super::*;
    use crate::net::connection::connect;
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
        let serving = tokio::spawn(run(listener, key, Arc::new(MemoryStore::default()), bounds, shutdown));
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
}
