//! Dropboxes: directories into which another user of this machine drops messages. All of it may be stretched by whoever has
//! an account here.

/// Dropboxes of one account. Each costs a few looks a second.
pub const DROPBOXES_MAX: usize = 64;

/// `dropboxes/NAME.toml`: 19 names of 255 bytes and a path.
pub const DROPBOX_FILE_BYTES_MAX: u64 = 16_384;

/// Files a minute, an hour or a day where nothing else is set: more than that from one cron job is a fault of the job.
pub const DROPBOX_RATE: u32 = 10;

/// The most of them that can be set.
pub const DROPBOX_RATE_MAX: u32 = 10_000;

/// Names that one look takes in: some 2 MiB, and 20 ms. The files behind them are seen when those have gone.
pub const DROPBOX_ENTRIES_MAX: usize = 16_384;

/// Names in a dropbox for each second that passes until the next look at it, so that looking takes less than a hundredth of
/// a core, whatever lies there.
pub const DROPBOX_ENTRIES_PER_S: usize = 1_000;

/// Files of one dropbox that are opened in a second.
pub const DROPBOX_FILES_PER_S: usize = 64;

/// What is copied out of one dropbox in a second.
pub const DROPBOX_COPY_BYTES_PER_S: u64 = 8 * 1024 * 1024;

/// How much room the disk must have for each byte that is still to be copied: for the copy, and for the two that are made of it
/// when it is sent. What has no room here stays with its sender.
pub const DROPBOX_ROOM_TIMES: u64 = 3;

/// Large files of dropboxes that wait in one directory of the outbox: beyond this many bytes of them no other is taken, so that
/// what cannot be sent fills the dropbox, and not the disk of its owner. It is two seconds' copying.
pub const DROPBOX_LARGE_BYTES_MAX: u64 = 2 * DROPBOX_COPY_BYTES_PER_S;

/// Nor beyond this many: one second's.
pub const DROPBOX_LARGE_MAX: usize = DROPBOX_FILES_PER_S;

/// `.error` files in one dropbox. Who makes more mistakes than this reads the first.
pub const DROPBOX_ERRORS_MAX: usize = 64;

/// Files of one dropbox that are recorded and not removed yet. They are removed within the same second; where that fails, no
/// more is taken.
pub const DROPBOX_UNREMOVED_MAX: usize = 256;

/// How often a dropbox is looked at although no name came or went: a file that was refused may be mended in its place.
pub const DROPBOX_LOOK_S: u64 = 60;
