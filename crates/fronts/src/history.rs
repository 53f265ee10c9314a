//! What was said in a dialog, and how it is kept short.

use serde::{Deserialize, Serialize};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) role: String,
    pub(crate) content: String,
}

impl Message {
    pub(crate) fn new(role: &str, content: impl Into<String>) -> Self {
        Self {
            role: role.to_owned(),
            content: content.into(),
        }
    }

    /// About how many tokens it comes to, on the safe side for most text: four letters of ASCII, or one other character,
    /// and what the message's frame takes.
    pub(crate) fn tokens(&self) -> u64 {
        let (ascii, other) = self
            .content
            .chars()
            .fold((0_u64, 0_u64), |(ascii, other), letter| {
                if letter.is_ascii() {
                    (ascii.saturating_add(1), other)
                } else {
                    (ascii, other.saturating_add(1))
                }
            });
        ascii
            .div_ceil(4)
            .saturating_add(other)
            .saturating_add(FRAME_TOKENS)
    }
}

/// What a message takes besides its text.
const FRAME_TOKENS: u64 = 4;

/// About how many tokens messages come to.
pub(crate) fn tokens(messages: &[Message]) -> u64 {
    messages
        .iter()
        .fold(0, |sum, message| sum.saturating_add(message.tokens()))
}

/// Takes the oldest messages away, but never a leading system message nor the last message, until what is left is at most `tokens_max`.
pub(crate) fn shorten(messages: &mut Vec<Message>, tokens_max: u64) {
    let first = usize::from(messages.first().is_some_and(|first| first.role == "system"));
    while messages.len() > first.saturating_add(1) && tokens(messages) > tokens_max {
        messages.remove(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_the_system_message_and_the_last_stay() {
        let mut messages = vec![
            Message::new("system", "s"),
            Message::new("user", "a".repeat(400)),
            Message::new("assistant", "b".repeat(400)),
            Message::new("user", "c"),
        ];
        shorten(&mut messages, 120);
        assert_eq!(messages.len(), 3);
        assert_eq!(messages[1].role, "assistant");
        shorten(&mut messages, 0);
        assert_eq!(
            messages,
            [Message::new("system", "s"), Message::new("user", "c")]
        );
    }

    #[test]
    fn other_scripts_take_more_tokens_than_letters() {
        assert!(Message::new("user", "привет").tokens() > Message::new("user", "privet").tokens());
    }
}
