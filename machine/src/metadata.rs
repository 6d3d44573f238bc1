//! Metadata: small string maps, attached to requests (who did it and why) and to instances (labels).

use std::fmt;
use std::sync::Arc;

use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::json::Entries;

/// The longest key of a [`Metadata`], in bytes.
pub const METADATA_KEY_LEN_MAX: usize = 64;
/// The maximum total size of the keys and values of a [`Metadata`], regardless of the cluster settings.
pub const METADATA_BYTES_CEILING: usize = 64 * 1024;

/// A map from names to texts, in order of the names. Cloning is cheap: it is shared.
///
/// Keys are 1 to 64 bytes and unique; neither keys nor values contain control characters.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Metadata(Option<Arc<Vec<Entry>>>);

type Entry = (Box<str>, Box<str>);

/// A metadata entry that breaks the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("metadata entry {key:?} is not valid: {reason}")]
pub struct InvalidMetadata {
    /// The entry's key, shortened to 80 characters.
    pub key: String,
    /// The rule it breaks.
    pub reason: String,
}

impl Metadata {
    /// Puts a map together, in any order.
    ///
    /// # Errors
    ///
    /// The first entry that breaks the rules: an empty or too long key, a key given twice, a
    /// control character, or more bytes in all than [`METADATA_BYTES_CEILING`].
    pub fn new<K, V>(entries: impl IntoIterator<Item = (K, V)>) -> Result<Self, InvalidMetadata>
    where
        K: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let mut map: Vec<Entry> = vec![];
        let mut bytes = 0usize;
        for (key, value) in entries {
            let (key, value) = (key.into(), value.into());
            bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
            if let Some(reason) = fault(&key, &value, bytes) {
                return Err(InvalidMetadata::new(&key, reason));
            }
            map.push((key, value));
        }
        map.sort_unstable();
        if let Some(pair) = map.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let reason = "the key is given twice; give each key once".to_owned();
            return Err(InvalidMetadata::new(&pair[0].0, reason));
        }
        Ok(Self((!map.is_empty()).then(|| Arc::new(map))))
    }

    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let map = self.0.as_ref()?;
        let at = map.binary_search_by(|(it, _)| (**it).cmp(key)).ok()?;
        Some(&map[at].1)
    }

    /// The entries, in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let map = self.0.as_deref().map(Vec::as_slice).unwrap_or_default();
        map.iter().map(|(key, value)| (&**key, &**value))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The length of all keys and values.
    pub fn bytes(&self) -> usize {
        self.iter()
            .map(|(key, value)| key.len() + value.len())
            .sum()
    }
}

impl InvalidMetadata {
    fn new(key: &str, reason: String) -> Self {
        let key = key.chars().take(80).collect();
        Self { key, reason }
    }
}

fn fault(key: &str, value: &str, bytes: usize) -> Option<String> {
    let control = |text: &str| text.chars().enumerate().find(|(_, c)| c.is_control());
    if key.is_empty() {
        Some("the key is empty; it must have 1 to 64 bytes".to_owned())
    } else if key.len() > METADATA_KEY_LEN_MAX {
        let bytes = key.len();
        Some(format!(
            "the key has {bytes} bytes; it must have 1 to {METADATA_KEY_LEN_MAX}"
        ))
    } else if let Some((at, c)) = control(key) {
        Some(format!(
            "the key contains the control character {c:?} (character {}), which is not allowed",
            at + 1
        ))
    } else if let Some((at, c)) = control(value) {
        Some(format!(
            "the value contains the control character {c:?} (character {}), which is not allowed",
            at + 1
        ))
    } else if bytes > METADATA_BYTES_CEILING {
        Some("the metadata is larger than 64 KiB, the maximum".to_owned())
    } else {
        None
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter())
    }
}

/// From an object of texts; `null` is the empty one.
impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let entries = Entries::<String, String>::deserialize(d)?;
        Self::new(entries.0).map_err(de::Error::custom)
    }
}

crate::schema::schema!(
    Metadata,
    object(
        pattern(r"^[^\u0000-\u001f\u007f-\u009f]+$", 1, METADATA_KEY_LEN_MAX),
        text()
            .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]*$"))
            .build()
    )
);

/// Written as a map; the empty one is left out where it is the last field.
impl<C> Encode<C> for Metadata {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        e.map(self.len() as u64)?;
        for (key, value) in self.iter() {
            e.str(key)?.str(value)?;
        }
        Ok(())
    }

    fn is_nil(&self) -> bool {
        self.is_empty()
    }
}

impl<'b, C> Decode<'b, C> for Metadata {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, DecodeError> {
        let at = d.position();
        let entries: Vec<(&str, &str)> = d.map_iter_with(ctx)?.collect::<Result<_, _>>()?;
        Self::new(entries).map_err(|invalid| DecodeError::message(invalid).at(at))
    }

    fn nil() -> Option<Self> {
        Some(Self::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn entries_are_found_by_key_and_kept_in_order() {
        let it = Metadata::new([("why", "late"), ("by", "ann")]).unwrap();
        assert_eq!((it.get("by"), it.get("nobody")), (Some("ann"), None));
        assert_eq!(
            it.iter().collect::<Vec<_>>(),
            [("by", "ann"), ("why", "late")]
        );
        assert_eq!((it.len(), it.bytes()), (2, 12));
        assert_eq!(Metadata::new([("a", "1"); 0]).unwrap(), Metadata::default());
        assert_eq!(codec::decode("metadata", &codec::encode(&it)), Ok(it));
    }

    #[test]
    fn as_json_it_is_an_object_whose_keys_are_given_once() {
        let read = serde_json::from_str::<Metadata>;
        let it = read(r#"{"why":"late","by":"ann"}"#).unwrap();
        assert_eq!(it.get("by"), Some("ann"));
        assert_eq!(
            serde_json::to_string(&it).unwrap(),
            r#"{"by":"ann","why":"late"}"#
        );
        assert_eq!(read("null").unwrap(), Metadata::default());
        for (text, words) in [
            (r#"{"by":"a","by":"b"}"#, "given twice"),
            (r#"{"by":1}"#, "string"),
            ("[]", "object"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn each_rule_has_its_reason() {
        let long = "k".repeat(METADATA_KEY_LEN_MAX + 1);
        let big = "v".repeat(METADATA_BYTES_CEILING);
        let cases: [(&[(&str, &str)], &str); 6] = [
            (&[("", "v")], "empty"),
            (
                &[(&long, "v")],
                "the key has 65 bytes; it must have 1 to 64",
            ),
            (&[("a\n", "v")], "the key contains"),
            (&[("a", "v\u{7f}")], "the value contains"),
            (&[("a", &big)], "larger than 64 KiB"),
            (&[("a", "1"), ("b", "1"), ("a", "2")], "given twice"),
        ];
        for (entries, reason) in cases {
            let fault = Metadata::new(entries.iter().copied()).unwrap_err();
            assert!(fault.reason.contains(reason), "{fault}");
        }
    }
}
