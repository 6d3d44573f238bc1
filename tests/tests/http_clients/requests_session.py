"""The HTTP interface as a program in Python uses it: requests, with one session.

Arguments: the URLs of a leader and of a follower.
"""

import json
import sys

import requests

LEADER, FOLLOWER = sys.argv[1:]
TIMEOUT_SECONDS = 15
OWNER = "Zoë"
LAMP = {
    "name": "lamp",
    "initial": "off",
    "states": {"off": {}, "on": {}},
    "transitions": [{"from": "off", "to": "on"}, {"from": "on", "to": "off"}],
}


class Session(requests.Session):
    """Ignores proxies of the environment, and waits for no answer forever."""

    def __init__(self):
        super().__init__()
        self.trust_env = False

    def request(self, method, url, **options):
        options.setdefault("timeout", TIMEOUT_SECONDS)
        return super().request(method, url, **options)


def check(response, status):
    assert response.status_code == status, f"{response.status_code}: {response.text}"
    return response


def problem(response, status, code):
    """The error, as RFC 9457 has it."""
    check(response, status)
    assert response.headers["Content-Type"] == "application/problem+json", response.headers
    body = response.json()
    assert (body["status"], body["code"]) == (status, code), body
    return body


def connections(session):
    """How many connections the session has made in all."""
    pools = session.get_adapter("http://").poolmanager.pools
    return sum(pools[key].num_connections for key in pools.keys())


def life_of_an_instance(session, node):
    check(session.post(f"{node}/v1/machines", json=LAMP), 201)
    lamp = {"id": "desk", "metadata": {"owner": OWNER}}
    created = check(session.post(f"{node}/v1/machines/lamp/instances", json=lamp), 201)
    lamp = requests.compat.urljoin(node, created.headers["Location"])
    assert lamp == f"{node}/v1/machines/lamp/instances/desk", lamp

    moved = check(session.post(f"{lamp}/transitions", json={"to": "on"}), 200).json()
    assert moved["transitioned"]["from"] == "off", moved
    conflict = session.post(f"{lamp}/transitions", json={"to": "on"})
    conflict = problem(conflict, 409, "illegal_transition")
    assert (conflict["current_state"], conflict["allowed"]) == ("on", ["off"]), conflict

    tag = check(session.get(lamp), 200).headers["ETag"]
    turn_off = {"json": {"to": "off"}, "headers": {"If-Match": tag}}
    check(session.post(f"{lamp}/transitions", **turn_off), 200)
    stale = problem(session.post(f"{lamp}/transitions", **turn_off), 412, "revision_mismatch")
    assert stale["current_revision"] == 2, stale
    problem(session.get(f"{node}/v1/machines/lamp/instances/none"), 404, "unknown_instance")


def slash_at_the_end(session, node):
    """The redirect keeps the method and the body."""
    moved = session.post(f"{node}/v1/machines/lamp/instances/desk/transitions/", json={"to": "on"})
    assert [it.status_code for it in check(moved, 200).history] == [308], moved.history
    listed = check(session.get(f"{node}/v1/machines/lamp/instances/?state=on"), 200)
    assert [it["id"] for it in listed.json()["instances"]] == ["lamp/desk"], listed.text


def unread_bodies(session, node):
    """Answers that are sent before the body is read, each followed by a request that must succeed."""
    for size in [10, 100_000, 1_000_000, 3_000_000]:
        body = b"x" * size
        text = {"data": body, "headers": {"Content-Type": "text/plain"}}
        refused = [
            session.post(f"{node}/nowhere", data=body),
            session.put(f"{node}/v1/machines/lamp", data=body),
            session.post(f"{node}/v1/machines/lamp/instances", **text),
            session.post(f"{node}/v1/machines/lamp/instances?unknown=1", json={"id": "x" * size}),
        ]
        for response in refused:
            assert response.status_code in (400, 404, 405, 413, 415), response.text
            check(session.post(f"{node}/counter?name=after"), 200)
            response = session.post(f"{node}/nowhere", data=iter([body]))
            assert response.status_code in (404, 413), response.text


def watch(session, node):
    """The events so far, line by line."""
    events, event = [], {}
    url = f"{node}/v1/watch?machine=lamp&from_revision=1"
    with session.get(url, stream=True) as response:
        check(response, 200)
        for line in response.iter_lines(decode_unicode=True):
            if line:
                name, value = line.split(": ", 1)
                event[name] = value
                continue
            data = json.loads(event["data"])
            if event["event"] == "created":
                assert data["metadata"] == {"owner": OWNER}, data
            if event["event"] != "bookmark":
                events.append((event["event"], data.get("to")))
            event = {}
            if len(events) == 5:
                return events


def main():
    with Session() as session:
        life_of_an_instance(session, FOLLOWER)
        slash_at_the_end(session, FOLLOWER)
        compressed = check(session.get(f"{FOLLOWER}/openapi.json"), 200)
        assert compressed.headers["Content-Encoding"] == "gzip", compressed.headers
        assert "/v1/machines" in compressed.json()["paths"]
        assert connections(session) == 1, "the connection was not kept"
        # What was written through one node can be read at once through another.
        lamp = check(session.get(f"{LEADER}/v1/machines/lamp/instances/desk"), 200).json()
        assert (lamp["state"], lamp["revision"]) == ("on", 3), lamp
    with Session() as session:
        unread_bodies(session, LEADER)
        unread_bodies(session, FOLLOWER)
    expected = [("defined", None), ("created", "off")]
    expected += [("transitioned", to) for to in ["on", "off", "on"]]
    for node in [LEADER, FOLLOWER]:
        with Session() as session:
            assert (seen := watch(session, node)) == expected, seen


main()
