//! The members of a cluster, as a test waits for them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::http::{Api, answer};
use crate::wait::wait_for;

/// For a change to be made while two cores do everything.
pub const CHANGE_DEADLINE: Duration = Duration::from_secs(40);

/// The names of the members that vote, in order.
pub async fn voters(api: &Api) -> Result<Vec<String>> {
    let name = |member: &Value| member["name"].as_str().unwrap_or_default().to_owned();
    let members = api.members().await?;
    let voters = members.iter().filter(|it| it["voter"] == true);
    Ok(voters.map(name).collect())
}

/// Waits until exactly these members vote.
pub async fn wait_for_voters(api: &Api, names: &[&str]) -> Result<()> {
    wait_for(format!("{names:?} to vote"), CHANGE_DEADLINE, async || {
        let voters = voters(api).await?;
        ensure!(voters == names, "{voters:?} vote");
        Ok(())
    })
    .await
}

/// The id of the member of a name.
pub async fn id_of(api: &Api, name: &str) -> Result<String> {
    let members = api.members().await?;
    let found = members.iter().find(|it| it["name"] == name);
    let id = found.and_then(|it| it["id"].as_str());
    Ok(id.with_context(|| format!("no member {name}"))?.to_owned())
}

/// Waits until the member of a name votes under another id than `before`, and all others vote.
pub async fn wait_for_new_id(api: &Api, name: &str, before: &str) -> Result<()> {
    let what = format!("{name} to vote under a new id");
    wait_for(what, CHANGE_DEADLINE, async || {
        let members = api.members().await?;
        ensure!(members.iter().all(|it| it["voter"] == true), "{members:?}");
        ensure!(members.iter().all(|it| it["id"] != *before), "{members:?}");
        id_of(api, name).await
    })
    .await?;
    Ok(())
}

/// Removes the member of a name; repeats that until it is no member, because another change may be in progress.
pub async fn remove(api: &Api, name: &str) -> Result<()> {
    wait_for(
        format!("{name} to be removed"),
        CHANGE_DEADLINE,
        async || {
            let path = format!("/v1/cluster/members/{name}");
            let answer = answer(api.request(Method::DELETE, &path)).await?;
            let done = [StatusCode::OK, StatusCode::NOT_FOUND].contains(&answer.status);
            ensure!(done, "{answer:?}");
            Ok(())
        },
    )
    .await
}
