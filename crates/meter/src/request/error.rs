//! Why a request body is refused, in words for the client.

use std::fmt;

/// A body that is invalid, or that an upstream could read otherwise than we do.
///
/// `Display` is a sentence for the client: what is wrong and what would be right. It never quotes
/// the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyError {
    kind: BodyErrorKind,
    param: Option<&'static str>,
    /// Offset in the body where reading stopped.
    at: u64,
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodyErrorKind {
    /// No bytes, or only white space.
    Empty,
    /// Starts with a byte order mark.
    ByteOrderMark,
    /// Not JSON by RFC 8259.
    Syntax,
    /// A string holds a raw control character.
    ControlCharacter,
    /// A string is not UTF-8.
    NotUtf8,
    /// Ends in the middle.
    Unfinished,
    /// Nested deeper than the depth that is read (128).
    TooDeep,
    /// Something other than white space follows the object.
    TrailingBytes,
    /// The top level is not an object.
    NotAnObject,
    /// A key we must read stands there twice.
    DuplicateKey,
    /// A key differs from one we must read only in upper and lower case.
    LookalikeKey,
    /// Half of a surrogate pair in a key, or in a value we must read.
    LoneSurrogate,
    /// Must be a string.
    ExpectedString,
    /// Must be `true` or `false`.
    ExpectedBool,
    /// Must be a whole number without fraction or exponent, and not negative.
    ExpectedWholeNumber,
    /// Must be an object.
    ExpectedObject,
    /// A number larger than any upstream takes.
    NumberTooLarge,
    /// A string that must not be empty.
    EmptyString,
    /// A string longer than any upstream takes.
    StringTooLong,
    /// More things are named that the provider keeps than can be looked up.
    TooManyNamed,
    /// A control character, escaped, in a value we must read.
    ControlInValue,
    /// The content type of a form names no boundary, or one that is read in two ways.
    FormBoundary,
    /// Not a form by RFC 7578, or one that is read in two ways.
    FormSyntax,
    /// A part of a form that is coded, in another charset, or a form itself.
    FormCoding,
    /// More parts than any endpoint takes.
    TooManyParts,
}

impl BodyError {
    pub(crate) const fn new(kind: BodyErrorKind, param: Option<&'static str>, at: u64) -> Self {
        Self { kind, param, at }
    }

    /// What is wrong.
    #[must_use]
    pub const fn kind(&self) -> BodyErrorKind {
        self.kind
    }

    /// The parameter at fault, for `error.param`.
    #[must_use]
    pub const fn param(&self) -> Option<&'static str> {
        self.param
    }

    /// Offset in the body where reading stopped.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// A short code that stays the same between versions, for `error.code`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        use BodyErrorKind as K;
        match self.kind {
            K::Empty => "empty_body",
            K::ByteOrderMark => "byte_order_mark",
            K::Syntax => "invalid_json",
            K::ControlCharacter => "invalid_json_control_character",
            K::NotUtf8 => "invalid_utf8",
            K::Unfinished => "incomplete_json",
            K::TooDeep => "json_too_deep",
            K::TrailingBytes => "trailing_bytes",
            K::NotAnObject => "not_an_object",
            K::DuplicateKey => "duplicate_key",
            K::LookalikeKey => "lookalike_key",
            K::LoneSurrogate => "lone_surrogate",
            K::ExpectedString | K::ExpectedBool | K::ExpectedWholeNumber | K::ExpectedObject => {
                "invalid_type"
            }
            K::NumberTooLarge => "integer_too_large",
            K::EmptyString => "empty_string",
            K::StringTooLong => "string_too_long",
            K::ControlInValue => "control_character",
            K::FormBoundary => "invalid_form_boundary",
            K::FormSyntax | K::FormCoding => "invalid_form",
            K::TooManyParts => "too_many_parts",
            K::TooManyNamed => "too_many_objects",
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use BodyErrorKind as K;
        let at = self.at;
        let param = self.param.unwrap_or("this key");
        match self.kind {
            K::Empty => write!(
                f,
                "The request body is empty; send a JSON object with Content-Type: application/json."
            ),
            K::ByteOrderMark => write!(
                f,
                "The request body starts with a byte order mark; send UTF-8 without one."
            ),
            K::Syntax => write!(
                f,
                "The request body is not valid JSON (at byte {at}); send one JSON object as RFC 8259 has it."
            ),
            K::ControlCharacter => write!(
                f,
                "The request body has a raw control character in a string (at byte {at}); write it as an escape such as \\n."
            ),
            K::NotUtf8 => write!(
                f,
                "The request body is not valid UTF-8 (at byte {at}); encode it as UTF-8."
            ),
            K::Unfinished => write!(
                f,
                "The request body ends in the middle of the JSON (at byte {at}); send the whole object."
            ),
            K::TooDeep => write!(
                f,
                "The request body is nested too deeply (at byte {at}); use at most {} levels.",
                crate::lexer::DEPTH_MAX
            ),
            K::TrailingBytes => write!(
                f,
                "The request body goes on after its JSON object (at byte {at}); send the object and nothing after it."
            ),
            K::NotAnObject => write!(
                f,
                "The request body is JSON but not an object; send an object such as {{\"model\": \"…\"}}."
            ),
            K::DuplicateKey => write!(
                f,
                "The request body gives '{param}' more than once; give it once."
            ),
            K::LookalikeKey => write!(
                f,
                "The request body has a key that differs from '{param}' only in upper and lower case; write it exactly as '{param}'."
            ),
            K::LoneSurrogate => write!(
                f,
                "The request body has half of a surrogate pair in {} (at byte {at}); write both halves or the character itself.",
                self.param.unwrap_or("a key")
            ),
            K::ExpectedString => write!(f, "'{param}' must be a string."),
            K::ExpectedBool => write!(f, "'{param}' must be true or false."),
            K::ExpectedWholeNumber => write!(
                f,
                "'{param}' must be a whole number of 0 or more, written without fraction or exponent."
            ),
            K::ExpectedObject => write!(f, "'{param}' must be an object."),
            K::NumberTooLarge => write!(f, "'{param}' is too large; give a smaller number."),
            K::EmptyString => write!(f, "'{param}' is empty; name a value."),
            K::StringTooLong => write!(
                f,
                "'{param}' is too long; give at most {} bytes.",
                super::reader::STRING_BYTES_MAX
            ),
            K::FormBoundary => write!(
                f,
                "The form's Content-Type names no plain boundary; send multipart/form-data; boundary=… with letters, digits and dashes."
            ),
            K::FormSyntax => write!(
                f,
                "The request body is not a plain multipart form (at byte {at}); send each part as RFC 7578 has it, with lines that end in CRLF and nothing around the boundaries."
            ),
            K::FormCoding => write!(
                f,
                "A part of the form is in a coding, in a charset other than UTF-8, or has parts of its own; send text in UTF-8 and files as they are."
            ),
            K::TooManyParts => write!(f, "The form has too many parts; send fewer."),
            K::TooManyNamed => write!(
                f,
                "The request body names more than {} files, responses and their like; name fewer.",
                super::reader::NAMED_MAX
            ),
            K::ControlInValue => write!(
                f,
                "'{param}' holds a control character; use printable characters."
            ),
        }
    }
}

impl std::error::Error for BodyError {}
