//! The one binary form of everything here: postcard.

use serde::Serialize;

/// The bytes of a value.
pub(crate) fn bytes<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value)
        .expect("postcard writes every derived type of known length to memory")
}

/// How many bytes [`bytes`] would make, without making them.
pub(crate) fn len<T: Serialize + ?Sized>(value: &T) -> u64 {
    postcard::serialize_with_flavor(value, postcard::ser_flavors::Size::default())
        .expect("postcard counts every derived type of known length") as u64
}
