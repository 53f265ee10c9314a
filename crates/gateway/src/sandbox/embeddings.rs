//! Answers of `/embeddings`: the same vector for the same input, of length one, and nothing more to it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    ask::{Ask, count},
    fault::Fault,
    script::Script,
    words,
};

/// As many inputs may come at once as OpenAI allows.
const INPUTS_MAX: usize = 2048;
/// The longest vector.
const DIMENSIONS_MAX: u64 = 4096;
const DIMENSIONS: u64 = 1536;

pub(super) fn answer(ask: &Ask) -> Result<Script, Fault> {
    let dimensions = count(&ask.body, "dimensions")?.unwrap_or(DIMENSIONS);
    if dimensions > DIMENSIONS_MAX {
        let message = format!("Invalid value for 'dimensions'. Must be at most {DIMENSIONS_MAX}.");
        return Err(Fault::field("dimensions", None, message));
    }
    let as_base64 = match ask.body.get("encoding_format").and_then(Value::as_str) {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            return Err(Fault::field(
                "encoding_format",
                Some("invalid_value"),
                "Expected 'float' or 'base64'.",
            ));
        }
    };
    let inputs = inputs(ask.body.get("input").unwrap_or(&Value::Null))?;
    let embedding = |(index, input): (usize, &Value)| {
        let vector = vector(input, dimensions);
        let embedding = if as_base64 {
            let bytes: Vec<u8> = vector
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect();
            STANDARD.encode(bytes).into()
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    Ok(Script::json(&json!({
        "object": "list",
        "data": inputs.iter().enumerate().map(embedding).collect::<Vec<_>>(),
        "model": ask.model,
        "usage": {"prompt_tokens": ask.input_tokens, "total_tokens": ask.input_tokens},
    })))
}

/// An input is a text or a list of token ids; a list of either is several.
fn inputs(input: &Value) -> Result<&[Value], Fault> {
    let is_one = |value: &Value| match value {
        Value::String(text) => words::count(text) > 0,
        Value::Array(ids) => !ids.is_empty() && ids.iter().all(Value::is_number),
        _ => false,
    };
    let inputs = match input {
        input if is_one(input) => std::slice::from_ref(input),
        Value::Array(inputs) => inputs,
        _ => &[],
    };
    if inputs.is_empty() || inputs.len() > INPUTS_MAX || !inputs.iter().all(is_one) {
        return Err(Fault::field(
            "input",
            None,
            "'$.input' is invalid. Please check the API reference.",
        ));
    }
    Ok(inputs)
}

/// All components are of one size, so that the length is one; their signs come from the input's hash.
fn vector(input: &Value, dimensions: u64) -> Vec<f32> {
    let text = input.to_string();
    // One over the square root of the dimensions, as a decimal text of nine places.
    let nano = (1_000_000_000_000_000_000 / dimensions.max(1)).isqrt();
    let size = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    let signed = ["", "-"].map(|sign| format!("{sign}{size}").parse().unwrap_or_default());
    let bits = (0_u64..).flat_map(|block| {
        let hash = Sha256::new().chain_update(block.to_le_bytes());
        let digest: [u8; 32] = hash.chain_update(&text).finalize().into();
        digest
            .into_iter()
            .flat_map(|byte| (0..8).map(move |bit| usize::from(byte >> bit & 1)))
    });
    bits.zip(0..dimensions)
        .map(|(bit, _)| signed[bit])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_inputs_have_equal_vectors_and_others_do_not() {
        assert_eq!(vector(&json!("a"), 64), vector(&json!("a"), 64));
        assert_ne!(vector(&json!("a"), 64), vector(&json!("b"), 64));
        assert_eq!(vector(&json!("a"), 4), vector(&json!("a"), 4));
    }

    #[test]
    fn a_vector_has_its_dimensions_and_length_one() {
        for (dimensions, size) in [
            (1, 1.0_f32),
            (4, 0.5),
            (1536, 0.025_515_518),
            (3072, 0.018_042_195),
        ] {
            let vector = vector(&json!("a"), dimensions);
            assert_eq!(u64::try_from(vector.len()).expect("small"), dimensions);
            assert!(
                vector.iter().all(|number| number.abs() == size),
                "{dimensions}: {}",
                vector[0]
            );
        }
    }
}
