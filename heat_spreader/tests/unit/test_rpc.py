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

"""The message bus: what arrives, what never travels, and what happens when the broker is away.

In this process over ``fake://``, and over a RabbitMQ with quorum queues where the variable
SPREADER_TEST_TRANSPORT_URL names one.
"""

import datetime
import fcntl
import json
import os
import pathlib
import queue
import socket
import threading
import time
from typing import Any
from urllib import parse
import uuid

import fixtures
import kombu
import oslo_messaging
from oslotest import base

from heat_spreader import context
from heat_spreader import rpc
from heat_spreader.db import models
from heat_spreader.engine import notifications
from heat_spreader.tests import fixtures as spreader_fixtures

RABBITMQ = os.environ.get("SPREADER_TEST_TRANSPORT_URL")
REQUIRED = os.environ.get("SPREADER_TEST_REQUIRE_SERVERS")


class Endpoint:
    """Keeps what arrives.

    :ivar heard: pairs of a context and a stack's id
    """

    def __init__(self) -> None:
        self.heard: queue.Queue[tuple[context.RequestContext, str]] = queue.Queue()

    def reconcile(self, ctx: context.RequestContext, stack_id: str) -> None:
        self.heard.put((ctx, stack_id))


class BusTestCase(base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger("heat_spreader.rpc"))
        self.config = self.useFixture(spreader_fixtures.Config())
        self.servers: list[rpc.Server] = []

    def transport(self, url: str) -> Any:
        transport = rpc.get_transport(self.config.conf, url)
        self.addCleanup(transport.cleanup)
        return transport

    def serve(self, transport: Any, host: str = "here") -> Endpoint:
        endpoint = Endpoint()
        server = rpc.get_server(transport, host, endpoint)
        server.start()
        if not self.servers:
            self.addCleanup(self.stop)
        self.servers.append(server)
        return endpoint

    def stop(self) -> None:
        # At the same time: each takes a second.
        stopping = [threading.Thread(target=server.stop) for server in self.servers]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
        for server in self.servers:
            server.wait()

    def context(self, **values: Any) -> context.RequestContext:
        return context.RequestContext(
            user_id="alice", project_id="green", roles=["member"], auth_token="secret", **values
        )

    def seconds(self, client: rpc.EngineClient) -> float:
        """How long a cast holds its caller."""
        began = time.monotonic()
        client.reconcile(self.context(), "some-stack")
        return time.monotonic() - began


class Nudges:
    """What holds on every bus that works."""

    def test_a_nudge_reaches_an_engine_with_the_context_of_the_request(self):
        transport = self.bus()
        endpoint = self.serve(transport)
        sent = self.context(global_request_id=f"req-{uuid.uuid4()}")
        rpc.EngineClient(transport).reconcile(sent, "some-stack")
        ctx, stack_id = endpoint.heard.get(timeout=10)
        self.assertEqual("some-stack", stack_id)
        self.assertIsInstance(ctx, context.RequestContext)
        self.assertEqual(sent.request_id, ctx.request_id)
        self.assertEqual(sent.global_request_id, ctx.global_request_id)
        self.assertEqual(("alice", "green"), (ctx.user_id, ctx.project_id))
        self.assertEqual(["member"], ctx.roles)
        self.assertIsNone(ctx.auth_token)

    def test_one_of_several_engines_gets_it(self):
        transport = self.bus()
        endpoints = [self.serve(transport, host) for host in ("here", "there")]
        client = rpc.EngineClient(transport)
        wanted = {f"stack-{number}" for number in range(8)}
        for stack_id in wanted:
            client.reconcile(self.context(), stack_id)
        heard: list[str] = []
        end = time.monotonic() + 10
        while len(heard) < len(wanted) and time.monotonic() < end:
            for endpoint in endpoints:
                try:
                    heard.append(endpoint.heard.get(timeout=0.05)[1])
                except queue.Empty:
                    pass
        self.assertEqual(sorted(wanted), sorted(heard))
        self.assertEqual("", self.log.output)

    def test_only_reconcile_can_be_called_from_outside(self):
        transport = self.bus()
        endpoint = self.serve(transport)
        endpoint._private = endpoint.reconcile
        client = rpc.EngineClient(transport)
        client._client.cast(self.context(), "_private", stack_id="private")
        client.reconcile(self.context(), "public")
        self.assertEqual("public", endpoint.heard.get(timeout=10)[1])
        self.assertTrue(endpoint.heard.empty())

    def test_an_engine_takes_what_an_api_of_version_1_0_sends(self):
        transport = self.bus()
        endpoint = self.serve(transport)
        old = oslo_messaging.get_rpc_client(
            transport,
            oslo_messaging.Target(topic="spreader-engine", version="1.0"),
            serializer=rpc.ContextSerializer(),
        )
        old.cast(self.context(), "reconcile", stack_id="some-stack")
        ctx, stack_id = endpoint.heard.get(timeout=10)
        self.assertEqual(("alice", "some-stack"), (ctx.user_id, stack_id))

    def test_an_engine_of_version_1_0_takes_a_nudge(self):
        """A message says the version that its method came with, and not the newest."""
        transport = self.bus()
        endpoint = Endpoint()
        endpoint.target = oslo_messaging.Target(version="1.0")
        server = rpc.Server(
            oslo_messaging.get_rpc_server(
                transport,
                oslo_messaging.Target(topic="spreader-engine", server="here"),
                [endpoint],
                serializer=rpc.ContextSerializer(),
                access_policy=oslo_messaging.DefaultRPCAccessPolicy,
            )
        )
        server.start()
        self.servers.append(server)
        self.addCleanup(self.stop)
        rpc.EngineClient(transport).reconcile(self.context(), "some-stack")
        self.assertEqual("some-stack", endpoint.heard.get(timeout=10)[1])


class TestInOneProcess(Nudges, BusTestCase):
    def bus(self) -> Any:
        # A path of its own: the exchanges of fake:// outlive a test.
        return self.transport(f"fake://{uuid.uuid4().hex}/")

    def test_what_travels_holds_no_token(self):
        wire = rpc.ContextSerializer().serialize_context(self.context())
        self.assertNotIn("secret", json.dumps(wire))
        self.assertNotIn("auth_token", wire)


class TestBrokerAway(BusTestCase):
    """A user's request and an engine's start wait for no broker."""

    def closed(self) -> str:
        """The URL of a port at which nobody listens."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return f"rabbit://guest:guest@127.0.0.1:{probe.getsockname()[1]}/"

    def hanging(self) -> str:
        """The URL of a broker that takes connections and says nothing."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)

        def close() -> None:
            listener.close()
            # What they say of it belongs to this test, and not to the next one.
            for thread in threading.enumerate():
                if thread.name == "rpc-cast":
                    thread.join()

        self.addCleanup(close)
        return f"rabbit://guest:guest@127.0.0.1:{listener.getsockname()[1]}/"

    def test_a_nudge_that_nobody_takes_costs_a_warning(self):
        client = rpc.EngineClient(self.transport(self.closed()))
        self.assertLess(self.seconds(client), 1)
        self.assertIn("did not take the nudge for stack some-stack", self.log.output)
        self.assertNotIn("Traceback", self.log.output)
        self.assertNotIn("secret", self.log.output)

    def test_a_broker_that_hangs_does_not_hold_the_request(self):
        client = rpc.EngineClient(self.transport(self.hanging()))
        for _ in range(2):
            self.assertLess(self.seconds(client), 1)
        self.assertIn("did not take the nudge for stack some-stack", self.log.output)

    def test_casts_that_hang_do_not_pile_up(self):
        self.patch(rpc, "PATIENCE", 0.01)
        client = rpc.EngineClient(self.transport(self.hanging()))
        before = threading.active_count()
        for _ in range(3 * rpc.MAX_HANGING):
            self.assertLess(self.seconds(client), 1)
        self.assertLessEqual(threading.active_count() - before, rpc.MAX_HANGING)
        self.assertEqual(
            3 * rpc.MAX_HANGING, self.log.output.count("did not take the nudge for stack")
        )

    def test_an_engine_starts_and_stops_without_a_broker(self):
        self.patch(rpc, "PATIENCE", 0.05)
        for url in (self.closed(), self.hanging()):
            server = rpc.get_server(self.transport(url), "here", Endpoint())
            began = time.monotonic()
            server.start()
            server.stop()
            server.wait()
            self.assertLess(time.monotonic() - began, 5)
        self.assertIn("The message bus does not answer", self.log.output)


class TestQueueAdvice(BusTestCase):
    def test_a_bus_in_memory_has_no_queues(self):
        self.transport("fake://")
        self.config.set(transport_url="fake://")
        self.assertIsNone(rpc.queue_advice(self.config.conf))

    def test_a_broker_that_does_not_answer_stops_no_upgrade(self):
        self.transport("rabbit://127.0.0.1:1/")
        self.config.set(transport_url="rabbit://guest:secret@127.0.0.1:1/")
        needed, advice = rpc.queue_advice(self.config.conf)
        self.assertFalse(needed)
        self.assertIn("does not answer", advice)
        self.assertNotIn("secret", advice)


class Relay(fixtures.Fixture):
    """A port that leads to the broker; closed at first, and cut or frozen when a test says so.

    :ivar url: for oslo.messaging
    """

    def _setUp(self) -> None:
        whole = parse.urlsplit(RABBITMQ)
        self._broker = (whole.hostname, whole.port or 5672)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        login = whole.netloc.rpartition("@")[0]
        self.url = f"rabbit://{login}@127.0.0.1:{self._port}{whole.path}"
        self._sockets: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()
        self.addCleanup(self.close)

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._sockets.append(self._listener)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        self._flows.set()
        while self._sockets:
            end = self._sockets.pop()
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def freeze(self) -> None:
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near = listener.accept()[0]
                far = socket.create_connection(self._broker)
            except OSError:
                return
            self._sockets += [near, far]
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._flows.wait()
                sink.sendall(data)
        except OSError:
            pass
        finally:
            source.close()
            sink.close()


class TestOverRabbitMQ(Nudges, BusTestCase):
    """With quorum queues, as it is to be run in production."""

    def setUp(self) -> None:
        super().setUp()
        if not RABBITMQ:
            if REQUIRED:
                self.fail("SPREADER_TEST_TRANSPORT_URL names no RabbitMQ")
            self.skipTest("no RabbitMQ: SPREADER_TEST_TRANSPORT_URL names none")
        # There is one queue of that name on the broker, so one test at a time, in all processes.
        # Not in the directory for temporary files: each test has its own.
        lock = pathlib.Path(__file__).open()
        self.addCleanup(lock.close)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Loading the driver registers its options.
        self.transport(RABBITMQ)
        self.config.set(
            "oslo_messaging_rabbit",
            rabbit_quorum_queue=True,
            rabbit_transient_quorum_queue=True,
        )
        self.broker = kombu.Connection(RABBITMQ.replace("rabbit://", "amqp://", 1))
        self.addCleanup(self.broker.release)
        # A queue that was declared otherwise, by whomever, would be refused for ever.
        for name in (rpc.TOPIC, f"{rpc.TOPIC}.here", f"{rpc.TOPIC}.there"):
            self.broker.channel().queue_delete(name)
        for name in ("heat_spreader", f"{rpc.TOPIC}_fanout"):
            self.broker.channel().exchange_delete(name)

    def bus(self) -> Any:
        return self.transport(RABBITMQ)

    def test_what_travels_holds_no_token(self):
        transport = self.bus()
        endpoint = self.serve(transport)
        channel = self.broker.channel()
        tap = channel.queue_declare(exclusive=True).queue
        channel.queue_bind(tap, "heat_spreader", rpc.TOPIC)
        rpc.EngineClient(transport).reconcile(self.context(), "some-stack")
        endpoint.heard.get(timeout=10)
        message = channel.basic_get(tap, no_ack=True)
        self.assertIn("some-stack", str(message.body))
        self.assertNotIn("secret", str(message.body))

    def test_a_notification_arrives_as_it_is_documented(self):
        topic = f"spreader-{uuid.uuid4().hex}"
        oslo_messaging.get_notification_transport(self.config.conf, RABBITMQ)  # has the options
        self.config.set(transport_url=RABBITMQ)
        self.config.set("oslo_messaging_notifications", driver=["messagingv2"], topics=[topic])
        channel = self.broker.channel()
        # The queue is declared by whoever tells something, too: nothing is lost without a listener.
        self.addCleanup(channel.queue_delete, f"{topic}.info")
        event = models.Event(
            id=7,
            type="stack.create",
            project_id="green",
            stack_id="some-stack",
            stack_name="web",
            message="Stack 'web' is to be.",
            after={"count": 3},
            actor="alice",
            roles=["member"],
            request_id="req-1",
            created_at=datetime.datetime(2026, 11, 26, 1, 2, 3),
        )
        kind, payload = notifications.event_type(event), notifications.payload(event)
        rpc.Notifier(self.config.conf).tell(self.context(), kind, payload)
        message = channel.basic_get(f"{topic}.info", no_ack=True)
        self.assertNotIn("secret", str(message.body))
        told = json.loads(json.loads(message.body)["oslo.message"])
        self.assertEqual("spreader.stack.create.start", told["event_type"])
        self.assertEqual(f"heat-spreader.{self.config.conf.host}", told["publisher_id"])
        self.assertEqual("INFO", told["priority"])
        nothing = dict.fromkeys(
            ("cloud_id", "cloud_name", "before", "evidence", "global_request_id")
        )
        self.assertEqual(
            nothing
            | {
                "version": "1.0",
                "event_id": 7,
                "project_id": "green",
                "stack_id": "some-stack",
                "stack_name": "web",
                "message": "Stack 'web' is to be.",
                "after": {"count": 3},
                "actor": "alice",
                "roles": ["member"],
                "request_id": "req-1",
                "created_at": "2026-11-26T01:02:03Z",
            },
            told["payload"],
        )

    def test_the_queue_is_a_quorum_queue(self):
        self.serve(self.bus())
        error = self.assertRaises(
            self.broker.channel_errors,
            self.broker.channel().queue_declare,
            rpc.TOPIC,
            durable=True,
            auto_delete=False,
            arguments={"x-queue-type": "classic"},
        )
        self.assertIn("PRECONDITION_FAILED", str(error))
        self.assertIn("'quorum'", str(error))

    def test_what_an_upgrade_check_says_of_the_queue(self):
        self.config.set(transport_url=RABBITMQ)
        self.assertIsNone(rpc.queue_advice(self.config.conf), "there is none yet")
        with self.assertRaises(self.broker.channel_errors):  # nor did the check make one
            self.broker.channel().queue_declare(rpc.TOPIC, passive=True)
        self.serve(self.bus())
        self.assertIsNone(rpc.queue_advice(self.config.conf), "it is as an engine wants it")
        self.config.set("oslo_messaging_rabbit", rabbit_quorum_queue=False)
        needed, advice = rpc.queue_advice(self.config.conf)
        self.assertTrue(needed)
        self.assertIn("delete that queue", advice)

    def test_what_an_upgrade_check_says_of_classic_queues(self):
        self.config.set(transport_url=RABBITMQ)
        self.config.set("oslo_messaging_rabbit", rabbit_quorum_queue=False)
        needed, advice = rpc.queue_advice(self.config.conf)
        self.assertFalse(needed)
        self.assertIn("rabbit_quorum_queue is off", advice)

    def test_an_engine_listens_once_the_broker_is_there(self):
        relay = self.useFixture(Relay())
        endpoint = self.serve(self.transport(relay.url))
        self.assertIn("The message bus does not answer", self.log.output)
        relay.open()
        client = rpc.EngineClient(self.bus())
        self.assertIn("late", self.nudge_until_heard(client, endpoint, "late"))

    def test_a_connection_that_freezes_does_not_hold_the_request(self):
        relay = self.useFixture(Relay())
        relay.open()
        endpoint = self.serve(self.bus())
        client = rpc.EngineClient(self.transport(relay.url))
        client.reconcile(self.context(), "before")
        self.assertEqual("before", endpoint.heard.get(timeout=10)[1])
        relay.freeze()
        self.assertLess(self.seconds(client), 1)
        self.assertIn("did not take the nudge for stack some-stack", self.log.output)
        relay.thaw()
        self.assertIn("after", self.nudge_until_heard(client, endpoint, "after"))

    def test_a_connection_that_was_cut_is_made_anew(self):
        relay = self.useFixture(Relay())
        relay.open()
        endpoint = self.serve(self.bus())
        client = rpc.EngineClient(self.transport(relay.url))
        client.reconcile(self.context(), "before")
        self.assertEqual("before", endpoint.heard.get(timeout=10)[1])
        relay.close()
        self.assertLess(self.seconds(client), 1)
        relay.open()
        self.assertIn("after", self.nudge_until_heard(client, endpoint, "after"))

    def nudge_until_heard(
        self, client: rpc.EngineClient, endpoint: Endpoint, stack_id: str
    ) -> set[str]:
        """All that was heard until this was, or until it is too late."""
        heard: set[str] = set()
        end = time.monotonic() + 20
        while stack_id not in heard and time.monotonic() < end:
            client.reconcile(self.context(), stack_id)
            try:
                heard.add(endpoint.heard.get(timeout=0.2)[1])
            except queue.Empty:
                pass
        return heard
