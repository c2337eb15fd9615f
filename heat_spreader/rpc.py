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
