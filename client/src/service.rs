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

pub(crate) fn cluster(channel: Channel) -> ClusterClient<Channel> {
    ClusterClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX)
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

/// The requests of a service: `request, its method -> its response;`
macro_rules! requests {
    ($service:ident: $($request:ident, $method:ident -> $answer:ident;)*) => {$(
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

/// Those that change something, with the outcome of each that is not a rejection, and where the part
/// that all writes share is.
macro_rules! changes {
    ($service:ident, $written:expr => $(
        $request:ident, $method:ident -> $answer:ident, $module:ident::$variant:ident($made:ident);
    )*) => {
        requests! { $service: $($request, $method -> $answer;)* }

        $(impl WriteAnswer for v1::$answer {
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
        })*
    };
}

requests! {
    machines:
    ListMachinesRequest, list_machines -> ListMachinesResponse;
    GetMachineRequest, get_machine -> GetMachineResponse;
    DrawMachineRequest, draw_machine -> DrawMachineResponse;
    GetInstanceRequest, get_instance -> GetInstanceResponse;
    ListInstancesRequest, list_instances -> ListInstancesResponse;
    GetHistoryRequest, get_history -> GetHistoryResponse;
}

changes! {
    machines, |answer| answer.written =>
    DefineRequest, define -> DefineResponse, define_response::Defined(Defined);
    DeleteMachineRequest, delete_machine -> DeleteMachineResponse, delete_machine_response::Deleted(MachineDeleted);
    CreateInstanceRequest, create_instance -> CreateInstanceResponse, create_instance_response::Created(Created);
    TransitionRequest, transition -> TransitionResponse, transition_response::Transitioned(Transitioned);
    DeleteInstanceRequest, delete_instance -> DeleteInstanceResponse, delete_instance_response::Deleted(Deleted);
    MigrateInstanceRequest, migrate_instance -> MigrateInstanceResponse, migrate_instance_response::Migrated(Migrated);
    TransactRequest, transact -> TransactResponse, transact_response::Committed(Committed);
}

requests! {
    cluster:
    StatusRequest, status -> StatusResponse;
    GetSettingsRequest, get_settings -> GetSettingsResponse;
    ListMembersRequest, list_members -> ListMembersResponse;
    ChangeMembersRequest, change_members -> ChangeMembersResponse;
    TransferLeadershipRequest, transfer_leadership -> TransferLeadershipResponse;
}

changes! {
    cluster, |answer| answer.written =>
    UpdateSettingsRequest, update_settings -> UpdateSettingsResponse, update_settings_response::Updated(Settings);
}

requests! {
    sinks:
    ListSinksRequest, list_sinks -> ListSinksResponse;
    CheckSinkRequest, check_sink -> CheckSinkResponse;
    ListDeadLettersRequest, list_dead_letters -> ListDeadLettersResponse;
}

// Changes to a sink carry no key and report no revision.
changes! {
    sinks, |_| Some(v1::Written::default()) =>
    ReseedSinkRequest, reseed_sink -> ReseedSinkResponse, reseed_sink_response::Requested(SeedRequested);
    ReplayDeadLettersRequest, replay_dead_letters -> ReplayDeadLettersResponse, replay_dead_letters_response::Marked(DeadLettersMarked);
    DiscardDeadLettersRequest, discard_dead_letters -> DiscardDeadLettersResponse, discard_dead_letters_response::Discarded(DeadLettersDiscarded);
}
