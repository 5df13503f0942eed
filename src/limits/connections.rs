//! Connections.

/// The whole handshake, both ways. Three flights over Tor take a few seconds at worst; a peer that needs longer is
/// stalling and holds a descriptor.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 30_000;

/// Opening a TCP connection or a circuit.
pub const CONNECT_TIMEOUT_MS: u64 = 60_000;

/// How often a client says something on its home connection, so that both sides find out about a dead path.
pub const PING_INTERVAL_MS: u64 = 45_000;

/// How often a client on a standing connection has its prekeys counted: expiry is a matter of days.
pub const PREKEY_COUNT_INTERVAL_MS: u64 = 3_600_000;

/// How long a client waits for any reply: a disk sync under load and a slow circuit fit, a dead path does not.
pub const REPLY_TIMEOUT_MS: u64 = 60_000;

/// How long the server keeps a connection on which nothing arrives: three missed pings.
pub const IDLE_TIMEOUT_MS: u64 = 180_000;

/// How long a stream through Tor may take to open: a circuit or two that fail, and for an onion service its descriptor,
/// an introduction and a rendezvous.
pub const CIRCUIT_TIMEOUT_MS: u64 = 90_000;

/// How long a proxy may take to be there, and for its greeting: neither asks anything of the network behind it.
pub const PROXY_GREETING_TIMEOUT_MS: u64 = 10_000;

/// Wait between two tries to start Tor, when its directory or its configuration is what stands in the way.
pub const TOR_RETRY_MS: u64 = 10_000;

/// How long Tor may come no further before a person hears that something is wrong: longer than a slow network takes for
/// one step.
pub const TOR_SLOW_MS: u64 = 45_000;

/// What arti may hold in queues of cells before it closes the circuits that hold most: by itself it would take a quarter of
/// the machine's memory. A thousand connections with a few frames each.
pub const TOR_MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Arti's configuration of a private network: keys and addresses of a few authorities.
pub const TOR_CONFIGURATION_BYTES_MAX: u64 = 1024 * 1024;

/// How long one frame may take to leave. A reader slower than 16 KiB in this time is as good as gone.
pub const WRITE_TIMEOUT_MS: u64 = 120_000;

/// How long a connection to somebody else's server is kept for the same recipient after its last use.
pub const FOREIGN_IDLE_MS: u64 = 20_000;

/// The delay of each recipient of a message to several, where the settings name none: longer than a circuit takes, so that
/// the order in which envelopes arrive says nothing, and still a conversation.
pub const FANOUT_DELAY_MS: u64 = 10_000;

/// The longest that can be set.
pub const FANOUT_DELAY_MAX_MS: u64 = 3_600_000;

/// The mean between two slots of a schedule, where the settings name none: 2,880 visits a day, 97 MB.
pub const SCHEDULE_MEAN_MS: u64 = 30_000;

/// The shortest that can be set: a circuit each second is as much as a Tor relay should be asked for, and more.
pub const SCHEDULE_MEAN_MIN_MS: u64 = 1_000;

/// The longest that can be set.
pub const SCHEDULE_MEAN_MAX_MS: u64 = 3_600_000;

/// The longest wait between two slots of the home connection, whatever their mean: the server takes a connection for dead on
/// which nothing arrives for [`IDLE_TIMEOUT_MS`].
pub const HOME_SLOT_GAP_MAX_MS: u64 = 120_000;
const _: () = assert!(HOME_SLOT_GAP_MAX_MS + REPLY_TIMEOUT_MS <= IDLE_TIMEOUT_MS, "a slow circuit fits between");

/// First wait after a lost connection; doubles from there.
pub const RECONNECT_DELAY_MIN_MS: u64 = 200;

/// Longest wait between two tries to connect: a server that came back is noticed within a minute.
pub const RECONNECT_DELAY_MAX_MS: u64 = 60_000;

/// The same for somebody else's server through Tor, where each try is a circuit or more that relays build. It is also about
/// how long Tor goes on using one circuit, so a server that fails on purpose gets hardly more circuits out of us.
pub const CIRCUIT_RETRY_MAX_MS: u64 = 600_000;

/// Circuits that a server may cost by refusing connections before it has to wait for [`CIRCUIT_CHANGE_MS`]: exits that cannot
/// reach it are rare, and three in a row rarer.
pub const CIRCUIT_CHANGES_MAX: u32 = 3;

/// One such circuit more is allowed after this time: half of what Tor itself uses one for.
pub const CIRCUIT_CHANGE_MS: u64 = 300_000;

/// How long a home connection through Tor must have stood for the next wait to be a short one again: else a server that
/// closes each at once has us come back several times a second.
pub const HOME_STANDING_MS: u64 = 60_000;

/// When the home connection is back, whoever waits for longer tries again within this time, at random: the network was away,
/// not their server.
pub const RETRY_AFTER_OUTAGE_MS: u64 = 60_000;

/// A slot that comes so late is lost: more than a busy machine's hiccup, and nothing that tells of what was done.
pub const SLOT_LATE_MS: u64 = 1_000;

/// How long a visit in a slot may take in all. Visits that hang hold places that cover needs, too.
pub const VISIT_TIMEOUT_MS: u64 = 120_000;

/// Requests under way on one connection before the first is answered. Enough to fill one group commit; the memory it
/// can pin on the server is this many frames.
pub const PIPELINE_MAX: usize = 32;
