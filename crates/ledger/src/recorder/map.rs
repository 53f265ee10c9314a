//! The file as words in memory. The only unsafe code of the recorder.

use std::{fs::File, io, sync::atomic::AtomicU64};

use memmap2::{MmapOptions, MmapRaw};

use super::layout::{HEADER_BYTES, SLOT_WORDS};

/// The slots of a recorder's file, shared with the kernel.
#[derive(Debug)]
pub(super) struct Map {
    map: MmapRaw,
}

impl Map {
    pub(super) fn new(file: &File) -> io::Result<Self> {
        Ok(Self {
            map: MmapOptions::new().map_raw(file)?,
        })
    }

    /// The words of a slot, which must be one of the file's.
    pub(super) fn slot(&self, index: u32) -> &[AtomicU64; SLOT_WORDS] {
        &self.slots()[index as usize]
    }

    #[expect(
        unsafe_code,
        reason = "a mapping is a pointer; what it points to has no safe type in std"
    )]
    fn slots(&self) -> &[[AtomicU64; SLOT_WORDS]] {
        let slots =
            self.map.len().saturating_sub(HEADER_BYTES) / size_of::<[AtomicU64; SLOT_WORDS]>();
        // SAFETY: the mapping is `HEADER_BYTES` and `slots` slots long or longer, begins at a page and lives as long as
        // `self`; HEADER_BYTES is a multiple of a word, so the slots are aligned. Any bits are a value of AtomicU64, and
        // memory is only ever read and written through these atomics (the mapping gives out nothing else, and its raw
        // pointer does not leave this function), so that other threads do not race with us. Other processes do not
        // write while we live: the directory is locked. Were the file cut by hand, the kernel would send SIGBUS: an end of
        // the process, no wrong value.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(HEADER_BYTES).cast(), slots) }
    }
}
