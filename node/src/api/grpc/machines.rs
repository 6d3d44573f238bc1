//! `lockstep.v1.Machines`: each call with its deadline and its count; what it does is in
//! [`reads`], [`writes`] and [`watch`].

use lockstep_proto::v1;
use tonic::{Request, Response, Status};

use super::{GrpcState, reads, watch, writes};

/// The service, over the use cases.
pub(super) struct Machines(pub(super) GrpcState);

/// One call: its deadline, what it does, its count.
macro_rules! call {
    ($self:ident, $name:literal, $request:ident, $does:path) => {{
        let state = &$self.0;
        let deadline = state.deadline(&$request);
        let call = $does(state, $request.into_inner(), deadline);
        state
            .observe(concat!("lockstep.v1.Machines/", $name), call)
            .await
    }};
}

#[tonic::async_trait]
impl v1::machines_server::Machines for Machines {
    async fn define(
        &self,
        request: Request<v1::DefineRequest>,
    ) -> Result<Response<v1::DefineResponse>, Status> {
        call!(self, "Define", request, writes::define)
    }

    async fn list_machines(
        &self,
        request: Request<v1::ListMachinesRequest>,
    ) -> Result<Response<v1::ListMachinesResponse>, Status> {
        call!(self, "ListMachines", request, reads::list_machines)
    }

    async fn get_machine(
        &self,
        request: Request<v1::GetMachineRequest>,
    ) -> Result<Response<v1::GetMachineResponse>, Status> {
        call!(self, "GetMachine", request, reads::get_machine)
    }

    async fn draw_machine(
        &self,
        request: Request<v1::DrawMachineRequest>,
    ) -> Result<Response<v1::DrawMachineResponse>, Status> {
        call!(self, "DrawMachine", request, reads::draw_machine)
    }

    async fn delete_machine(
        &self,
        request: Request<v1::DeleteMachineRequest>,
    ) -> Result<Response<v1::DeleteMachineResponse>, Status> {
        call!(self, "DeleteMachine", request, writes::delete_machine)
    }

    async fn create_instance(
        &self,
        request: Request<v1::CreateInstanceRequest>,
    ) -> Result<Response<v1::CreateInstanceResponse>, Status> {
        call!(self, "CreateInstance", request, writes::create)
    }

    async fn get_instance(
        &self,
        request: Request<v1::GetInstanceRequest>,
    ) -> Result<Response<v1::GetInstanceResponse>, Status> {
        call!(self, "GetInstance", request, reads::get_instance)
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Result<Response<v1::ListInstancesResponse>, Status> {
        call!(self, "ListInstances", request, reads::list_instances)
    }

    async fn get_history(
        &self,
        request: Request<v1::GetHistoryRequest>,
    ) -> Result<Response<v1::GetHistoryResponse>, Status> {
        call!(self, "GetHistory", request, reads::get_history)
    }

    async fn transition(
        &self,
        request: Request<v1::TransitionRequest>,
    ) -> Result<Response<v1::TransitionResponse>, Status> {
        call!(self, "Transition", request, writes::transition)
    }

    async fn delete_instance(
        &self,
        request: Request<v1::DeleteInstanceRequest>,
    ) -> Result<Response<v1::DeleteInstanceResponse>, Status> {
        call!(self, "DeleteInstance", request, writes::delete)
    }

    async fn migrate_instance(
        &self,
        request: Request<v1::MigrateInstanceRequest>,
    ) -> Result<Response<v1::MigrateInstanceResponse>, Status> {
        call!(self, "MigrateInstance", request, writes::migrate)
    }

    async fn transact(
        &self,
        request: Request<v1::TransactRequest>,
    ) -> Result<Response<v1::TransactResponse>, Status> {
        call!(self, "Transact", request, writes::transact)
    }

    type WatchStream = watch::Stream;

    /// Counted and timed when it begins; the gauge of open watches counts it while it lasts.
    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        call!(self, "Watch", request, watch::begin)
    }
}
