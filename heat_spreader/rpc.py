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

"""The message bus: a nudge that carries a stack's id, and nothing else.

The database holds what is wanted; losing a message costs one sweep interval, never correctness. So a
cast that cannot be delivered is logged and forgotten, and nobody ever waits for the broker: neither
a request of a user nor the start or the end of an engine.

Versions of the ``spreader-engine`` topic:

* 1.0: ``reconcile(stack_id)``
"""

import socket
import threading
from typing import Any
from typing import Protocol
from urllib import parse

import kombu
import kombu.exceptions
from oslo_config import cfg
from oslo_log import log
import oslo_messaging

from heat_spreader import context

LOG = log.getLogger(__name__)
TOPIC = "spreader-engine"
VERSION = "1.0"

# Seconds that a caller gives the broker. A healthy one takes a few milliseconds; one whose host has
# died or hangs would hold each cast for a minute or two, whatever retry= says.
PATIENCE = 0.5
# Casts that may hang at the same time; below rpc_conn_pool_size, as each holds a connection.
MAX_HANGING = 20


class ContextSerializer(oslo_messaging.Serializer):
    """Carries who asked and the request id; never the token."""

    def serialize_entity(self, ctx: Any, entity: Any) -> Any:
        return entity

    def deserialize_entity(self, ctx: Any, entity: Any) -> Any:
        return entity

    def serialize_context(self, ctx: context.RequestContext) -> dict[str, Any]:
        return {key: value for key, value in ctx.to_dict().items() if key != "auth_token"}

    def deserialize_context(self, ctx: dict[str, Any]) -> context.RequestContext:
        return context.RequestContext.from_dict(ctx)


def get_transport(conf: cfg.ConfigOpts, url: str | None = None) -> oslo_messaging.Transport:
    """The RPC transport of ``url``, of the option ``transport_url`` when there is none.

    Our own control exchange: the default one may exist on the broker with other settings, and a
    declaration that differs is refused for ever.
    """
    oslo_messaging.set_transport_defaults("heat_spreader")
    return oslo_messaging.get_rpc_transport(conf, url)


def out_of_reach(conf: cfg.ConfigOpts, url: str | None = None, *, timeout: float) -> str:
    """Why none of the brokers can be reached; empty where one can, or where none is named.

    :param timeout: seconds for each of them
    """
    failed = []
    for host in oslo_messaging.TransportURL.parse(conf, url).hosts:
        try:
            with socket.create_connection((host.hostname, host.port or 5672), timeout):
                return ""
        except OSError as error:
            failed.append(f"{host.hostname} ({error})")
    return ", ".join(failed)


def queue_advice(conf: cfg.ConfigOpts) -> tuple[bool, str] | None:
    """What to do about the queue that the engines listen on; None when it is as it should be.

    Asks the broker, and changes nothing there.

    :returns: whether engines cannot work until it is done, and the advice
    """
    get_transport(conf)  # registers the options
    url = oslo_messaging.TransportURL.parse(conf)
    if not url.transport.startswith("rabbit"):
        return None
    quorum = conf.oslo_messaging_rabbit.rabbit_quorum_queue
    try:
        refusal = _declare(conf, url, quorum)
    except (OSError, kombu.exceptions.OperationalError) as error:
        return (
            False,
            f"The message bus does not answer ({error}), so its queue could not be checked.",
        )
    if refusal:
        return True, (
            f"The broker has a queue '{TOPIC}' of another type than [oslo_messaging_rabbit] asks for, and "
            f"refuses ours ({refusal}). Stop the engines, delete that queue, and start them again; no "
            "message in it is needed."
        )
    if not quorum:
        return False, (
            "[oslo_messaging_rabbit] rabbit_quorum_queue is off. Classic queues are lost with their "
            "broker, and changes then wait for the next sweep."
        )
    return None


def _quoted(text: str | None) -> str:
    return parse.quote(text or "", safe="")


def _declare(conf: cfg.ConfigOpts, url: oslo_messaging.TransportURL, quorum: bool) -> str | None:
    """Declare a queue that is there already, as an engine would, and give the broker's objection."""
    rabbit = conf.oslo_messaging_rabbit
    arguments: dict[str, object] = {"x-queue-type": "quorum"} if quorum else {}
    for option, argument in (
        ("rabbit_quorum_delivery_limit", "x-delivery-limit"),
        ("rabbit_quorum_max_memory_length", "x-max-in-memory-length"),
        ("rabbit_quorum_max_memory_bytes", "x-max-in-memory-bytes"),
    ):
        if quorum and rabbit[option]:
            arguments[argument] = rabbit[option]
    urls = ";".join(
        f"amqp://{_quoted(host.username)}:{_quoted(host.password)}@{host.hostname}:{host.port or 5672}"
        f"/{_quoted(url.virtual_host) or '/'}"
        for host in url.hosts
    )
    with kombu.Connection(urls, connect_timeout=2, ssl=rabbit.ssl) as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        channel = connection.channel()
        try:
            channel.queue_declare(TOPIC, passive=True)
        except connection.channel_errors:
            return None  # there is none yet
        channel = connection.channel()
        try:
            channel.queue_declare(
                TOPIC,
                durable=quorum or rabbit.amqp_durable_queues,
                auto_delete=rabbit.amqp_auto_delete,
                arguments=arguments,
            )
        except connection.channel_errors as error:
            return str(error)
    return None


def get_server(transport: oslo_messaging.Transport, host: str, endpoint: Any) -> "Server":
    """A server that hands ``reconcile`` to ``endpoint``; any engine may get any message."""
    endpoint.target = oslo_messaging.Target(version=VERSION)
    return Server(
        oslo_messaging.get_rpc_server(
            transport,
            oslo_messaging.Target(topic=TOPIC, server=host),
            [endpoint],
            serializer=ContextSerializer(),
            access_policy=oslo_messaging.DefaultRPCAccessPolicy,
        )
    )


class Server:
    """Listens as soon as there is a broker, and waits for none.

    oslo.messaging's own start returns only when the broker has answered, and its stop only after
    that: an engine could neither sweep nor end while the broker is away.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._starting = threading.Thread(target=self._listen, name="rpc-start", daemon=True)
        self._listens = False

    def start(self) -> None:
        self._starting.start()
        self._starting.join(4 * PATIENCE)
        if self._starting.is_alive():
            LOG.warning(
                "The message bus does not answer; until it does, only sweeps find what is to be done."
            )

    def _listen(self) -> None:
        try:
            self._server.start()
            self._listens = True
        except Exception:
            LOG.exception("The message bus refuses us; only sweeps find what is to be done")

    def stop(self) -> None:
        """Take no more messages."""
        if self._listens:
            self._server.stop()

    def wait(self) -> None:
        """Return when those in hand are finished."""
        if self._listens:
            self._server.wait()


class Engines(Protocol):
    """What the API may ask of the engines, over the bus or in its own process."""

    def reconcile(self, ctx: context.RequestContext, stack_id: str) -> None:
        """Ask for a round of this stack soon; returns at once, and raises nothing."""


class EngineClient:
    """The engines beyond the message bus."""

    def __init__(self, transport: oslo_messaging.Transport) -> None:
        client = oslo_messaging.get_rpc_client(
            transport,
            oslo_messaging.Target(topic=TOPIC, version=VERSION),
            serializer=ContextSerializer(),
        )
        # retry=0: with the broker away a cast would otherwise block until it is back.
        self._client = client.prepare(retry=0)
        self._may_hang = threading.Semaphore(MAX_HANGING)

    def reconcile(self, ctx: context.RequestContext, stack_id: str) -> None:
        """Ask any engine for a round of this stack soon."""
        if not self._may_hang.acquire(blocking=False):
            self._lost(stack_id, "it has left many others unanswered")
            return
        sending = threading.Thread(
            target=self._cast, args=(ctx, stack_id), name="rpc-cast", daemon=True
        )
        sending.start()
        sending.join(PATIENCE)
        if sending.is_alive():
            self._lost(stack_id, f"no answer in {PATIENCE} s")

    def _cast(self, ctx: context.RequestContext, stack_id: str) -> None:
        try:
            self._client.cast(ctx, "reconcile", stack_id=stack_id)
        except Exception as error:
            # Not all that kombu raises is turned into oslo.messaging's own exceptions.
            self._lost(stack_id, error)
        finally:
            self._may_hang.release()

    def _lost(self, stack_id: str, why: object) -> None:
        LOG.warning(
            "The message bus did not take the nudge for stack %s (%s); the next sweep of an engine "
            "finds it.",
            stack_id,
            why,
        )


class Notifier:
    """Tells events to whoever listens, by ``[oslo_messaging_notifications]``."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._notifier = oslo_messaging.Notifier(
            oslo_messaging.get_notification_transport(conf),
            publisher_id=f"heat-spreader.{conf.host}",
            serializer=ContextSerializer(),
        )

    def tell(self, ctx: context.RequestContext, event_type: str, payload: dict[str, Any]) -> None:
        """What a broker that is away does not take is logged by the driver and lost."""
        self._notifier.info(ctx, event_type, payload)
