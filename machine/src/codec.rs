//! The one binary form of everything that is logged, sent between nodes or kept in a snapshot.
//!
//! Values are CBOR (RFC 8949), written by minicbor's derives: a struct is an array, and a field's
//! number (`#[n(3)]`) is its index in it; an enum is an array of the variant's number and its
//! fields. docs/decisions/0007-codec.md has the reasons.
//!
//! How a form may change:
//!
//! - A new field gets the next number, and is an `Option` or has a default. Older builds ignore it;
//!   newer builds accept data without it. Absent trailing fields are not written, so a command that does not
//!   use the new field has the same bytes, and the same fingerprint, as before.
//! - A number is never reused, and the type of a field never changes.
//! - Older builds report a new enum variant as [`CodecError::UnknownVariant`]: it gets a
//!   [feature level](FeatureLevel), and is written only once the cluster has reached it.
//! - Anything else is a new [`Format`] version.
//!
//! The golden files in `machine/tests/golden` pin every form; their test says how to add one.
//!
//! Decoding does not trust its input. Names, ids, metadata and keys are checked as they are read; a length
//! in the input never makes the decoder allocate more than the input could contain; nesting is bounded; and
//! trailing bytes are an error.

use std::error::Error as _;

use minicbor::decode::{Decoder, Error as DecodeError};
use minicbor::encode::{Encoder, Error as EncodeError, Write};
use minicbor::{Decode, Encode};

use crate::level::{FeatureLevel, UnknownLevel};

/// Bytes that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No build would write these bytes: they are corrupt, or not a value of this type.
    #[error("{what} is malformed: {reason}")]
    Malformed {
        /// What was read, for example "log entry".
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer build wrote the bytes, in a format that this build does not know.
    #[error(
        "{what} has format {found}; this build reads formats up to {supported}: run the release that wrote it, or a later one"
    )]
    UnknownFormat {
        /// What was read.
        what: &'static str,
        /// The format it has.
        found: u8,
        /// The newest format this build reads.
        supported: u8,
    },
    /// A newer build wrote the bytes, with a kind of value that this build does not know.
    #[error(
        "{what} contains a variant that this build does not know ({reason}): run the release that wrote it, or a later one"
    )]
    UnknownVariant {
        /// What was read.
        what: &'static str,
        /// Which variant, and where.
        reason: String,
    },
    /// A newer build raised the feature level beyond what this build supports.
    #[error(
        "{what} is at feature level {found}; this build supports levels up to {supported}: run the release that raised it, or a later one"
    )]
    UnknownLevel {
        /// What was read.
        what: &'static str,
        /// The level it has.
        found: u32,
        /// The highest level that this build supports.
        supported: u32,
    },
}

impl CodecError {
    /// A value that is damaged.
    pub fn malformed(what: &'static str, reason: impl ToString) -> Self {
        let reason = reason.to_string();
        CodecError::Malformed { what, reason }
    }

    /// Whether a newer build wrote the bytes: they are intact, but this build cannot read them.
    pub fn is_from_newer_build(&self) -> bool {
        !matches!(self, CodecError::Malformed { .. })
    }

    pub(crate) fn from_decoding(what: &'static str, error: &DecodeError) -> Self {
        let unknown_level = error
            .source()
            .and_then(<dyn std::error::Error>::downcast_ref);
        if let Some(UnknownLevel(found)) = unknown_level {
            return CodecError::UnknownLevel {
                what,
                found: *found,
                supported: FeatureLevel::NEWEST.get(),
            };
        }
        let reason = reason(error);
        if error.is_unknown_variant() {
            CodecError::UnknownVariant { what, reason }
        } else {
            CodecError::Malformed { what, reason }
        }
    }
}

/// What minicbor found wrong, and the byte at which. Its own messages name Rust's types.
fn reason(error: &DecodeError) -> String {
    let text = error.to_string();
    let number = || {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        numbers.find(|it| !it.is_empty()).unwrap_or("?")
    };
    let what = if error.is_end_of_input() {
        "it ends too early".to_owned()
    } else if error.is_type_mismatch() || error.is_tag_mismatch() {
        "a value is of another type than it must be".to_owned()
    } else if error.is_missing_value() {
        format!("a value has no field {}", number())
    } else if error.is_unknown_variant() {
        format!("kind {}", number())
    } else if error.is_message() {
        match text.split_once(": ") {
            // Of minicbor's derives; the other messages are those of this crate.
            Some((_, it)) if it.starts_with("flat enum ") || it.starts_with("expected enum ") => {
                "a value is of another type than it must be".to_owned()
            }
            Some((_, message)) => message.to_owned(),
            None => text.clone(),
        }
    } else {
        "a number or a text cannot be read".to_owned()
    };
    match error.position() {
        Some(at) => format!("{what}, at byte {at}"),
        None => what,
    }
}

/// A top-level form: what it is, and its version, which is its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// What it is, for messages: "log entry", "snapshot", ...
    pub what: &'static str,
    /// The version that this build writes, and the newest that it reads. The first is 1.
    pub version: u8,
}

impl Format {
    /// The format of `what` in a version.
    pub const fn new(what: &'static str, version: u8) -> Self {
        Self { what, version }
    }

    /// The bytes of a value after the version byte.
    pub fn encode<T: Encode<()> + ?Sized>(self, value: &T) -> Vec<u8> {
        let mut bytes = vec![self.version];
        encode_to(value, &mut bytes);
        bytes
    }

    /// Reads what [`Format::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`CodecError::UnknownFormat`] if the version byte is another one, else as [`decode`].
    pub fn decode<'b, T: Decode<'b, ()>>(self, bytes: &'b [u8]) -> Result<T, CodecError> {
        decode(self.what, self.open(bytes)?)
    }

    /// Checks the version byte; the rest is the value.
    ///
    /// # Errors
    ///
    /// [`CodecError::UnknownFormat`] if it is another version than this build's,
    /// [`CodecError::Malformed`] if there are no bytes.
    pub fn open(self, bytes: &[u8]) -> Result<&[u8], CodecError> {
        match bytes {
            [version, rest @ ..] if *version == self.version => Ok(rest),
            [found, ..] => Err(CodecError::UnknownFormat {
                what: self.what,
                found: *found,
                supported: self.version,
            }),
            [] => Err(CodecError::malformed(self.what, "it is empty")),
        }
    }
}

/// The bytes of a value, without a version byte.
pub fn encode<T: Encode<()> + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = vec![];
    encode_to(value, &mut bytes);
    bytes
}

/// Appends the bytes of a value.
pub fn encode_to<T: Encode<()> + ?Sized>(value: &T, bytes: &mut Vec<u8>) {
    minicbor::encode(value, bytes).expect("writing to memory does not fail");
}

/// How many bytes [`encode`] makes.
pub fn encoded_len<T: Encode<()> + ?Sized>(value: &T) -> u64 {
    encode(value).len() as u64
}

/// Reads exactly one value from bytes without a version byte.
///
/// # Errors
///
/// [`CodecError::UnknownVariant`] for a kind of value that this build does not know,
/// [`CodecError::Malformed`] for everything else, bytes left over included.
pub fn decode<'b, T: Decode<'b, ()>>(what: &'static str, bytes: &'b [u8]) -> Result<T, CodecError> {
    let mut decoder = Decoder::new(bytes);
    let value = decode_next(what, &mut decoder)?;
    finish(what, &decoder)?;
    Ok(value)
}

/// Reads the next value, which need not be the last.
pub(crate) fn decode_next<'b, T: Decode<'b, ()>>(
    what: &'static str,
    decoder: &mut Decoder<'b>,
) -> Result<T, CodecError> {
    decoder
        .decode()
        .map_err(|error| CodecError::from_decoding(what, &error))
}

/// Checks that there are no trailing bytes.
pub(crate) fn finish(what: &'static str, decoder: &Decoder<'_>) -> Result<(), CodecError> {
    match decoder.input().len().saturating_sub(decoder.position()) {
        0 => Ok(()),
        left => Err(CodecError::malformed(
            what,
            format!("{left} trailing bytes"),
        )),
    }
}

/// Values behind an [`Arc`](std::sync::Arc), which are written like the values themselves.
pub(crate) mod shared {
    use std::sync::Arc;

    use super::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, Write};

    pub(crate) fn encode<C, T: Encode<C>, W: Write>(
        value: &Arc<T>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        T::encode(value, e, ctx)
    }

    pub(crate) fn decode<'b, C, T: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Arc<T>, DecodeError> {
        T::decode(d, ctx).map(Arc::new)
    }
}

/// The JSON form of a type that is a text with rules: they are checked when it is read.
macro_rules! json_text {
    ($type:ident) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The JSON form and the binary one of a type that is a text with rules.
macro_rules! checked_text {
    ($type:ident) => {
        crate::codec::json_text!($type);

        impl<C> minicbor::Encode<C> for $type {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.str(self.as_str())?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $type {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let at = d.position();
                Self::new(d.str()?).map_err(|error| minicbor::decode::Error::message(error).at(at))
            }
        }
    };
}

/// An enum without fields, from a row for each variant: its number in the binary form, its name in text
/// and JSON, and its meaning.
macro_rules! named {
    ($type:ident, $about:literal; $($number:literal $variant:ident = $name:literal, $doc:literal;)+) => {
        #[doc = $about]
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash,
            minicbor::Encode, minicbor::Decode, serde::Serialize,
        )]
        #[cbor(index_only)]
        pub enum $type {
            $(#[doc = $doc] #[n($number)] #[serde(rename = $name)] $variant,)+
        }

        impl $type {
            /// All variants.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The stable name: snake case, the same everywhere.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        crate::schema::schema!(
            $type,
            text()
                .description(Some($about))
                .enum_values(Some([$($name),+]))
        );
    };
}

pub(crate) use {checked_text, json_text, named};

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    struct Old {
        #[n(0)]
        name: String,
    }

    #[derive(Debug, PartialEq, Encode, Decode)]
    struct New {
        #[n(0)]
        name: String,
        #[n(1)]
        note: Option<String>,
    }

    const FORMAT: Format = Format::new("thing", 2);

    fn named(note: Option<&str>) -> New {
        New {
            name: "a".to_owned(),
            note: note.map(str::to_owned),
        }
    }

    #[test]
    fn a_new_optional_field_is_skipped_by_an_old_build_and_absent_to_a_new_one() {
        let old = Old {
            name: "a".to_owned(),
        };
        assert_eq!(
            decode("thing", &encode(&named(Some("n")))),
            Ok(Old { ..old })
        );
        let old = Old {
            name: "a".to_owned(),
        };
        assert_eq!(decode("thing", &encode(&old)), Ok(named(None)));
        assert_eq!(encode(&named(None)), encode(&old));
    }

    #[test]
    fn another_version_is_an_unknown_format_and_not_damage() {
        let bytes = FORMAT.encode(&named(None));
        assert_eq!(FORMAT.decode(&bytes), Ok(named(None)));
        for found in [0, 1, 3, 255] {
            let mut bytes = bytes.clone();
            bytes[0] = found;
            let error = FORMAT.decode::<New>(&bytes).unwrap_err();
            assert!(error.is_from_newer_build(), "{error}");
            let text = format!("thing has format {found}; this build reads formats up to 2");
            assert!(error.to_string().starts_with(&text), "{error}");
        }
        assert!(!FORMAT.decode::<New>(&[]).unwrap_err().is_from_newer_build());
    }

    #[test]
    fn bytes_left_over_are_malformed_and_lengths_are_counted() {
        let mut bytes = encode(&named(Some("n")));
        assert_eq!(encoded_len(&named(Some("n"))), bytes.len() as u64);
        bytes.push(0);
        let error = decode::<New>("thing", &bytes).unwrap_err();
        assert_eq!(error.to_string(), "thing is malformed: 1 trailing bytes");
    }
}
