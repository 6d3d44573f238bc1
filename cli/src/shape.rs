//! Data in JSON, with the fields of HTTP's `/v1`.

use lockstep_client::{Read, Written};
use serde_json::{Value, json};

/// With what every write's answer says about itself.
pub(super) fn written<T>(mut object: Value, written: &Written<T>) -> Value {
    object["replayed"] = written.replayed.into();
    object["revision"] = json!(written.revision);
    object
}

/// With how fresh the answer to a read is.
pub(super) fn read<T>(mut object: Value, read: &Read<T>) -> Value {
    object["applied_index"] = read.applied_index.into();
    object["revision"] = json!(read.revision);
    object
}
