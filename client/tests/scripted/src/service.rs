//! The services, as the script says.

use std::any::TypeId;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use lockstep_proto::v1;
use lockstep_proto::v1::cluster_server::{Cluster, ClusterServer};
use lockstep_proto::v1::machines_server::{Machines, MachinesServer};
use lockstep_proto::v1::sinks_server::{Sinks, SinksServer};
use lockstep_proto::v1::transition_result::Result as Known;
use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status, Streaming};

use super::plain;
use super::{Answer, Asked, Handler, Script, Scriptable, Watching, coded};

pub(super) async fn serve(
    script: Arc<Script>,
    listener: TcpListener,
    stopped: oneshot::Receiver<()>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("it is a listener");
    let service = Scripted(script);
    let serving = tonic::transport::Server::builder()
        .add_service(MachinesServer::new(service.clone()))
        .add_service(SinksServer::new(service.clone()))
        .add_service(ClusterServer::new(service))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            let _ = stopped.await;
        });
    serving.await.expect("the server runs");
}

#[derive(Clone)]
struct Scripted(Arc<Script>);

impl Scripted {
    /// Takes note of a request, and answers it as the script says.
    async fn answer<M: Scriptable>(
        &self,
        request: Request<M>,
        plain: impl FnOnce(M, Answer) -> Result<M::Response, Status>,
    ) -> Result<Response<M::Response>, Status> {
        let timeout = timeout(request.metadata());
        let message = request.into_inner();
        let key = message.key();
        self.0.asked.lock().push(Asked { key, timeout });
        self.0.messages.lock().push(Box::new(message.clone()));
        let scripted = self.0.answers.lock().pop_front();
        let answer = match scripted {
            Some(answer) => allowed(answer).await?,
            None if self.handles::<M>() => Answer::Done,
            None => return Err(coded(Code::Unavailable, "unavailable")),
        };
        let mut handlers = self.0.handlers.lock();
        let handler = handlers
            .get_mut(&TypeId::of::<M>())
            .and_then(|handler| handler.downcast_mut::<Handler<M>>());
        match handler {
            Some(handler) => handler(message),
            None => plain(message, answer),
        }
        .map(Response::new)
    }

    fn handles<M: Scriptable>(&self) -> bool {
        self.0.handlers.lock().contains_key(&TypeId::of::<M>())
    }
}

/// Answers that are statuses end here.
async fn allowed(answer: Answer) -> Result<Answer, Status> {
    match answer {
        Answer::Unavailable => Err(coded(Code::Unavailable, "unavailable")),
        Answer::OutcomeUnknown => Err(coded(Code::DeadlineExceeded, "outcome_unknown")),
        Answer::Overloaded { retry_after_ms } => {
            let mut status = coded(Code::ResourceExhausted, "overloaded");
            status
                .metadata_mut()
                .insert("retry-after-ms", retry_after_ms.into());
            Err(status)
        }
        Answer::Invalid => Err(coded(Code::InvalidArgument, "invalid_argument")),
        Answer::Hang => std::future::pending().await,
        answer => Ok(answer),
    }
}

fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "n" => Some(Duration::from_nanos(number)),
        "u" => Some(Duration::from_micros(number)),
        "m" => Some(Duration::from_millis(number)),
        "S" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

/// What a stream of transitions sends.
type Transitions = BoxStream<'static, Result<v1::TransitionStreamResponse, Status>>;

impl Scripted {
    /// Answers one transition after the other, each as a call of its own.
    fn transitions(self, requests: Streaming<v1::TransitionStreamRequest>) -> Transitions {
        let answered = requests.then(move |message| {
            let node = self.clone();
            async move {
                let mut results = vec![];
                for it in message?.transitions {
                    let request = Request::new(it.transition.unwrap_or_default());
                    let result = match node.answer(request, plain::transition).await {
                        Ok(response) => Known::Response(response.into_inner()),
                        Err(status) => Known::Failure(failure(&status)),
                    };
                    results.push(v1::TransitionResult {
                        sequence: it.sequence,
                        result: Some(result),
                    });
                }
                Ok(v1::TransitionStreamResponse { results })
            }
        });
        answered.boxed()
    }
}

fn failure(status: &Status) -> v1::Failure {
    let text = |key| status.metadata().get(key).and_then(|it| it.to_str().ok());
    v1::Failure {
        code: text("lockstep-code").unwrap_or_default().to_owned(),
        message: status.message().to_owned(),
        retry_after_ms: text("retry-after-ms").and_then(|it| it.parse().ok()),
    }
}

/// The methods of services: what each takes, under which key, what it returns, and what answers it by default. Others
/// stand in braces.
macro_rules! services {
    ($($service:ident {
        { $($other:tt)* }
        $($method:ident($request:ident $(. $key:ident)?) -> $response:ident: $plain:ident;)*
    })*) => {$(
        $(impl Scriptable for v1::$request {
            type Response = v1::$response;

            fn key(&self) -> Option<String> {
                [None, $(self.$key.clone())?].into_iter().flatten().next()
            }
        })*

        #[tonic::async_trait]
        impl $service for Scripted {
            $($other)*

            $(async fn $method(
                &self,
                request: Request<v1::$request>,
            ) -> Result<Response<v1::$response>, Status> {
                self.answer(request, plain::$plain).await
            })*
        }
    )*};
}

impl Scriptable for v1::WatchRequest {
    type Response = Watching;
}

services! {
    Machines {
        {
            type WatchStream = Watching;

            async fn watch(
                &self,
                request: Request<v1::WatchRequest>,
            ) -> Result<Response<Watching>, Status> {
                self.answer(request, plain::unscripted).await
            }

            type TransitionStreamStream = Transitions;

            async fn transition_stream(
                &self,
                requests: Request<Streaming<v1::TransitionStreamRequest>>,
            ) -> Result<Response<Transitions>, Status> {
                Ok(Response::new(self.clone().transitions(requests.into_inner())))
            }
        }
        define(DefineRequest.idempotency_key) -> DefineResponse: define;
        list_machines(ListMachinesRequest) -> ListMachinesResponse: unscripted;
        get_machine(GetMachineRequest) -> GetMachineResponse: unscripted;
        draw_machine(DrawMachineRequest) -> DrawMachineResponse: unscripted;
        delete_machine(DeleteMachineRequest.idempotency_key) -> DeleteMachineResponse: delete_machine;
        create_instance(CreateInstanceRequest.idempotency_key) -> CreateInstanceResponse: create;
        get_instance(GetInstanceRequest) -> GetInstanceResponse: get;
        list_instances(ListInstancesRequest) -> ListInstancesResponse: unscripted;
        get_history(GetHistoryRequest) -> GetHistoryResponse: unscripted;
        transition(TransitionRequest.idempotency_key) -> TransitionResponse: transition;
        delete_instance(DeleteInstanceRequest.idempotency_key) -> DeleteInstanceResponse: delete;
        migrate_instance(MigrateInstanceRequest.idempotency_key) -> MigrateInstanceResponse: migrate;
        transact(TransactRequest.idempotency_key) -> TransactResponse: transact;
    }
    Sinks {
        {}
        list_sinks(ListSinksRequest) -> ListSinksResponse: unscripted;
        check_sink(CheckSinkRequest) -> CheckSinkResponse: unscripted;
        reseed_sink(ReseedSinkRequest) -> ReseedSinkResponse: unscripted;
        list_dead_letters(ListDeadLettersRequest) -> ListDeadLettersResponse: unscripted;
        replay_dead_letters(ReplayDeadLettersRequest) -> ReplayDeadLettersResponse: unscripted;
        discard_dead_letters(DiscardDeadLettersRequest) -> DiscardDeadLettersResponse: unscripted;
    }
    Cluster {
        {
            async fn status(
                &self,
                request: Request<v1::StatusRequest>,
            ) -> Result<Response<v1::StatusResponse>, Status> {
                let Some(mut status) = self.0.status.lock().clone() else {
                    return Err(coded(Code::Unavailable, "unavailable"));
                };
                status.state_hash = request
                    .get_ref()
                    .with_state_hash
                    .then(|| format!("1:{}", "0123456789abcdef".repeat(2)));
                Ok(Response::new(status))
            }

            async fn list_members(
                &self,
                _: Request<v1::ListMembersRequest>,
            ) -> Result<Response<v1::ListMembersResponse>, Status> {
                let Some(status) = self.0.status.lock().clone() else {
                    return Err(coded(Code::Unavailable, "unavailable"));
                };
                let reported = |member: v1::Member| {
                    let role = match status.leader_id == Some(member.id) {
                        true => v1::Role::Leader,
                        false => v1::Role::Follower,
                    };
                    let report = v1::MemberReport {
                        role: role.into(),
                        ..v1::MemberReport::default()
                    };
                    v1::Member {
                        report: Some(report),
                        ..member
                    }
                };
                let members = status.members.into_iter().map(reported).collect();
                Ok(Response::new(v1::ListMembersResponse { members }))
            }

            type BackupStream = BoxStream<'static, Result<v1::BackupResponse, Status>>;

            async fn backup(
                &self,
                _: Request<v1::BackupRequest>,
            ) -> Result<Response<Self::BackupStream>, Status> {
                let bytes = self.0.backup.lock().clone();
                let Some(bytes) = bytes else {
                    return Err(coded(Code::Unavailable, "unavailable"));
                };
                // The first has the header.
                let pieces: Vec<_> = bytes.chunks(400).map(|it| it.to_vec()).collect();
                let pieces = pieces
                    .into_iter()
                    .map(|it| Ok(v1::BackupResponse { data: it.into() }));
                Ok(Response::new(Box::pin(futures::stream::iter(pieces))))
            }
        }
        get_settings(GetSettingsRequest) -> GetSettingsResponse: unscripted;
        update_settings(UpdateSettingsRequest.idempotency_key) -> UpdateSettingsResponse: unscripted;
        change_members(ChangeMembersRequest) -> ChangeMembersResponse: unscripted;
        transfer_leadership(TransferLeadershipRequest) -> TransferLeadershipResponse: unscripted;
    }
}
