//! How dialogs are kept: sealed by AES-256-GCM where the operator gave a key, else as they are.

use std::fmt;

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};

use crate::store::DialogName;

/// The first byte of what is kept: how to read the rest.
const PLAIN: u8 = 0;
/// A nonce and the ciphertext follow.
const SEALED: u8 = 1;

/// Seals and opens.
#[derive(Clone, Default)]
pub struct Seal(Option<std::sync::Arc<LessSafeKey>>);

/// What is kept cannot be read, or nothing can be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It was sealed, and there is no key, or another.
    #[error("it was sealed with another key than DIALOG_KEY")]
    Key,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

impl Seal {
    /// Seals with this key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        // A nonce drawn at random is safe for 2^32 sealings with one key: a turn a second for a century.
        let key = UnboundKey::new(&AES_256_GCM, key).expect("the key has the cipher's length");
        Self(Some(std::sync::Arc::new(LessSafeKey::new(key))))
    }

    /// What to keep of a dialog. It is bound to the dialog's name: put elsewhere, it does not open.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn close(&self, name: DialogName, text: &[u8]) -> Result<Vec<u8>, SealError> {
        let Some(key) = &self.0 else {
            return Ok([&[PLAIN], text].concat());
        };
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| SealError::Random)?;
        let mut sealed = text.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(name), &mut sealed)
            .map_err(|_| SealError::Random)?;
        Ok([&[SEALED][..], &nonce, &sealed].concat())
    }

    /// What was kept.
    ///
    /// # Errors
    /// [`SealError::Key`].
    pub fn open(&self, name: DialogName, kept: &[u8]) -> Result<Vec<u8>, SealError> {
        match (kept.split_first(), &self.0) {
            (Some((&PLAIN, text)), _) => Ok(text.to_vec()),
            (Some((&SEALED, rest)), Some(key)) => {
                let (nonce, sealed) = rest
                    .split_first_chunk::<NONCE_LEN>()
                    .ok_or(SealError::Key)?;
                let mut text = sealed.to_vec();
                let opened = key
                    .open_in_place(Nonce::assume_unique_for_key(*nonce), aad(name), &mut text)
                    .map_err(|_| SealError::Key)?;
                Ok(opened.to_vec())
            }
            _ => Err(SealError::Key),
        }
    }
}

fn aad(name: DialogName) -> Aad<Vec<u8>> {
    Aad::from([name.door.as_bytes(), &name.digest].concat())
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Seal(…)"
        } else {
            "Seal(none)"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(first: u8) -> DialogName {
        DialogName {
            door: "resale",
            digest: [first; 32],
        }
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_its_name_alone() {
        let seal = Seal::new(&[7; 32]);
        let kept = seal.close(name(1), b"a secret").unwrap();
        assert!(!kept.windows(6).any(|bytes| bytes == b"secret"));
        assert_eq!(seal.open(name(1), &kept).unwrap(), b"a secret");
        assert_eq!(seal.open(name(2), &kept), Err(SealError::Key));
        assert_eq!(
            Seal::new(&[8; 32]).open(name(1), &kept),
            Err(SealError::Key)
        );
        assert_eq!(Seal::default().open(name(1), &kept), Err(SealError::Key));
    }

    #[test]
    fn no_byte_of_it_can_be_changed() {
        let seal = Seal::new(&[7; 32]);
        let kept = seal.close(name(1), b"x").unwrap();
        for at in 0..kept.len() {
            let mut changed = kept.clone();
            changed[at] ^= 1;
            assert!(
                seal.open(name(1), &changed).is_err() || at == 0 && changed[0] == PLAIN,
                "{at}"
            );
        }
    }

    #[test]
    fn without_a_key_it_is_kept_as_it_is_and_a_key_set_later_reads_it() {
        let kept = Seal::default().close(name(1), b"open").unwrap();
        assert_eq!(Seal::new(&[7; 32]).open(name(1), &kept).unwrap(), b"open");
    }
}
