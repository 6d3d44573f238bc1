//! The requests of `lockstep.v1` that have one response, and how each is sent.

use std::future::Future;

use lockstep_proto::v1;
use lockstep_proto::v1::cluster_client::ClusterClient;
use lockstep_proto::v1::machines_client::MachinesClient;
use lockstep_proto::v1::sinks_client::SinksClient;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// The largest response accepted: a page of a thousand instances with the most metadata possible
/// stays below it.
const RESPONSE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// The service of machines and instances, on a connection.
pub(crate) fn machines(channel: Channel) -> MachinesClient<Channel> {
    MachinesClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX)
}

fn cluster(channel: Channel) -> ClusterClient<Channel> {
    ClusterClient::new(channel)
}

fn sinks(channel: Channel) -> SinksClient<Channel> {
    SinksClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX)
}

/// A request with one response.
pub(crate) trait Unary: Clone + Send + Sync + 'static {
    /// The response.
    type Answer: Send + 'static;

    /// Sends it.
    fn send(
        request: Request<Self>,
        channel: Channel,
    ) -> impl Future<Output = Result<Response<Self::Answer>, Status>> + Send;
}

/// The outcome of a write: done, or rejected.
pub(crate) type Outcome<T> = Result<T, Box<v1::Rejected>>;

/// The response to a request that changes something.
pub(crate) trait WriteAnswer: Send + 'static {
    /// The outcome, unless the request is rejected.
    type Made;

    /// The outcome and, where the response has it, the part that all writes share; none where the
    /// node left one out.
    fn into_parts(self) -> (Option<Outcome<Self::Made>>, Option<v1::Written>);
}

macro_rules! unary {
    ($service:ident: $($request:ident, $method:ident, $answer:ident;)*) => {$(
        impl Unary for v1::$request {
            type Answer = v1::$answer;

            async fn send(
                request: Request<Self>,
                channel: Channel,
            ) -> Result<Response<Self::Answer>, Status> {
                $service(channel).$method(request).await
            }
        }
    )*};
}

macro_rules! write_answer {
    ($written:expr; $($answer:ident, $module:ident, $variant:ident, $made:ident;)*) => {$(
        impl WriteAnswer for v1::$answer {
            type Made = v1::$made;

            fn into_parts(self) -> (Option<Outcome<Self::Made>>, Option<v1::Written>) {
                use v1::$module::Outcome as Wire;
                let written: fn(&Self) -> Option<v1::Written> = $written;
                let written = written(&self);
                let outcome = self.outcome.map(|outcome| match outcome {
                    Wire::$variant(made) => Ok(made),
                    Wire::Rejected(rejected) => Err(Box::new(rejected)),
                });
                (outcome, written)
            }
        }
    )*};
}

unary! {
    machines:
    DefineRequest, define, DefineResponse;
    ListMachinesRequest, list_machines, ListMachinesResponse;
    GetMachineRequest, get_machine, GetMachineResponse;
    DrawMachineRequest, draw_machine, DrawMachineResponse;
    DeleteMachineRequest, delete_machine, DeleteMachineResponse;
    CreateInstanceRequest, create_instance, CreateInstanceResponse;
    GetInstanceRequest, get_instance, GetInstanceResponse;
    ListInstancesRequest, list_instances, ListInstancesResponse;
    GetHistoryRequest, get_history, GetHistoryResponse;
    TransitionRequest, transition, TransitionResponse;
    DeleteInstanceRequest, delete_instance, DeleteInstanceResponse;
    MigrateInstanceRequest, migrate_instance, MigrateInstanceResponse;
    TransactRequest, transact, TransactResponse;
}

unary! {
    cluster:
    GetSettingsRequest, get_settings, GetSettingsResponse;
    UpdateSettingsRequest, update_settings, UpdateSettingsResponse;
}

unary! {
    sinks:
    ListSinksRequest, list_sinks, ListSinksResponse;
    CheckSinkRequest, check_sink, CheckSinkResponse;
    ReseedSinkRequest, reseed_sink, ReseedSinkResponse;
    ListDeadLettersRequest, list_dead_letters, ListDeadLettersResponse;
    ReplayDeadLettersRequest, replay_dead_letters, ReplayDeadLettersResponse;
    DiscardDeadLettersRequest, discard_dead_letters, DiscardDeadLettersResponse;
}

write_answer! {
    |answer| answer.written;
    DefineResponse, define_response, Defined, Defined;
    DeleteMachineResponse, delete_machine_response, Deleted, MachineDeleted;
    CreateInstanceResponse, create_instance_response, Created, Created;
    TransitionResponse, transition_response, Transitioned, Transitioned;
    DeleteInstanceResponse, delete_instance_response, Deleted, Deleted;
    MigrateInstanceResponse, migrate_instance_response, Migrated, Migrated;
    TransactResponse, transact_response, Committed, Committed;
    UpdateSettingsResponse, update_settings_response, Updated, Settings;
}

// Changes to a sink carry no key and report no revision.
write_answer! {
    |_| Some(v1::Written::default());
    ReseedSinkResponse, reseed_sink_response, Asked, SeedAsked;
    ReplayDeadLettersResponse, replay_dead_letters_response, Marked, DeadLettersMarked;
    DiscardDeadLettersResponse, discard_dead_letters_response, Discarded, DeadLettersDiscarded;
}
