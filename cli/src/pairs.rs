//! String metadata in a document. A duplicate key is an error, which a map would hide.

use std::fmt;

use lockstep_client::Metadata;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// Metadata as an object of strings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pairs(pub(super) Metadata);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_unit<E: Error>(self) -> Result<Pairs, E> {
                Ok(Pairs::default())
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs: Vec<(String, String)> = vec![];
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Metadata::new(pairs).map(Pairs).map_err(M::Error::custom)
            }
        }
        d.deserialize_any(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_given_twice_or_a_value_that_is_no_text_is_refused() {
        let read = |text| serde_json::from_str::<Pairs>(text).map_err(|error| error.to_string());
        assert_eq!(read(r#"{"by":"ann"}"#).map(|it| it.0.len()), Ok(1));
        assert_eq!(read("null"), Ok(Pairs::default()));
        assert!(read(r#"{"by":"ann","by":"bob"}"#).is_err_and(|why| why.contains("twice")));
        assert!(read(r#"{"by":1}"#).is_err_and(|why| why.contains("string")));
        assert!(read("[]").is_err_and(|why| why.contains("an object of strings")));
    }
}
