//! Data in JSON, with the fields of HTTP's `/v1`.

use lockstep_client::{
    Cause, Created, Deleted, Event, EventCursor, Instance, Metadata, Migrated, OperationResult,
    Read, Timestamp, Transitioned, Written,
};
use serde_json::{Map, Value, json};

use super::time;

/// Adds a field, unless there is nothing in it.
fn add(object: &mut Value, field: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[field] = value;
    }
}

pub(super) fn at(at: Timestamp) -> Value {
    time::utc(at).into()
}

/// An event cursor, as text.
pub(super) fn place(place: EventCursor) -> String {
    format!("{}-{}", place.revision, place.position)
}

pub(super) fn metadata(metadata: &Metadata) -> Option<Value> {
    if metadata.is_empty() {
        return None;
    }
    let pairs = metadata.iter();
    let pairs: Map<String, Value> = pairs
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    Some(pairs.into())
}

pub(super) fn instance(it: &Instance) -> Value {
    let mut object = json!({
        "id": it.id.to_string(),
        "version": it.version,
        "state": it.state,
        "revision": it.revision,
        "created_at": at(it.created_at),
        "changed_at": at(it.changed_at),
        "allowed": it.allowed,
    });
    add(&mut object, "deadline", it.deadline.map(at));
    add(&mut object, "metadata", metadata(&it.metadata));
    object
}

pub(super) fn event(it: &Event) -> Value {
    let (cause, late_ms) = match it.cause {
        Cause::Timeout { late_ms } => ("timeout", Some(late_ms)),
        Cause::Request => ("request", None),
    };
    let mut object = json!({
        "revision": it.revision,
        "position": it.position,
        "kind": it.kind.name(),
        "machine": it.machine,
        "version": it.version,
        "instance_revision": it.instance_revision,
        "at": at(it.at),
        "cause": cause,
    });
    add(
        &mut object,
        "id",
        it.instance().map(|id| id.to_string().into()),
    );
    add(
        &mut object,
        "from_version",
        it.from_version.map(|version| json!(version)),
    );
    add(
        &mut object,
        "from",
        it.from.as_ref().map(|state| json!(state)),
    );
    add(&mut object, "to", it.to.as_ref().map(|state| json!(state)));
    add(
        &mut object,
        "event",
        it.event.as_ref().map(|event| json!(event)),
    );
    add(&mut object, "late_ms", late_ms.map(Value::from));
    add(&mut object, "metadata", metadata(&it.metadata));
    object
}

pub(super) fn transitioned(it: &Transitioned) -> Value {
    json!({
        "id": it.instance.to_string(),
        "version": it.version,
        "from": it.from,
        "to": it.to,
        "event": it.event,
        "revision": it.revision,
        "at": at(it.at),
    })
}

pub(super) fn created(it: &Created) -> Value {
    json!({
        "id": it.instance.to_string(),
        "version": it.version,
        "state": it.state,
        "at": at(it.at),
    })
}

pub(super) fn deleted(it: &Deleted) -> Value {
    json!({
        "id": it.instance.to_string(),
        "state": it.state,
        "revision": it.revision,
        "at": at(it.at),
    })
}

pub(super) fn migrated(it: &Migrated) -> Value {
    json!({
        "id": it.instance.to_string(),
        "from_version": it.from_version,
        "version": it.version,
        "from": it.from,
        "to": it.to,
        "revision": it.revision,
        "at": at(it.at),
    })
}

/// One result of a transaction: an object with one field.
pub(super) fn result(it: &OperationResult) -> Value {
    match it {
        OperationResult::Created(it) => json!({ "created": created(it) }),
        OperationResult::Transitioned(it) => json!({ "transitioned": transitioned(it) }),
        OperationResult::Deleted(it) => json!({ "deleted": deleted(it) }),
        OperationResult::Checked => json!({ "checked": true }),
    }
}

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
