//! `/v1/cluster/settings`: the cluster settings.

use std::collections::BTreeMap;

use axum::Json;
use lockstep_machine::json::{self, Entries};
use lockstep_machine::{Command, Limits, Outcome, Setting};
use lockstep_proto::ErrorCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{Written, outcome, unknown_outcome};
use super::described::{self, Ahead, Malformed, Refused, Unanswered, Unread};
use super::input::{Call, Key};
use super::json::JsonBody;
use super::problem::Problem;
use super::query::Query;
use crate::service::Freshness;

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

/// The values that are named, each setting once.
fn into_update(values: Entries<String, Whole>) -> Result<BTreeMap<Setting, u64>, Problem> {
    let mut update = BTreeMap::new();
    for (name, Whole(value)) in values.0 {
        if update.insert(name.parse::<Setting>()?, value).is_some() {
            let detail = format!("setting {name:?} is given twice");
            return Err(Problem::new(ErrorCode::InvalidBody, detail));
        }
    }
    Ok(update)
}

#[derive(Deserialize)]
pub(super) struct Whole(#[serde(deserialize_with = "json::whole")] u64);

/// The cluster settings.
#[utoipa::path(
    get, path = "/v1/cluster/settings", operation_id = "get_settings", tag = "cluster",
    params(Freshness),
    responses(
        (status = 200, body = SettingsBody, description = "All of them"),
        Malformed, Ahead, Unanswered,
    ),
)]
pub(super) async fn show(
    call: Call,
    Query(freshness): Query<Freshness>,
) -> Result<Json<SettingsBody>, Problem> {
    let view = call.view(freshness).await?;
    Ok(Json(SettingsBody {
        settings: view.state.limits(),
        applied_index: view.applied_index,
        revision: view.state.revision().0,
    }))
}

/// Changes the named cluster settings, all or none.
#[utoipa::path(
    patch, path = "/v1/cluster/settings", operation_id = "update_settings", tag = "cluster",
    params(Key),
    request_body = described::SettingsUpdate,
    responses(
        (status = 200, body = SettingsUpdatedBody, description = "All of them, as they are now"),
        Malformed, Unread, Refused, Unanswered,
    ),
)]
pub(super) async fn update(
    call: Call,
    Query(()): Query<()>,
    Key(key): Key,
    JsonBody(values): JsonBody<Entries<String, Whole>>,
) -> Result<Json<SettingsUpdatedBody>, Problem> {
    let command = Command::UpdateSettings(into_update(values)?);
    let (outcome, written) = outcome(call.execute(command, key).await?)?;
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
            let values = serde_json::from_str(text).map_err(|_| "invalid")?;
            into_update(values).map_err(|problem| problem.code)
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
