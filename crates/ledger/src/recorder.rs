//! A flight recorder: what is known of each open exchange, in a file that outlives the process however that dies.
//!
//! The file is mapped into memory and shared, so recording is a few stores and no system call: the kernel has them as soon
//! as they are made, and SIGKILL takes nothing away. (A machine that loses power does; its gateway leaves holds in Postgres.)
//!
//! ```text
//! header   4096 bytes: magic, version, slots, bytes of a slot
//! slot     320 bytes: state, progress, checksum, what the exchange was opened with
//! ```
//!
//! All is read and written as 64-bit atomics in the machine's own byte order. A slot counts once its state says open, which
//! is stored last; a checksum over what it was opened with shows that this was so. The progress is three words that are each
//! true, of moments that may differ by a frame.

mod layout;
mod map;
mod read;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
};

use uuid::Uuid;

pub use layout::{ENDPOINT_BYTES_MAX, MODEL_BYTES_MAX};
pub use read::{Left, Remains, read};

use layout::{HEADER_BYTES, SLOT_BYTES, SLOT_WORDS, State};
use map::Map;

/// As many exchanges may be open unless told otherwise.
pub const SLOTS_DEFAULT: u32 = 10_000;

/// Why a recorder could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The file could not be made, mapped or read.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Of which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is no recorder's.
    #[error("{} is not a flight recorder's file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is of a version of the program that arranges it differently.
    #[error("{} has format {version}, this program knows {}", path.display(), layout::VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// What its header says.
        version: u64,
    },
}

impl RecorderError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

/// What is known of an exchange when its hold is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening<'a> {
    /// The exchange.
    pub exchange: Uuid,
    /// Whose access token.
    pub token: i64,
    /// Who pays.
    pub account: i64,
    /// What is held, in nano-USD.
    pub hold_nano: i64,
    /// At most so many prompt tokens.
    pub prompt_tokens_bound: u64,
    /// At most so many completion tokens.
    pub completion_tokens_bound: u64,
    /// The price row.
    pub price: i64,
    /// When the request's head came, in milliseconds of the Unix epoch.
    pub started_at_ms: i64,
    /// Prompt tokens by our own estimate.
    pub input_tokens_estimate: u64,
    /// Nano-USD for 1,000,000 prompt tokens.
    pub in_rate: i64,
    /// Nano-USD for 1,000,000 completion tokens.
    pub out_rate: i64,
    /// Whether the estimate is all that is held.
    pub whole: bool,
    /// Whether the answer was asked for as a stream.
    pub stream: bool,
    /// Where it went, if that was chosen already.
    pub upstream: Option<i64>,
    /// With which key.
    pub upstream_key: Option<i64>,
    /// The endpoint; what is longer than [`ENDPOINT_BYTES_MAX`] is cut off.
    pub endpoint: Cow<'a, str>,
    /// The model; what is longer than [`MODEL_BYTES_MAX`] is cut off.
    pub model: Cow<'a, str>,
}

/// How far an exchange has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the answer that came.
    pub answer_bytes: u64,
    /// Completion tokens seen in them.
    pub output_tokens_seen: u64,
    /// The status of the answer; 0 before there is one.
    pub status: u16,
}

/// See the [module](self). A cheap handle; clones are the same recorder.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    map: Map,
    /// A stack of free slots: for each, the one below it.
    below: Box<[AtomicU32]>,
    /// The uppermost free slot, and above it a count of changes, so that a stale exchange of this word fails.
    top: AtomicU64,
}

/// No slot.
const NONE: u32 = u32::MAX;

impl Recorder {
    /// Makes the file anew, for the owner's eyes only, with room for so many open exchanges.
    ///
    /// It is written full of zeros rather than left sparse: a store into a page that a full disk has no room for would kill
    /// the process.
    pub fn create(path: &Path, slots: u32) -> Result<Self, RecorderError> {
        let slots = slots.clamp(1, NONE - 1);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(RecorderError::io("make", path))?;
        fill(&file, slots).map_err(RecorderError::io("write", path))?;
        let map = Map::new(&file).map_err(RecorderError::io("map", path))?;
        let below =
            (0..slots).map(|slot| AtomicU32::new(if slot + 1 < slots { slot + 1 } else { NONE }));
        Ok(Self {
            shared: Arc::new(Shared {
                map,
                below: below.collect(),
                top: AtomicU64::new(0),
            }),
        })
    }

    /// Records that an exchange is open; `None` when as many are open as there are slots.
    #[must_use]
    pub fn open(&self, opening: &Opening<'_>) -> Option<Slot> {
        let slot = Slot {
            index: self.shared.take()?,
            shared: Arc::clone(&self.shared),
            is_cleared: false,
        };
        let words = slot.words();
        for (word, value) in words[layout::PROGRESS].iter().zip([0; 3]) {
            word.store(value, Relaxed);
        }
        let (fixed, checksum) = layout::encode(opening);
        for (word, value) in words[layout::FIXED].iter().zip(fixed) {
            word.store(value, Relaxed);
        }
        words[layout::CHECKSUM].store(checksum, Relaxed);
        words[layout::STATE].store(State::Open as u64, Release);
        Some(slot)
    }
}

/// Zeros for all slots, and the header last.
fn fill(mut file: &File, slots: u32) -> io::Result<()> {
    let zeros = [0; HEADER_BYTES];
    let mut left = HEADER_BYTES as u64 + u64::from(slots) * SLOT_BYTES as u64;
    while left > 0 {
        let some = zeros.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(&zeros[..some])?;
        left -= some as u64;
    }
    std::os::unix::fs::FileExt::write_all_at(file, &layout::header(slots), 0)
}

/// An open exchange's place in the recorder.
///
/// Ends by [`Slot::clear`]. Dropped otherwise its evidence stays, and so does the slot: it is what a later process finds.
#[derive(Debug)]
#[must_use = "a slot must be cleared when its exchange is settled"]
pub struct Slot {
    shared: Arc<Shared>,
    index: u32,
    is_cleared: bool,
}

impl Slot {
    /// Records how far the exchange has come. Three stores; may be called with each frame.
    pub fn progress(&self, progress: Progress) {
        let values = [
            progress.answer_bytes,
            progress.output_tokens_seen,
            u64::from(progress.status),
        ];
        for (word, value) in self.words()[layout::PROGRESS].iter().zip(values) {
            word.store(value, Relaxed);
        }
    }

    /// The exchange is settled: nothing of it is to be found.
    pub fn clear(mut self) {
        self.is_cleared = true;
        self.words()[layout::STATE].store(State::Free as u64, Release);
        self.shared.give_back(self.index);
    }

    fn words(&self) -> &[AtomicU64; SLOT_WORDS] {
        self.shared.map.slot(self.index)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.is_cleared {
            tracing::warn!(
                slot = self.index,
                "an exchange ended without being settled; its evidence stays in the flight recorder"
            );
        }
    }
}

impl Shared {
    fn take(&self) -> Option<u32> {
        let mut top = self.top.load(Acquire);
        loop {
            let slot = index(top);
            let below = self.below.get(slot as usize)?.load(Relaxed);
            match self
                .top
                .compare_exchange_weak(top, changed(top, below), AcqRel, Acquire)
            {
                Ok(_) => return Some(slot),
                Err(now) => top = now,
            }
        }
    }

    fn give_back(&self, slot: u32) {
        let mut top = self.top.load(Acquire);
        loop {
            self.below[slot as usize].store(index(top), Relaxed);
            match self
                .top
                .compare_exchange_weak(top, changed(top, slot), AcqRel, Acquire)
            {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }
}

/// The slot that the word of the stack's top names.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is what is meant"
)]
const fn index(top: u64) -> u32 {
    top as u32
}

/// The word for another slot on top, different from all words before it.
const fn changed(top: u64, slot: u32) -> u64 {
    ((top >> 32).wrapping_add(1) << 32) | slot as u64
}
