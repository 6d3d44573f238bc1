//! `/v1/cluster/settings`: the cluster settings.

use std::collections::BTreeMap;

use axum::Json;
use lockstep_machine::json::{self, Entries};
use lockstep_machine::{Command, Limits, Setting};
use lockstep_proto::{ErrorCode, v1};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::body::answer;
use super::described;
use super::input::Key;
use super::json::JsonBody;
use super::query::Query;
use crate::api::call::{Call, read_at};
use crate::api::problem::Problem;
use crate::service::Freshness;

/// Every cluster setting.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SettingsBody {
    #[serde(flatten)]
    #[schema(value_type = described::Settings)]
    settings: Limits,
    #[serde(flatten)]
    read_at: v1::ReadAt,
}

answer! {
    /// Every cluster setting, after a change.
    SettingsUpdatedBody = SettingsUpdated {
        #[serde(flatten)]
        #[schema(value_type = described::Settings)]
        settings: Box<Limits>,
    }
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

/// New values.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct SettingsUpdate(Entries<String, Whole>);

impl PartialSchema for SettingsUpdate {
    fn schema() -> RefOr<Schema> {
        let known_only = AdditionalProperties::FreeForm(false);
        described::settings()
            .additional_properties(Some(known_only))
            .description(Some(
                "New values for some of the cluster settings, by name.",
            ))
            .build()
            .into()
    }
}

impl ToSchema for SettingsUpdate {}

#[derive(Deserialize)]
pub(super) struct Whole(#[serde(deserialize_with = "json::whole")] u64);

pub(super) async fn show(
    call: Call,
    Query(freshness): Query<Freshness>,
) -> Result<Json<SettingsBody>, Problem> {
    let view = call.view(freshness).await?;
    Ok(Json(SettingsBody {
        settings: view.state.limits(),
        read_at: read_at(&view),
    }))
}

pub(super) async fn update(
    call: Call,
    Query(()): Query<()>,
    Key(key): Key,
    JsonBody(SettingsUpdate(values)): JsonBody<SettingsUpdate>,
) -> Result<Json<SettingsUpdatedBody>, Problem> {
    let command = Command::UpdateSettings(into_update(values)?);
    call.write(command, key).await.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_known_given_once_and_a_whole_number() {
        let read = |text: &str| {
            let values = serde_json::from_str(text).map_err(|_| "invalid")?;
            into_update(values).map_err(|problem| problem.code.as_str())
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
