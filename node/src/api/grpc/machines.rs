//! `lockstep.v1.Machines`.

use lockstep_machine::{IdempotencyKey, InstanceId, Transition};
use lockstep_proto::{Malformed, v1};
use tonic::{Code, Request, Response, Status};

use super::GrpcState;
use super::answer::{coded, malformed, unanswered};
use crate::api::count_transition;
use crate::service::{Consistency, InstanceView, ReadReply};

/// The service, over the use cases.
pub(super) struct Machines(pub(super) GrpcState);

#[tonic::async_trait]
impl v1::machines_server::Machines for Machines {
    async fn get_instance(
        &self,
        request: Request<v1::GetInstanceRequest>,
    ) -> Result<Response<v1::GetInstanceResponse>, Status> {
        let deadline = self.0.deadline(&request);
        let call = async {
            let (id, consistency) = parse_get(request.into_inner()).map_err(|e| malformed(&e))?;
            let read = self
                .0
                .service
                .instance(id.clone(), consistency, deadline)
                .await;
            found(&id, read.map_err(|e| unanswered(&e))?)
        };
        self.0
            .observe("lockstep.v1.Machines/GetInstance", call)
            .await
    }

    async fn transition(
        &self,
        request: Request<v1::TransitionRequest>,
    ) -> Result<Response<v1::TransitionResponse>, Status> {
        let deadline = self.0.deadline(&request);
        let call = async {
            let (transition, key) =
                <(Transition, Option<IdempotencyKey>)>::try_from(request.into_inner())
                    .map_err(|e| malformed(&e))?;
            let reply = self
                .0
                .service
                .transition(transition, key, deadline)
                .await
                .map_err(|e| unanswered(&e))?;
            count_transition(&self.0.report, &reply);
            Ok(v1::TransitionResponse::from(reply))
        };
        self.0
            .observe("lockstep.v1.Machines/Transition", call)
            .await
    }
}

fn parse_get(request: v1::GetInstanceRequest) -> Result<(InstanceId, Consistency), Malformed> {
    let id = request
        .id
        .parse()
        .map_err(|error| Malformed::new("id", error))?;
    let consistency = match v1::Consistency::try_from(request.consistency) {
        Ok(v1::Consistency::Unspecified | v1::Consistency::Linearizable) => {
            Consistency::Linearizable
        }
        Ok(v1::Consistency::Stale) => Consistency::Stale,
        Err(error) => return Err(Malformed::new("consistency", error)),
    };
    Ok((id, consistency))
}

fn found(id: &InstanceId, read: ReadReply) -> Result<v1::GetInstanceResponse, Status> {
    let ReadReply {
        view,
        applied_index,
    } = read;
    let Some(InstanceView {
        id,
        instance,
        allowed,
    }) = view
    else {
        return Err(coded(
            Code::NotFound,
            "unknown_instance",
            format_args!("there is no instance {id:?}"),
        ));
    };
    let instance = v1::Instance {
        id: id.to_string(),
        version: instance.version.0,
        state: instance.state.to_string(),
        revision: instance.revision.0,
        created_at_ms: instance.created_at.0,
        changed_at_ms: instance.changed_at.0,
        allowed: allowed.iter().map(ToString::to_string).collect(),
    };
    Ok(v1::GetInstanceResponse {
        instance: Some(instance),
        applied_index,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(id: &str, consistency: i32) -> Result<(InstanceId, Consistency), &'static str> {
        parse_get(v1::GetInstanceRequest {
            id: id.to_owned(),
            consistency,
        })
        .map_err(|error| error.field)
    }

    #[test]
    fn a_read_is_linearizable_unless_it_says_otherwise() {
        let id = InstanceId::new("triad", "default").unwrap();
        assert_eq!(
            get("triad/default", 0),
            Ok((id.clone(), Consistency::Linearizable))
        );
        assert_eq!(
            get("triad/default", 1),
            Ok((id.clone(), Consistency::Linearizable))
        );
        assert_eq!(get("triad/default", 2), Ok((id, Consistency::Stale)));
        assert_eq!(get("triad/default", 3), Err("consistency"));
        assert_eq!(get("triad", 0), Err("id"));
    }

    #[test]
    fn a_missing_instance_is_not_found() {
        let id = InstanceId::new("triad", "none").unwrap();
        let status = found(
            &id,
            ReadReply {
                view: None,
                applied_index: 3,
            },
        )
        .unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(
            status.metadata().get("lockstep-code").unwrap(),
            "unknown_instance"
        );
    }
}
