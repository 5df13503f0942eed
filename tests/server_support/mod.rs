//! A real server process, and a client made of the crate's own connection and wire types.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command as Process, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use chatterbox::crypto::dh::{PublicKey, SecretKey};
use chatterbox::crypto::kem::{ENCAPSULATION_KEY_BYTES, EncapsulationKey};
use chatterbox::crypto::secret::Secret;
use chatterbox::crypto::sign::SigningKey;
use chatterbox::limits::{ENVELOPE_BYTES, PROTOCOL_VERSION};
use chatterbox::net::connection::{ConnectionError, FrameReader, FrameWriter, connect};
use chatterbox::wire::address::ServerAddress;
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::identity::{AccountId, Identity};
use chatterbox::wire::prekey::{PrekeyKind, SignedPrekey};
use chatterbox::wire::reply::{EnvelopeEntry, PrekeyCount, Push, Refusal, Reply, ServerMessage};
use chatterbox::wire::request::{Command, Request};
use rand_core::OsRng;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// No test waits this long for anything that works.
pub(crate) const STUCK: Duration = Duration::from_secs(60);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_chatterbox-server");

/// Runs the program to its end.
pub(crate) fn program(arguments: &[&str]) -> Output {
    Process::new(BINARY).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A server in a directory of its own. Dropping it kills it.
pub(crate) struct Server {
    scratch: TempDir,
    running: Option<Running>,
    public: PublicKey,
}

struct Running {
    child: Child,
    at: SocketAddr,
    log: JoinHandle<String>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    /// With the limit of open files that `ulimit -n` sets.
    pub(crate) fn start_with(open_files: Option<u32>) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("server");
        let made = program(&["init", directory.to_str().unwrap(), "--address", "localhost:1984"]);
        assert!(made.status.success(), "{made:?}");
        let address: ServerAddress = String::from_utf8(made.stdout).unwrap().trim_end().parse().unwrap();
        let mut server = Self { scratch, running: None, public: *address.key() };
        server.run(open_files);
        server
    }

    fn run(&mut self, open_files: Option<u32>) {
        let limit = open_files.map_or_else(String::new, |limit| format!("ulimit -n {limit}; "));
        let mut child = Process::new("sh")
            .args(["-c", &format!("{limit}exec \"$0\" run \"$1\" --listen 127.0.0.1:0"), BINARY])
            .arg(self.directory())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, listening) = mpsc::channel();
        // Reads on to the end, so that the server never waits for its own log.
        let log = std::thread::spawn(move || {
            let mut log = String::new();
            for line in stderr.lines().map_while(Result::ok) {
                if let Some((_, at)) = line.split_once("listening on ") {
                    let _ = sender.send(at.parse().unwrap());
                }
                log.push_str(&line);
                log.push('\n');
            }
            log
        });
        let at = listening.recv_timeout(STUCK).expect("the server listens");
        self.running = Some(Running { child, at, log });
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.scratch.path().join("server")
    }

    pub(crate) fn at(&self) -> SocketAddr {
        self.running.as_ref().unwrap().at
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.public
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().child.id()
    }

    /// `kill -9`, as power goes for a process; hands out its log.
    pub(crate) fn kill(&mut self) -> String {
        let mut running = self.running.take().unwrap();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        running.log.join().unwrap()
    }

    /// Kills it and starts it again.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.restart_after_kill();
    }

    pub(crate) fn restart_after_kill(&mut self) {
        self.run(None);
    }

    /// SIGTERM; hands out how it ended, and its log.
    pub(crate) fn stop(&mut self) -> (ExitStatus, String) {
        let mut running = self.running.take().unwrap();
        let pid = rustix::process::Pid::from_child(&running.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        (running.child.wait().unwrap(), running.log.join().unwrap())
    }

    /// Open descriptors of the process.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

/// A connection, after its handshake.
pub(crate) struct Client {
    reader: FrameReader<OwnedReadHalf>,
    writer: FrameWriter<OwnedWriteHalf>,
    account: AccountId,
    last: u64,
    pushed: VecDeque<Push>,
}

impl Client {
    /// With a key of its own.
    pub(crate) async fn new(server: &Server) -> Self {
        Self::with_key(server, &SecretKey::random(&mut OsRng)).await
    }

    pub(crate) async fn with_key(server: &Server, key: &SecretKey) -> Self {
        Self::over(TcpStream::connect(server.at()).await.unwrap(), server, key).await.unwrap()
    }

    pub(crate) async fn over(stream: TcpStream, server: &Server, key: &SecretKey) -> Result<Self, ConnectionError> {
        let account = AccountId(key.public());
        let (reader, writer) = connect(stream.into_split(), server.public(), key.clone(), &mut OsRng).await?;
        Ok(Self { reader, writer, account, last: 0, pushed: VecDeque::new() })
    }

    pub(crate) fn account(&self) -> AccountId {
        self.account
    }

    /// Sends a request, without waiting for its reply.
    pub(crate) async fn send(&mut self, command: Command) -> Result<(), ConnectionError> {
        self.last += 1;
        let version = if self.last == 1 { PROTOCOL_VERSION } else { 0 };
        self.writer.write(&Request { id: self.last, version, command }.to_bytes()).await
    }

    pub(crate) async fn send_raw(&mut self, body: &[u8]) {
        self.writer.write(body).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> Result<ServerMessage, ConnectionError> {
        let body = tokio::time::timeout(STUCK, self.reader.read()).await.expect("the server answers")?;
        Ok(ServerMessage::from_bytes(&body).unwrap())
    }

    /// The next reply; pushes before it are kept.
    pub(crate) async fn reply(&mut self) -> Result<(u64, Result<Reply, Refusal>), ConnectionError> {
        loop {
            match self.receive().await? {
                ServerMessage::Reply { id, outcome } => return Ok((id, outcome)),
                ServerMessage::Push(push) => self.pushed.push_back(push),
            }
        }
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.send(command).await.unwrap();
        let (id, outcome) = self.reply().await.unwrap();
        assert_eq!(id, self.last);
        outcome
    }

    pub(crate) async fn push(&mut self) -> Push {
        if let Some(push) = self.pushed.pop_front() {
            return push;
        }
        match self.receive().await.unwrap() {
            ServerMessage::Push(push) => push,
            ServerMessage::Reply { .. } => panic!("a reply that nobody asked for"),
        }
    }

    /// The next pushed envelope, as the number it was made of.
    pub(crate) async fn pushed_number(&mut self) -> u64 {
        match self.push().await {
            Push::Envelope(stored) => number(&stored.envelope),
            Push::Prekeys(_) => panic!("an envelope was expected"),
        }
    }

    /// Pipelines deliveries of these numbers; all must be taken.
    pub(crate) async fn deliver_all(&mut self, account: AccountId, numbers: std::ops::Range<u64>) {
        for chunk in numbers.collect::<Vec<_>>().chunks(32) {
            for number in chunk {
                self.send(Command::Deliver { account, envelope: envelope(*number) }).await.unwrap();
            }
            for _ in chunk {
                assert_eq!(self.reply().await.unwrap().1, Ok(Reply::Done));
            }
        }
    }

    /// The whole mailbox, page by page.
    pub(crate) async fn list(&mut self) -> Vec<EnvelopeEntry> {
        let mut all: Vec<EnvelopeEntry> = Vec::new();
        loop {
            let after = all.last().map_or(0, |entry| entry.id);
            match self.ask(Command::ListEnvelopes { after, limit: 256 }).await.unwrap() {
                Reply::Envelopes { entries, more } => {
                    all.extend(entries);
                    if !more {
                        return all;
                    }
                }
                other => panic!("a list was expected: {other:?}"),
            }
        }
    }

    pub(crate) async fn upload(&mut self, prekeys: Vec<SignedPrekey>) {
        for chunk in prekeys.chunks(10) {
            let command = Command::UploadPrekeys { prekeys: chunk.to_vec(), replace: false };
            assert_eq!(self.ask(command).await, Ok(Reply::Done));
        }
    }

    pub(crate) async fn take(&mut self, owner: AccountId) -> Result<SignedPrekey, Refusal> {
        match self.ask(Command::TakePrekey(owner)).await? {
            Reply::Prekey(prekey) => Ok(prekey),
            other => panic!("a prekey was expected: {other:?}"),
        }
    }

    pub(crate) async fn count(&mut self) -> PrekeyCount {
        match self.ask(Command::CountPrekeys).await.unwrap() {
            Reply::PrekeyCount(count) => count,
            other => panic!("a count was expected: {other:?}"),
        }
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(&mut self) {
        while self.receive().await.is_ok() {}
    }
}

/// An envelope that says which it is.
pub(crate) fn envelope(number: u64) -> Envelope {
    let mut bytes = vec![0xe5; ENVELOPE_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Envelope::from_vec(bytes).unwrap()
}

pub(crate) fn number(envelope: &Envelope) -> u64 {
    u64::from_le_bytes(envelope.as_bytes()[..8].try_into().unwrap())
}

pub(crate) fn prekey(number: u8, kind: PrekeyKind) -> SignedPrekey {
    let key = SigningKey::from_secret(&Secret::new([1; 32]));
    let identity = Identity { signing: key.verifying_key(), auth: PublicKey([4; 32]) };
    let expires = 4_000_000_000;
    let kem = EncapsulationKey::from_slice(&[5; ENCAPSULATION_KEY_BYTES]).unwrap();
    let keys = (PublicKey([number; 32]), PublicKey([3; 32]), kem);
    SignedPrekey::sign([number; 16], kind, expires, keys, &identity, &key)
}

pub(crate) fn one_time(numbers: std::ops::Range<u8>) -> Vec<SignedPrekey> {
    numbers.map(|number| prekey(number, PrekeyKind::OneTime)).collect()
}

/// Polls until `condition` holds, for what no event announces.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + STUCK;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
