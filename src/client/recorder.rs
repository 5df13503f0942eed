//! For tests: a server that does what it is asked, but for some deliveries, and writes down what that was.

#![allow(clippy::unwrap_used, reason = "a test's helper")]

use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::crypto::dh::{PublicKey, SecretKey};
use crate::net::connection::{ConnectionError, accept};
use crate::wire::address::ServerAddress;
use crate::wire::reply::{PrekeyCount, Refusal, Reply, ServerMessage};
use crate::wire::request::{Command, Request};
use rand_core::OsRng;

/// One connection, from its handshake to its end: the key that the client showed, and all it asked.
pub(super) type Seen = (PublicKey, Vec<Command>);

/// What a test sees of the server. It serves one connection at a time.
pub(super) struct Recorder {
    pub(super) address: ServerAddress,
    /// Each request as it comes.
    pub(super) requests: UnboundedReceiver<Command>,
    /// Each connection once the client has closed it.
    pub(super) connections: UnboundedReceiver<Seen>,
}

impl Recorder {
    /// Starts a server that refuses so many deliveries.
    pub(super) async fn start(mut refusals: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let key = SecretKey::random(&mut OsRng);
        let at = listener.local_addr().unwrap().to_string();
        let address = ServerAddress::from_host_port(&at, key.public()).unwrap();
        let (of_request, requests) = mpsc::unbounded_channel();
        let (of_connection, connections) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (shown, mut reader, mut writer) =
                    accept(stream.into_split(), key.clone(), &mut OsRng).await.unwrap();
                let mut asked = Vec::new();
                loop {
                    let body = match reader.read().await {
                        Ok(body) => body,
                        Err(ConnectionError::Closed) => break,
                        // A client that goes without having read everything.
                        Err(ConnectionError::Broken(_)) => break,
                        Err(error) => panic!("{error}"),
                    };
                    let Request { id, command, .. } = Request::from_bytes(&body).unwrap();
                    let outcome = match command {
                        Command::Deliver { .. } if refusals > 0 => {
                            refusals -= 1;
                            Err(Refusal::MailboxFull)
                        }
                        Command::ReadCounter => Ok(Reply::Counter(None)),
                        Command::CountPrekeys => Ok(Reply::PrekeyCount(PrekeyCount::default())),
                        _ => Ok(Reply::Done),
                    };
                    asked.push(command.clone());
                    // A test that has seen enough has gone.
                    let _ = of_request.send(command);
                    // So may the client.
                    let _ = writer.write(&ServerMessage::Reply { id, outcome }.to_bytes()).await;
                }
                let _ = of_connection.send((shown, asked));
            }
        });
        Self { address, requests, connections }
    }
}
