//! The JSON form: what serde does not derive by itself.
//!
//! Types that are shown or asked for over `/v1` derive [`Serialize`] or [`Deserialize`], and with the
//! feature `openapi` their schemas. HTTP, the command line, webhooks and MongoDB all use this form.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::ids::Timestamp;

/// The first millisecond that RFC 3339 has no form for.
const YEAR_10000_MS: u64 = 253_402_300_800_000;

impl Timestamp {
    /// RFC 3339 in UTC, with milliseconds; none for 0, which marks what was always there, and for times
    /// after the year 9999.
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

/// Reads a structure from an object only: serde would also accept an array of the fields in order,
/// where nothing guards against a mistake.
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
    let float = || number.as_f64().filter(|it| it.fract() == 0.0 && *it >= 0.0);
    // Below 2^64, each whole number that a float holds is exact.
    let exact = || {
        float()
            .filter(|it| *it < u64::MAX as f64)
            .map(|it| it as u64)
    };
    let whole = number.as_u64().or_else(exact);
    whole.and_then(|it| T::try_from(it).ok()).ok_or_else(|| {
        let bits = 8 * size_of::<T>();
        D::Error::custom(format!(
            "invalid number `{number}`, expected a whole one of at most {bits} bits"
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
pub(crate) fn mapping<'de, D, K>(d: D) -> Result<BTreeMap<K, K>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + fmt::Debug,
{
    let mut map = BTreeMap::new();
    for (from, to) in Entries::<K, K>::deserialize(d)?.0 {
        if map.contains_key(&from) {
            return Err(D::Error::custom(format!("state {from:?} is mapped twice")));
        }
        map.insert(from, to);
    }
    Ok(map)
}

/// Durations in milliseconds as text: `90d`, `1h 30m`. Days are the largest unit, since months and years
/// have no fixed length.
pub(crate) mod duration {
    use super::*;

    /// The schema of a duration.
    #[cfg(feature = "openapi")]
    #[derive(utoipa::ToSchema)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "describes what is parsed elsewhere")]
    pub(crate) enum After {
        Duration(String),
        Milliseconds(u64),
    }

    pub(crate) fn text(ms: u64) -> String {
        let units = [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "m"),
            (1000, "s"),
            (1, "ms"),
        ];
        let mut left = ms;
        let mut parts = vec![];
        for (unit, name) in units {
            if left >= unit {
                parts.push(format!("{}{name}", left / unit));
                left %= unit;
            }
        }
        match parts.is_empty() {
            true => "0s".to_owned(),
            false => parts.join(" "),
        }
    }

    pub(crate) fn serialize<S: Serializer>(ms: &u64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&text(*ms))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        let text = String::deserialize(d)?;
        let duration = humantime::parse_duration(&text).map_err(D::Error::custom)?;
        u64::try_from(duration.as_millis()).map_err(D::Error::custom)
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

    #[test]
    fn a_duration_is_written_as_people_write_it() {
        for (ms, text) in [
            (0, "0s"),
            (90 * 86_400_000, "90d"),
            (5_400_000, "1h 30m"),
            (1500, "1s 500ms"),
        ] {
            assert_eq!(duration::text(ms), text);
            assert_eq!(
                duration::deserialize(serde_json::Value::from(text)).unwrap(),
                ms
            );
        }
    }
}
