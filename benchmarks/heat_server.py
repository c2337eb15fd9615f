#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.


"""A Heat with its own Keystone in one process, fast enough not to be what is measured.

It speaks what the engine needs, with a latency on each answer and a duration of each piece of work
that are set when it is started. It does not check what it is asked: the fake of the tests does that.
``/control`` tells what came, and when.
"""

import argparse
import asyncio
import collections
import json
import signal
import time
import typing
import urllib.parse

PROJECT = "5f0c5a9d8a9f4b6d9d6d1f0e0c7b3a21"
TAG = "heat-spreader"
CREATED = "2026-01-01T00:00:00Z"


class Stack:
    """A Heat stack and, until it changes, how it looks in a listing."""

    def __init__(self, id: str, name: str, count: int, tags: list[str], status: str) -> None:
        self.id = id
        self.name = name
        self.count = count
        self.tags = tags
        self.status = status
        self.updated: str | None = None
        self.row = b""

    def show(self) -> dict[str, typing.Any]:
        return {
            "id": self.id,
            "links": [{"rel": "self", "href": f"http://heat/v1/{PROJECT}/stacks/{self.id}"}],
            "stack_name": self.name,
            "description": "A group of things without a server behind them",
            "stack_status": self.status,
            "stack_status_reason": "Stack " + self.status.replace("_", " ").lower(),
            "creation_time": CREATED,
            "updated_time": self.updated,
            "deletion_time": None,
            "stack_owner": None,
            "parent": None,
            "stack_user_project_id": PROJECT,
            "tags": self.tags,
        }


class Heat:
    """The Heat stacks of one cloud."""

    def __init__(self, work: float) -> None:
        self.work = work
        self.stacks: dict[str, Stack] = {}
        self.order: list[str] = []  # newest first
        self.places: dict[str, int] = {}
        self.asked: collections.Counter[str] = collections.Counter()
        self.changed: list[tuple[float, str]] = []  # when a PATCH came, and for which Heat stack
        self.accepted: list[float] = []  # when the answer to a PATCH left

    def load(self, stacks: list[dict[str, typing.Any]]) -> None:
        self.stacks = {
            s["id"]: Stack(s["id"], s["name"], s["count"], [TAG, *s["tags"]], "CREATE_COMPLETE")
            for s in stacks
        }
        self._reorder()

    def _reorder(self) -> None:
        self.order = list(reversed(self.stacks))
        self.places = {id: place for place, id in enumerate(self.order)}

    def list(self, query: dict[str, str]) -> bytes:
        start = self.places.get(query.get("marker", ""), -1) + 1
        end = start + int(query.get("limit", "1000000"))
        rows = []
        for id in self.order[start:end]:
            stack = self.stacks[id]
            if not stack.row:
                stack.row = json.dumps(stack.show()).encode()
            rows.append(stack.row)
        return b'{"stacks": [' + b", ".join(rows) + b"]}"

    def show(self, stack: Stack) -> bytes:
        parameters = {"OS::stack_name": stack.name, "count": str(stack.count)}
        return json.dumps({"stack": stack.show() | {"parameters": parameters}}).encode()

    def create(self, body: dict[str, typing.Any]) -> Stack:
        id = f"{len(self.stacks):08x}-0000-4000-8000-{time.time_ns():x}"[:36]
        tags = [tag for tag in body.get("tags", "").split(",") if tag]
        count = int(body["parameters"]["count"])
        stack = self.stacks[id] = Stack(id, body["stack_name"], count, tags, "")
        self._reorder()
        self._begin(stack, "CREATE")
        return stack

    def update(self, stack: Stack, body: dict[str, typing.Any]) -> None:
        self.changed.append((time.time(), stack.id))
        stack.count = int(body["parameters"]["count"])
        stack.updated = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._begin(stack, "UPDATE")

    def delete(self, stack: Stack) -> None:
        del self.stacks[stack.id]
        self._reorder()

    def _begin(self, stack: Stack, action: str) -> None:
        self._become(stack, f"{action}_IN_PROGRESS")
        if self.work:
            loop = asyncio.get_running_loop()
            loop.call_later(self.work, self._become, stack, f"{action}_COMPLETE")
        else:
            self._become(stack, f"{action}_COMPLETE")

    def _become(self, stack: Stack, status: str) -> None:
        stack.status = status
        stack.row = b""


class Answer(typing.NamedTuple):
    status: str
    body: bytes = b""
    kind: str = "application/json"
    more: str = ""


class Connection(asyncio.Protocol):
    """One client: requests one after the other, each answered after the latency."""

    def __init__(self, heat: Heat, latency: float, row_latency: float) -> None:
        self.heat = heat
        self.latency = latency
        self.row_latency = row_latency
        self.received = b""

    def connection_made(self, transport: typing.Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, rest = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        length = 0
        lowered = head.lower()
        if (at := lowered.find(b"content-length:")) >= 0:
            length = int(lowered[at + 15 :].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        self.received = b""
        method, target, _ = head.split(b" ", 2)
        path, _, query = target.decode().partition("?")
        delay = 0.0 if path.startswith("/control") else self.latency
        answer = self.answer(method.decode(), path, dict(urllib.parse.parse_qsl(query)), rest)
        if self.row_latency and path.endswith("/stacks"):
            delay += self.row_latency * answer.body.count(b'"stack_name"')
        answered = [method == b"PATCH" and answer.status.startswith("202")]
        if delay:
            asyncio.get_running_loop().call_later(delay, self.send, answer, *answered)
        else:
            self.send(answer, *answered)

    def send(self, answer: Answer, accepted: bool) -> None:
        if accepted:
            self.heat.accepted.append(time.time())
        self.transport.write(
            f"HTTP/1.1 {answer.status}\r\nContent-Type: {answer.kind}\r\n"
            f"Content-Length: {len(answer.body)}\r\n{answer.more}\r\n".encode()
            + answer.body
        )

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        heat = self.heat
        if path == "/control":
            return self.control(method, body)
        parts = path.strip("/").split("/")
        if parts[0] == "v3" or not parts[0]:
            return self.keystone(method, parts)
        heat.asked[method] += 1
        names = parts[3:]
        if not names:
            if method == "GET":
                return Answer("200 OK", heat.list(query))
            stack = heat.create(json.loads(body))
            return Answer("201 Created", json.dumps({"stack": {"id": stack.id}}).encode())
        if len(names) == 1:
            for stack in heat.stacks.values():
                if names[0] in (stack.name, stack.id):
                    there = f"/v1/{PROJECT}/stacks/{stack.name}/{stack.id}"
                    return Answer("302 Found", more=f"Location: {there}\r\n")
        found = heat.stacks.get(names[-1])
        if found is None:
            error = {"type": "EntityNotFound", "message": "The Stack could not be found."}
            return Answer("404 Not Found", json.dumps({"error": error}).encode())
        if method == "GET":
            return Answer("200 OK", heat.show(found))
        if method == "DELETE":
            heat.delete(found)
            return Answer("204 No Content")
        heat.update(found, json.loads(body))
        return Answer("202 Accepted", b"<html></html>", "text/html")

    def keystone(self, method: str, parts: list[str]) -> Answer:
        host, port = self.transport.get_extra_info("sockname")
        here = f"http://{host}:{port}"
        version = {
            "id": "v3.14",
            "status": "stable",
            "updated": "2020-04-07T00:00:00Z",
            "links": [{"rel": "self", "href": f"{here}/v3/"}],
        }
        if method == "GET":
            if parts[0] == "v3":
                return Answer("200 OK", json.dumps({"version": version}).encode())
            document = {"versions": {"values": [version]}}
            return Answer("300 Multiple Choices", json.dumps(document).encode())
        token = {
            "methods": ["password"],
            "user": {"id": "u", "name": "demo", "domain": {"id": "default", "name": "Default"}},
            "project": {
                "id": PROJECT,
                "name": "demo",
                "domain": {"id": "default", "name": "Default"},
            },
            "roles": [{"id": "r", "name": "member"}],
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "catalog": [
                {
                    "id": name,
                    "type": kind,
                    "name": name,
                    "endpoints": [
                        {
                            "id": name,
                            "interface": "public",
                            "region": "RegionOne",
                            "region_id": "RegionOne",
                            "url": url,
                        }
                    ],
                }
                for kind, name, url in (
                    ("identity", "keystone", f"{here}/v3"),
                    ("orchestration", "heat", f"{here}/v1/{PROJECT}"),
                )
            ],
        }
        body = json.dumps({"token": token}).encode()
        return Answer("201 Created", body, more="X-Subject-Token: a-token\r\n")

    def control(self, method: str, body: bytes) -> Answer:
        """POST: the Heat stacks to begin with. GET: what happened since then."""
        heat = self.heat
        if method == "POST":
            heat.load(json.loads(body))
            heat.asked.clear()
            heat.changed, heat.accepted = [], []
            return Answer("204 No Content")
        told = {"asked": heat.asked, "changed": heat.changed, "accepted": heat.accepted}
        return Answer("200 OK", json.dumps(told).encode())


async def serve(port: int, latency: float, row_latency: float, work: float) -> None:
    heat = Heat(work)
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Connection(heat, latency, row_latency), "127.0.0.1", port)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A fast fake of a Heat and its Keystone.")
    parser.add_argument("port", type=int)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument(
        "--row-latency", type=float, default=0.0, help="seconds more for each row of a listing"
    )
    parser.add_argument(
        "--work", type=float, default=0.0, help="seconds from accepting a change to its end"
    )
    given = parser.parse_args()
    asyncio.run(serve(given.port, given.latency, given.row_latency, given.work))


if __name__ == "__main__":
    main()
