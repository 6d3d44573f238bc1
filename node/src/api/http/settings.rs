//! `/v1/cluster/settings`: the cluster settings.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use lockstep_machine::{Command, Limits, Outcome, Setting};
use lockstep_proto::ErrorCode;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};
use utoipa::ToSchema;

use super::Edge;
use super::body::{Written, outcome, unknown_outcome};
use super::described::{self, Ahead, HowFresh, Malformed, OnlyOnce, Refused, Unanswered, Unread};
use super::input::{Parameters, idempotency_key, whole};
use super::problem::Problem;

/// Every cluster setting.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SettingsBody {
    #[serde(flatten)]
    #[schema(value_type = described::Settings)]
    settings: Limits,
    applied_index: u64,
    /// The cluster's.
    revision: u64,
}

/// Every cluster setting, after a change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SettingsUpdatedBody {
    #[serde(flatten)]
    #[schema(value_type = described::Settings)]
    settings: Box<Limits>,
    #[serde(flatten)]
    written: Written,
}

/// Values by name, in the order given. A map would hide a name given twice.
struct Values(Vec<(String, u64)>);

#[derive(DeriveDeserialize)]
struct Whole(#[serde(deserialize_with = "whole")] Option<u64>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Values;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of whole numbers")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Values, M::Error> {
                let mut values = vec![];
                while let Some((name, Whole(value))) = map.next_entry::<String, Whole>()? {
                    let missing = || M::Error::custom(format!("{name:?} has no value"));
                    let value = value.ok_or_else(missing)?;
                    values.push((name, value));
                }
                Ok(Values(values))
            }
        }
        d.deserialize_map(Object)
    }
}

impl Values {
    fn into_update(self) -> Result<BTreeMap<Setting, u64>, Problem> {
        let mut update = BTreeMap::new();
        for (name, value) in self.0 {
            if update.insert(name.parse::<Setting>()?, value).is_some() {
                let detail = format!("setting {name:?} is given twice");
                return Err(Problem::new(ErrorCode::InvalidBody, detail));
            }
        }
        Ok(update)
    }
}

/// The cluster settings.
#[utoipa::path(
    get, path = "/v1/cluster/settings", operation_id = "get_settings", tag = "cluster",
    params(HowFresh),
    responses(
        (status = 200, body = SettingsBody, description = "All of them"),
        Malformed, Ahead, Unanswered,
    ),
)]
pub(super) async fn show(
    State(edge): State<Arc<Edge>>,
    uri: Uri,
) -> Result<Json<SettingsBody>, Problem> {
    let began = Instant::now();
    let freshness = Parameters::parse(&uri, &["consistency", "min_revision"])?.freshness()?;
    let view = edge.view(freshness, began).await?;
    Ok(Json(SettingsBody {
        settings: view.state.limits(),
        applied_index: view.applied_index,
        revision: view.state.revision().0,
    }))
}

/// Changes the cluster settings that it names, all or none.
#[utoipa::path(
    patch, path = "/v1/cluster/settings", operation_id = "update_settings", tag = "cluster",
    params(OnlyOnce),
    request_body = described::SettingsUpdate,
    responses(
        (status = 200, body = SettingsUpdatedBody, description = "All of them, as they are now"),
        Malformed, Unread, Refused, Unanswered,
    ),
)]
pub(super) async fn update(
    State(edge): State<Arc<Edge>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SettingsUpdatedBody>, Problem> {
    let began = Instant::now();
    Parameters::parse(&uri, &[])?;
    let key = idempotency_key(&headers)?;
    let update = edge.json::<Values>(&headers, body).await?.into_update()?;
    let reply = edge.execute(Command::UpdateSettings(update), key, began);
    let (outcome, written) = outcome(reply.await?)?;
    let Outcome::SettingsUpdated(settings) = outcome else {
        return Err(unknown_outcome());
    };
    Ok(Json(SettingsUpdatedBody { settings, written }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_known_given_once_and_a_whole_number() {
        let read = |text: &str| {
            let values: Values = serde_json::from_str(text).map_err(|_| "invalid")?;
            values.into_update().map_err(|problem| problem.code)
        };
        let expected = BTreeMap::from([(Setting::EventsMax, 7), (Setting::KeysMax, 0)]);
        assert_eq!(read(r#"{"events_max": 7.0, "keys_max": 0}"#), Ok(expected));
        assert_eq!(read("{}"), Ok(BTreeMap::new()));
        assert_eq!(read(r#"{"event_max": 7}"#), Err("unknown_setting"));
        let twice = r#"{"events_max": 7, "events_max": 7}"#;
        assert_eq!(read(twice), Err("invalid_body"));
        for bad in ["-1", "1.5", "null", "\"7\"", "[7]"] {
            let text = format!(r#"{{"events_max": {bad}}}"#);
            assert_eq!(read(&text), Err("invalid"), "{bad}");
        }
    }
}
