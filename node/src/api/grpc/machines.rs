//! `lockstep.v1.Machines`: what each call does is in [`reads`], [`writes`], [`transitions`] and [`watch`].

use super::{calls, reads, transitions, watch, writes};

calls! {
    "lockstep.v1.Machines", machines_server::Machines for Machines {
        define "Define": DefineRequest => DefineResponse = writes::define;
        list_machines "ListMachines": ListMachinesRequest => ListMachinesResponse = reads::list_machines;
        get_machine "GetMachine": GetMachineRequest => GetMachineResponse = reads::get_machine;
        draw_machine "DrawMachine": DrawMachineRequest => DrawMachineResponse = reads::draw_machine;
        delete_machine "DeleteMachine": DeleteMachineRequest => DeleteMachineResponse = writes::delete_machine;
        create_instance "CreateInstance": CreateInstanceRequest => CreateInstanceResponse = writes::create;
        get_instance "GetInstance": GetInstanceRequest => GetInstanceResponse = reads::get_instance;
        list_instances "ListInstances": ListInstancesRequest => ListInstancesResponse = reads::list_instances;
        get_history "GetHistory": GetHistoryRequest => GetHistoryResponse = reads::get_history;
        transition "Transition": TransitionRequest => TransitionResponse = writes::transition;
        delete_instance "DeleteInstance": DeleteInstanceRequest => DeleteInstanceResponse = writes::delete;
        migrate_instance "MigrateInstance": MigrateInstanceRequest => MigrateInstanceResponse = writes::migrate;
        transact "Transact": TransactRequest => TransactResponse = writes::transact;
    }
    // Both are counted and timed when they begin; the gauge of open watches counts it while it lasts.
    stream WatchStream: watch "Watch": WatchRequest => watch::Stream = watch::begin;
    exchange TransitionStreamStream: transition_stream "TransitionStream": TransitionStreamRequest
        => transitions::Results = transitions::begin;
}
