//! Whatever is done to a journal, it gives what was appended, in order, and nothing else.

use std::fs;

use proptest::{collection::vec, prelude::*};

use super::super::{Journal, frame};
use super::{files, waiting};

/// Small, so that groups are spread over segments.
const BYTES_MAX: u64 = 16 * 1024;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u16>),
    Replay(usize),
    Reopen,
    /// The process dies, and the newest segment loses its end.
    Cut(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec(0..700_u16, 1..6).prop_map(Step::Append),
        2 => (1..12_usize).prop_map(Step::Replay),
        1 => Just(Step::Reopen),
        1 => any::<u16>().prop_map(Step::Cut),
    ]
}

/// What a journal should hold: groups still waiting, oldest first.
#[derive(Default)]
struct Model {
    made: u64,
    /// Every record that may still be there, with the end of its group marked.
    records: Vec<(Vec<u8>, bool)>,
    /// How many of these were replayed; after a restart some may come again.
    replayed: usize,
}

impl Model {
    fn group(&mut self, lengths: &[u16]) -> Vec<Vec<u8>> {
        lengths
            .iter()
            .map(|&length| {
                self.made += 1;
                let mut payload = self.made.to_le_bytes().to_vec();
                payload.resize(8 + usize::from(length), b'.');
                payload
            })
            .collect()
    }

    /// After a restart: what is there are the records of the model but for some that were replayed, and for the last
    /// groups when the end was cut.
    fn reopened(&mut self, found: Vec<Vec<u8>>, cut: bool) {
        let known: Vec<_> = self
            .records
            .iter()
            .map(|(payload, _)| payload.clone())
            .collect();
        let start = match found.first() {
            Some(first) => known.iter().position(|payload| payload == first).unwrap(),
            None => known.len(),
        };
        let end = start + found.len();
        assert_eq!(found, known[start..end]);
        if !found.is_empty() {
            assert!(
                start <= self.replayed,
                "a record that was not replayed is gone"
            );
        }
        if cut {
            assert!(end == 0 || self.records[end - 1].1, "half a group");
        } else {
            assert!(end == known.len() || found.is_empty() && self.replayed == known.len());
        }
        self.records = self.records[start..end].to_vec();
        self.replayed = 0;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_gives_what_was_appended(steps in vec(step(), 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path(), BYTES_MAX).unwrap();
        let mut model = Model::default();
        let mut was_cut = false;
        for step in steps {
            match step {
                Step::Append(lengths) => {
                    let group = model.group(&lengths);
                    match journal.append(&group) {
                        Ok(()) => {
                            let last = group.len() - 1;
                            model.records.extend(
                                group.into_iter().enumerate().map(|(at, payload)| (payload, at == last)),
                            );
                        }
                        Err(error) => prop_assert!(error.is_full()),
                    }
                }
                Step::Replay(count) => {
                    let batch = journal.oldest(count, usize::MAX).unwrap();
                    prop_assert!(batch.damage.is_none());
                    for (record, (payload, _)) in
                        batch.records.iter().zip(&model.records[model.replayed..])
                    {
                        prop_assert_eq!(&record.payload, payload);
                    }
                    model.replayed += batch.records.len();
                    journal.forget(batch).unwrap();
                }
                Step::Reopen => {
                    drop(journal);
                    let (reopened, damage) = Journal::open(dir.path(), BYTES_MAX).unwrap();
                    prop_assert!(damage.is_none() || was_cut);
                    journal = reopened;
                    model.reopened(waiting(&mut journal), false);
                }
                Step::Cut(bytes) => {
                    drop(journal);
                    was_cut = true;
                    if let Some(newest) = files(dir.path(), ".segment").last() {
                        let length = fs::metadata(newest).unwrap().len();
                        let left = length.saturating_sub(u64::from(bytes) % (length + 1));
                        fs::File::options().write(true).open(newest).unwrap().set_len(left).unwrap();
                    }
                    journal = Journal::open(dir.path(), BYTES_MAX).unwrap().0;
                    model.reopened(waiting(&mut journal), true);
                }
            }
            prop_assert_eq!(journal.records(), (model.records.len() - model.replayed) as u64);
            prop_assert_eq!(journal.is_empty(), journal.records() == 0);
            prop_assert!(journal.bytes() <= BYTES_MAX);
            let on_disk: u64 = files(dir.path(), ".segment")
                .iter()
                .map(|path| fs::metadata(path).unwrap().len())
                .sum();
            prop_assert_eq!(journal.bytes(), on_disk);
            if journal.is_empty() {
                prop_assert_eq!(on_disk, 0);
            }
        }
    }

    /// Random bytes, true records with bytes overwritten, and both after another: read without a panic, and what is
    /// given is a record whose checksum is right, so one that was appended.
    #[test]
    fn damaged_bytes_give_true_records_or_none(
        noise in vec(any::<u8>(), 0..300),
        groups in vec(vec(vec(any::<u8>(), 0..60), 1..4), 0..5),
        edits in vec((any::<u16>(), any::<u8>()), 0..6),
        header in any::<bool>(),
    ) {
        let marker = frame::new_marker();
        let mut bytes = Vec::new();
        if header {
            bytes.extend_from_slice(&frame::header(marker, 1));
        }
        let mut sequence = 1;
        for group in &groups {
            frame::push_group(&mut bytes, group, marker, sequence);
            sequence += group.len() as u64;
        }
        bytes.extend_from_slice(&noise);
        for (at, byte) in edits {
            let length = bytes.len().max(1);
            if let Some(place) = bytes.get_mut(usize::from(at) % length) {
                *place = byte;
            }
        }
        let Ok((_dir, mut journal, _)) = super::try_opened_with(&bytes) else {
            return Ok(());
        };
        let appended: Vec<_> = groups.concat();
        let mut rest = appended.iter();
        for payload in waiting(&mut journal) {
            prop_assert!(rest.any(|known| *known == payload), "not appended, or out of order");
        }
    }
}
