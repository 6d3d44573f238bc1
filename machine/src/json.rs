//! The parts of the JSON form that serde does not derive.
//!
//! Types in the requests and responses of `/v1` derive [`Serialize`] or [`Deserialize`] and, with the
//! feature `openapi`, their schemas. HTTP, the command line, webhooks and MongoDB all use this form.

mod explain;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::ids::{StateName, Timestamp};

pub use explain::{explain, explain_json, known_path};

/// The first millisecond that RFC 3339 has no form for.
const YEAR_10000_MS: u64 = 253_402_300_800_000;

impl Timestamp {
    /// RFC 3339 in UTC, with milliseconds. `None` for 0, which built-in instances have, and for times after the
    /// year 9999.
    pub fn rfc3339(self) -> Option<String> {
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.0))?;
        (1..YEAR_10000_MS)
            .contains(&self.0)
            .then(|| humantime::format_rfc3339_millis(time).to_string())
    }
}

/// [`Timestamp::rfc3339`]; null where there is none.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.rfc3339().serialize(s)
    }
}

/// Deserializes a struct from an object only. serde would also accept an array of the fields in order, in
/// which mistakes go unnoticed.
pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    struct ObjectOnly<D>(D);

    impl<'de, D: Deserializer<'de>> Deserializer<'de> for ObjectOnly<D> {
        type Error = D::Error;

        fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.deserialize_map(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
            option unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
            ignored_any
        }
    }

    T::deserialize(ObjectOnly(d))
}

/// A whole number. JSON has one kind of number: `7.0` is as whole as `7`.
pub fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(d: D) -> Result<T, D::Error> {
    let number = serde_json::Number::deserialize(d)?;
    // Below 2^64, each whole number that a float holds is exact.
    let exact = |it: &f64| it.fract() == 0.0 && (0.0..u64::MAX as f64).contains(it);
    let float = || number.as_f64().filter(exact).map(|it| it as u64);
    let whole = number.as_u64().or_else(float);
    whole.and_then(|it| T::try_from(it).ok()).ok_or_else(|| {
        let max = u64::MAX >> (64 - 8 * size_of::<T>().clamp(1, 8));
        D::Error::custom(format!(
            "expected a whole number from 0 to {max}, found {number}"
        ))
    })
}

/// The entries of an object, in order and with repetitions, which a map would hide.
#[derive(Debug, Clone)]
pub struct Entries<K, V>(pub Vec<(K, V)>);

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self(vec![])
    }
}

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Entries<K, V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Object<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for Object<K, V> {
            type Value = Entries<K, V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Entries(vec![]))
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut entries = vec![];
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        d.deserialize_any(Object(PhantomData))
    }
}

/// A map from states to states; each key at most once, `null` for none.
pub(crate) fn mapping<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<BTreeMap<StateName, StateName>, D::Error> {
    let mut map = BTreeMap::new();
    for (from, to) in Entries::deserialize(d)?.0 {
        if map.contains_key(&from) {
            return Err(D::Error::custom(format!("state {from:?} is mapped twice")));
        }
        map.insert(from, to);
    }
    Ok(map)
}

/// Durations in milliseconds as text: `90d`, `1h 30m`.
pub(crate) mod duration {
    use super::*;
    use crate::duration::{parse_duration, show_duration};

    /// The schema of a duration.
    #[cfg(feature = "openapi")]
    #[derive(utoipa::ToSchema)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "describes what is parsed elsewhere")]
    pub(crate) enum After {
        Duration(String),
        Milliseconds(u64),
    }

    pub(crate) fn serialize<S: Serializer>(ms: &u64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&show_duration(*ms))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        let text = String::deserialize(d)?;
        parse_duration(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_rfc_3339_cannot_express_are_null() {
        let json = |ms| serde_json::to_string(&Timestamp(ms)).unwrap();
        assert_eq!(json(1), "\"1970-01-01T00:00:00.001Z\"");
        assert_eq!(json(YEAR_10000_MS - 1), "\"9999-12-31T23:59:59.999Z\"");
        for ms in [0, YEAR_10000_MS, u64::MAX] {
            assert_eq!(json(ms), "null", "{ms}");
        }
    }

    #[test]
    fn a_number_is_whole_however_it_is_written() {
        let read = |text: &str| serde_json::from_str::<crate::Version>(text).map(|it| it.0);
        for text in ["7", "7.0", "0.7e1", "70e-1"] {
            assert_eq!(read(text).unwrap(), 7, "{text}");
        }
        for text in ["7.5", "-1", "-0.5", "4294967296", "1e20", "\"7\"", "true"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
