//! The calls that read.

use lockstep_machine::{InstanceId, StateName, Version};
use lockstep_proto::{Malformed, optional_name, v1};
use prost::Message as _;

use super::input::{freshness, invalid, machine, named};
use crate::api::call::{Call, read_at};
use crate::api::problem::Problem;
use crate::service::{Depicted, Listed, PageAsked, PageQuery, PictureFormat, View};

/// Bytes of instances in one answer, about: well below what clients take by default, 4 MiB, since
/// the last one may be large.
const PAGE_BYTES_MAX: usize = 2 << 20;

fn instance_id(id: &str) -> Result<InstanceId, Malformed> {
    id.parse().map_err(named("id"))
}

pub(super) async fn list_machines(
    call: &Call,
    request: v1::ListMachinesRequest,
) -> Result<v1::ListMachinesResponse, Problem> {
    call.machines(freshness(request.freshness)?).await
}

pub(super) async fn get_machine(
    call: &Call,
    request: v1::GetMachineRequest,
) -> Result<v1::GetMachineResponse, Problem> {
    let name = machine(request.machine)?;
    let view = call.view(freshness(request.freshness)?).await?;
    let (version, definition) = view.machine(&name, request.version.map(Version))?;
    let totals = view.state.totals(&name).unwrap_or_default();
    Ok(v1::GetMachineResponse {
        summary: Some(v1::MachineSummary::of(&name, version, definition, &totals)),
        definition: lockstep_document::to_json(definition),
        versions: v1::VersionSummary::all(&totals),
        read_at: Some(read_at(&view)),
    })
}

pub(super) async fn draw_machine(
    call: &Call,
    request: v1::DrawMachineRequest,
) -> Result<v1::DrawMachineResponse, Problem> {
    let format = picture_format(request.format)?;
    let name = machine(request.machine)?;
    let depicted = Depicted {
        version: request.version.map(Version),
        instance: optional_name("instance", request.instance)?,
    };
    let view = call.view(freshness(request.freshness)?).await?;
    let picture = view.draw(&name, depicted, format).await?;
    Ok(v1::DrawMachineResponse {
        picture: picture.text,
        read_at: Some(read_at(&view)),
        version: picture.version.0,
    })
}

fn picture_format(format: i32) -> Result<PictureFormat, Malformed> {
    use v1::PictureFormat as Wire;
    Ok(match Wire::try_from(format) {
        Ok(Wire::Unspecified | Wire::Mermaid) => PictureFormat::Mermaid,
        Ok(Wire::Dot) => PictureFormat::Dot,
        Ok(Wire::Svg) => PictureFormat::Svg,
        Err(error) => return Err(Malformed::new("format", error)),
    })
}

pub(super) async fn get_instance(
    call: &Call,
    request: v1::GetInstanceRequest,
) -> Result<v1::GetInstanceResponse, Problem> {
    let id = instance_id(&request.id)?;
    let view = call.view(freshness(request.freshness)?).await?;
    let instance = view.instance(&id)?;
    Ok(v1::GetInstanceResponse {
        instance: Some(view.state.view(&id, instance).into()),
        read_at: Some(read_at(&view)),
    })
}

pub(super) async fn list_instances(
    call: &Call,
    request: v1::ListInstancesRequest,
) -> Result<v1::ListInstancesResponse, Problem> {
    let fresh = request.freshness;
    let asked = page_asked(request)?.check().map_err(invalid)?;
    let view = call.view(freshness(fresh)?).await?;
    let listed = view.list(&asked)?;
    Ok(page(&view, &asked, listed, PAGE_BYTES_MAX))
}

fn page_asked(request: v1::ListInstancesRequest) -> Result<PageAsked, Malformed> {
    Ok(PageAsked {
        machine: machine(request.machine)?,
        state: optional_name::<StateName>("state", request.state)?,
        prefix: request.prefix,
        label: request.label.map(|label| (label.key, label.value)),
        limit: request.limit.map(u64::from),
        cursor: request.cursor,
    })
}

/// A page that fits into a message: what has no room is on the next one.
fn page(
    view: &View,
    asked: &PageQuery,
    listed: Listed,
    bytes_max: usize,
) -> v1::ListInstancesResponse {
    let mut page = v1::ListInstancesResponse {
        instances: vec![],
        next_cursor: listed.next_cursor,
        total: listed.total,
        read_at: Some(read_at(view)),
    };
    let mut bytes = 0;
    let count = listed.instances.len();
    for (at, (id, instance)) in listed.instances.iter().enumerate() {
        let shown: v1::Instance = view.state.view(id, instance).into();
        bytes += shown.encoded_len();
        page.instances.push(shown);
        if bytes >= bytes_max && at + 1 < count {
            page.next_cursor = Some(asked.cursor(id));
            break;
        }
    }
    page
}

pub(super) async fn get_history(
    call: &Call,
    request: v1::GetHistoryRequest,
) -> Result<v1::GetHistoryResponse, Problem> {
    let id = instance_id(&request.id)?;
    let view = call.view(freshness(request.freshness)?).await?;
    let instance = view.instance(&id)?;
    Ok(v1::GetHistoryResponse {
        id: id.to_string(),
        instance_revision: instance.revision.0,
        oldest_revision: instance.oldest_kept().map(|revision| revision.0),
        events: instance.history().map(|event| (&**event).into()).collect(),
        read_at: Some(read_at(&view)),
    })
}

pub(super) async fn get_settings(
    call: &Call,
    request: v1::GetSettingsRequest,
) -> Result<v1::GetSettingsResponse, Problem> {
    let view = call.view(freshness(request.freshness)?).await?;
    Ok(v1::GetSettingsResponse {
        settings: Some((&view.state.limits()).into()),
        read_at: Some(read_at(&view)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{
        Batch, Command, Create, MachineName, Metadata, Origin, Request, SessionId, State, Timestamp,
    };

    /// The state with `triad/a0`, `triad/a1`, ... beside the instance that is always there.
    fn view_of(count: u64) -> View {
        let mut state = State::default();
        let request = |n| Request {
            origin: Origin {
                session: SessionId(1),
                sequence: n + 1,
                answered_below: n,
            },
            key: None,
            command: Command::Create(Create {
                instance: InstanceId::new("triad", format!("a{n}")).unwrap(),
                version: None,
                metadata: Metadata::default(),
            }),
        };
        state.apply(&Batch {
            stamp: Timestamp(1),
            requests: (0..count).map(request).collect(),
        });
        View {
            state,
            applied_index: 9,
        }
    }

    fn asked(limit: u32, cursor: Option<String>) -> PageQuery {
        let request = v1::ListInstancesRequest {
            machine: "triad".to_owned(),
            limit: Some(limit),
            cursor,
            ..Default::default()
        };
        page_asked(request).unwrap().check().unwrap()
    }

    #[test]
    fn pages_that_are_cut_short_to_fit_a_message_lose_nothing() {
        let view = view_of(9);
        let whole = view.list(&asked(1000, None)).unwrap();
        let expected: Vec<_> = whole
            .instances
            .iter()
            .map(|(id, _)| id.to_string())
            .collect();
        assert_eq!(expected.len(), 10);
        for bytes_max in [0, 100, 250, usize::MAX] {
            for limit in [1, 3, 1000] {
                let (mut seen, mut cursor) = (vec![], None);
                loop {
                    let query = asked(limit, cursor);
                    let listed = view.list(&query).unwrap();
                    let page = page(&view, &query, listed, bytes_max);
                    assert!(page.total == 10 && page.instances.len() <= limit as usize);
                    seen.extend(page.instances.into_iter().map(|it| it.id));
                    cursor = page.next_cursor;
                    if cursor.is_none() {
                        break;
                    }
                }
                assert_eq!(seen, expected, "{bytes_max} bytes, {limit} instances");
            }
        }
    }

    #[test]
    fn a_list_is_asked_for_with_every_filter() {
        let request = v1::ListInstancesRequest {
            machine: "order".to_owned(),
            state: Some("paid".to_owned()),
            prefix: "a".to_owned(),
            label: Some(v1::Label {
                key: "by".to_owned(),
                value: "ann=b".to_owned(),
            }),
            limit: Some(7),
            cursor: Some("c".to_owned()),
            freshness: None,
        };
        let asked = page_asked(request.clone()).unwrap();
        assert_eq!(asked.machine, MachineName::new("order").unwrap());
        assert_eq!(asked.state.unwrap().as_str(), "paid");
        assert_eq!((asked.prefix.as_str(), asked.limit), ("a", Some(7)));
        assert_eq!(asked.label, Some(("by".to_owned(), "ann=b".to_owned())));
        assert_eq!(asked.cursor.as_deref(), Some("c"));
        let bad = v1::ListInstancesRequest {
            state: Some("a b".to_owned()),
            ..request
        };
        assert_eq!(page_asked(bad).unwrap_err().field, "state");
    }

    #[test]
    fn a_picture_is_mermaid_unless_it_says_otherwise() {
        assert_eq!(picture_format(0), Ok(PictureFormat::Mermaid));
        assert_eq!(picture_format(2), Ok(PictureFormat::Dot));
        assert_eq!(picture_format(3), Ok(PictureFormat::Svg));
        assert_eq!(picture_format(4).unwrap_err().field, "format");
    }
}
