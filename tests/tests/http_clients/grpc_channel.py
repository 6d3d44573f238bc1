"""The gRPC interface as a program in Python uses it, which knows it only by reflection.

Arguments: what to do (`use` or `wait`), and the addresses of the nodes.
"""

import sys

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

TASK, *NODES = sys.argv[1:]
TIMEOUT_SECONDS = 15


class Service:
    """A service's methods by name: each takes the fields of its request."""

    def __init__(self, channel, name):
        database = ProtoReflectionDescriptorDatabase(channel)
        self.names = set(database.get_services())
        self.channel = channel
        self.service = descriptor_pool.DescriptorPool(database).FindServiceByName(name)

    def call(self, method, options=None, **fields):
        described = self.service.methods_by_name[method]
        asked = message_factory.GetMessageClass(described.input_type)
        answered = message_factory.GetMessageClass(described.output_type)
        kind = "unary_stream" if described.server_streaming else "unary_unary"
        stub = getattr(self.channel, kind)(
            f"/{self.service.full_name}/{method}",
            request_serializer=asked.SerializeToString,
            response_deserializer=answered.FromString,
        )
        return stub(asked(**fields), **{"timeout": TIMEOUT_SECONDS, **(options or {})})


def failure(call):
    """The status of a call that fails, and the metadata that came with it."""
    try:
        call()
    except grpc.RpcError as error:
        return error, {it.key: it.value for it in error.trailing_metadata()}
    raise AssertionError("it succeeded")


def transitions(machines):
    moved = machines.call("Transition", id="triad/default", to="second")
    assert moved.transitioned.to == "second", moved
    rejected = machines.call("Transition", id="triad/default", to="first").rejected
    assert (rejected.code, list(rejected.allowed)) == ("illegal_transition", ["third"]), rejected
    # Compressed both ways; the answer of a second request with the same key is the first one's.
    zipped = {"compression": grpc.Compression.Gzip}
    fields = {"id": "triad/default", "to": "third", "idempotency_key": "k" * 100}
    for replayed in [False, True]:
        moved = machines.call("Transition", zipped, **fields)
        assert (moved.transitioned.to, moved.written.replayed) == ("third", replayed), moved


def errors(machines):
    error, metadata = failure(lambda: machines.call("GetInstance", id="triad/none"))
    assert error.code() == grpc.StatusCode.NOT_FOUND, error
    assert metadata["lockstep-code"] == "unknown_instance", metadata
    assert "triad/none" in error.details(), error.details()
    error, metadata = failure(lambda: machines.call("GetInstance", id="not an id"))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    assert "lockstep-code" in metadata, metadata
    error, _ = failure(lambda: machines.call("Define", json="x" * (16 << 20)))
    assert error.code() == grpc.StatusCode.OUT_OF_RANGE, error


def watches(machines):
    options = {"timeout": 600}
    watch = machines.call("Watch", options, machine="triad", instance="default", from_revision=1)
    seen = []
    for response in watch:
        seen += [it.to for it in response.events.events]
        if len(seen) >= 2:
            break
    watch.cancel()
    assert seen[:2] == ["second", "third"], seen
    # A watch has no end; the client's deadline ends it, and bookmarks come until then.
    watch = machines.call("Watch", {"timeout": 8}, machine="triad")
    bookmarks = []
    error, _ = failure(lambda: bookmarks.extend(watch))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert bookmarks and all(it.HasField("bookmark") for it in bookmarks), bookmarks


def use():
    for node in NODES:
        with grpc.insecure_channel(node) as channel:
            machines = Service(channel, "lockstep.v1.Machines")
            assert {"grpc.health.v1.Health", "lockstep.v1.Cluster"} <= machines.names, machines.names
            if node == NODES[0]:
                transitions(machines)
            errors(machines)
            watches(machines)
            health = Service(channel, "grpc.health.v1.Health")
            checked = health.call("Check", service="lockstep.v1.Machines")
            assert checked.status == 1, checked


def wait():
    """One node is left of three: it has no quorum, and an answer must come by the deadline."""
    with grpc.insecure_channel(NODES[0]) as channel:
        machines = Service(channel, "lockstep.v1.Machines")
        fields = {"id": "triad/default", "to": "second"}
        error, metadata = failure(lambda: machines.call("Transition", {"timeout": 2}, **fields))
        assert (error.code(), metadata.get("lockstep-code")) in [
            (grpc.StatusCode.UNAVAILABLE, "unavailable"),
            (grpc.StatusCode.DEADLINE_EXCEEDED, "outcome_unknown"),
            # On a busy machine the client gives up first.
            (grpc.StatusCode.DEADLINE_EXCEEDED, None),
        ], (error, metadata)


{"use": use, "wait": wait}[TASK]()
