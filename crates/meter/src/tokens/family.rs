//! Families of models, by what their tokens are counted with.

use tiktoken_rs::CoreBPE;

/// Which vocabulary is at hand for a family: its own, or the one that comes nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vocabulary {
    Cl100k,
    O200k,
}

impl Vocabulary {
    pub(super) fn encoder(self) -> &'static CoreBPE {
        match self {
            Self::Cl100k => tiktoken_rs::cl100k_base_singleton(),
            Self::O200k => tiktoken_rs::o200k_base_singleton(),
        }
    }
}

/// Models that count alike.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    /// Beginnings of names, without a provider's in front.
    names: &'static [&'static str],
    pub(super) vocabulary: Vocabulary,
    /// Their tokens for each 1,000 of the vocabulary.
    pub(super) permille: u16,
    /// What frames a call of a tool, beside its name and arguments.
    pub(super) per_call: u64,
}

const fn family(
    name: &'static str,
    names: &'static [&'static str],
    vocabulary: Vocabulary,
    permille: u16,
    per_call: u64,
) -> Family {
    Family {
        name,
        names,
        vocabulary,
        permille,
        per_call,
    }
}

/// OpenAI's vocabularies are their own. For the others no crate ships vocabularies: their factors and frames were measured
/// on recorded answers against `o200k_base` (`tests/answers/estimates.rs`), and are 1,000 where those say nothing else.
/// A longer beginning wins, so that `gpt-4o` is not `gpt-4`; a model of no family counts as OpenAI's.
static FAMILIES: [Family; 10] = [
    OPENAI,
    family(
        "openai, older",
        &[
            "gpt-4",
            "gpt-3.5",
            "gpt-35",
            "text-embedding-3",
            "text-embedding-ada",
            "davinci",
            "babbage",
            "ada",
        ],
        Vocabulary::Cl100k,
        1_000,
        7,
    ),
    family("claude", &["claude"], Vocabulary::O200k, 1_210, 50),
    family("deepseek", &["deepseek"], Vocabulary::O200k, 1_000, 25),
    family("gemini", &["gemini", "gemma"], Vocabulary::O200k, 1_000, 7),
    family("grok", &["grok"], Vocabulary::O200k, 1_000, 7),
    family(
        "llama",
        &["llama", "meta-llama"],
        Vocabulary::O200k,
        1_000,
        7,
    ),
    family(
        "mistral",
        &[
            "mistral",
            "ministral",
            "magistral",
            "codestral",
            "pixtral",
            "devstral",
            "mixtral",
            "open-mi",
        ],
        Vocabulary::O200k,
        1_000,
        7,
    ),
    family("qwen", &["qwen", "qwq"], Vocabulary::O200k, 1_080, 7),
    family("gpt-oss", &["gpt-oss"], Vocabulary::O200k, 1_000, 7),
];

const OPENAI: Family = family("openai", &["gpt-4o", "gpt-4."], Vocabulary::O200k, 1_000, 7);
static OTHERS: Family = OPENAI;

impl Family {
    /// The family of a model, as requests and answers name it.
    pub(super) fn of(model: &str) -> &'static Self {
        let name = model.strip_prefix("ft:").unwrap_or(model);
        let name = name.rsplit('/').next().unwrap_or(name);
        let fits = |beginning: &str| {
            let start = name.get(..beginning.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(beginning))
        };
        let longest = |family: &Self| {
            let fitting = family.names.iter().filter(|beginning| fits(beginning));
            fitting.map(|beginning| beginning.len()).max()
        };
        let found = FAMILIES.iter().max_by_key(|family| longest(family));
        found
            .filter(|family| longest(family).is_some())
            .unwrap_or(&OTHERS)
    }

    /// What so many tokens of the vocabulary are to the family, rounded up.
    pub(super) fn tokens(&self, counted: u64) -> u64 {
        let scaled = u128::from(counted).saturating_mul(u128::from(self.permille));
        u64::try_from(scaled.div_ceil(1_000)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_of_a_name_decides() {
        use Vocabulary::{Cl100k, O200k};
        for (model, name, vocabulary) in [
            ("gpt-4o-mini", "openai", O200k),
            ("gpt-4.1", "openai", O200k),
            ("gpt-5-nano", "openai", O200k),
            ("o3", "openai", O200k),
            ("gpt-4-turbo", "openai, older", Cl100k),
            ("openai/gpt-4", "openai, older", Cl100k),
            ("openai/gpt-oss-20b", "gpt-oss", O200k),
            ("ft:gpt-3.5-turbo-0125:org::id", "openai, older", Cl100k),
            ("gpt-35-turbo", "openai, older", Cl100k),
            ("text-embedding-3-small", "openai, older", Cl100k),
            ("deepseek-chat", "deepseek", O200k),
            ("anthropic/claude-sonnet-4.5", "claude", O200k),
            ("meta-llama/Llama-3.3-70B-Instruct", "llama", O200k),
            ("", "openai", O200k),
            ("\u{e9}", "openai", O200k),
        ] {
            let family = Family::of(model);
            assert_eq!(
                (family.name, family.vocabulary),
                (name, vocabulary),
                "{model}"
            );
        }
    }

    #[test]
    fn a_factor_rounds_up() {
        let claude = family("x", &[], Vocabulary::O200k, 1_210, 0);
        assert_eq!(
            [0, 1, 100].map(|counted| claude.tokens(counted)),
            [0, 2, 121]
        );
        assert_eq!(claude.tokens(u64::MAX), u64::MAX);
    }
}
