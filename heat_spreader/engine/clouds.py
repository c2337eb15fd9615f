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

"""Connections to clouds: one authenticated session for each, and for each entry of clouds.yaml.

Reads clouds.yaml, again whenever it changes. Makes sure that no request can last for ever, follow a
redirect, hold an answer without end, or go where clouds of projects may not be. Knows nothing of Heat
beyond its service type.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import copy
import dataclasses
import datetime
import hashlib
import http.client
import io
import os
import pathlib
import socket
import tempfile
import threading
import time
import typing

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import session as ksa_session
from keystoneauth1.identity import v3
from openstack import exceptions as sdk_exceptions
from openstack.config import cloud_region
from openstack.config import loader
from oslo_log import log
import requests
import requests.adapters
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions
import urllib3.util.connection
import yaml

from heat_spreader.db import models
from heat_spreader.engine import heat
from heat_spreader.engine.core import values

LOG = log.getLogger(__name__)

# The largest answer that is read, and the most that is held of the answers of one cloud together, in
# bytes: a page of 500 Heat stacks takes about 300 kB. As text in Python it may take eight times as much.
LARGEST_ANSWER = 4 * 1024 * 1024
MOST_AT_ONCE = 2 * LARGEST_ANSWER
# Bytes that are unpacked at a time. Up to 2.5, urllib3 unpacks all that it has read, to a thousand times as much.
PIECE = 4096
# The most values in an answer, since each takes a hundred bytes when it is read: such a page has 12 000.
MOST_VALUES = 100_000


@dataclasses.dataclass(frozen=True)
class Reach:
    """How a cloud is reached that is not in clouds.yaml.

    :ivar plugin: authenticates us there
    :ivar permits: whether an address may be connected to; None: all
    :ivar advice: what its owner can do when it refuses us
    """

    plugin: typing.Any
    cacert: str | None = None
    insecure: bool = False
    timeout: float | None = None
    permits: Callable[[str], bool] | None = None
    advice: str = ""


class Connection(adapter.Adapter):
    """An adapter for the Heat of one cloud.

    :ivar where: its credentials are to be found
    :ivar advice: see ``Reach``
    """

    where = "in clouds.yaml"
    advice = ""


def password_plugin(settings: Mapping[str, typing.Any], secret: str) -> typing.Any:
    """For a cloud of the kind ``password``."""
    return v3.Password(**settings, password=secret)


def application_credential_plugin(settings: Mapping[str, typing.Any], secret: str) -> typing.Any:
    """For a cloud of the kind ``application_credential``."""
    return v3.ApplicationCredential(**settings, application_credential_secret=secret)


class Clouds:
    """All clouds that are registered or in clouds.yaml; safe to share between threads.

    :param paths: where clouds.yaml may be, the first that exists is read; empty: the places where
        every OpenStack client looks
    :param timeout: seconds without a sign of life until a request is given up; the entry's own
        ``api_timeout`` wins
    :param pool_size: connections kept open to a cloud; fewer than the threads that use it at once
        means reconnecting all the time
    :param transport: makes the transport adapter of a session; tests pass one without sockets
    :param reach: gives how a registered cloud is reached that is not in clouds.yaml
    """

    def __init__(
        self,
        paths: Sequence[str] = (),
        *,
        timeout: float = 10.0,
        pool_size: int = 16,
        transport: Callable[[], requests.adapters.BaseAdapter] | None = None,
        reach: Callable[[models.Cloud], Reach] | None = None,
    ) -> None:
        self._paths = [os.path.expanduser(path) for path in paths or loader.CONFIG_FILES]
        self._timeout = timeout
        self._transport = transport
        self._pool_size = pool_size
        self._reach = reach
        self._lock = threading.Lock()  # guards what follows; never held during a request
        self._file: _File | None = None
        self._complained_about: object = None
        self._connections: dict[tuple[str, str | None], tuple[object, Connection]] = {}
        self._registered: dict[str, tuple[object, Connection]] = {}
        self._cas: tempfile.TemporaryDirectory[str] | None = None

    def names(self) -> list[str]:
        """The entries of clouds.yaml, in its order."""
        with self._lock:
            return list(self._read().entries)

    def connect(self, config_cloud: str, region: str | None = None) -> adapter.Adapter:
        """The connection for one entry, authenticated: an adapter for its Heat.

        :param region: instead of the entry's own region
        :raises heat.HeatError: REFUSING for what is wrong in clouds.yaml, UNREACHABLE when Keystone
            does not answer
        """
        connection = self._entry(config_cloud, region)
        heat.authenticate(connection)
        return connection

    def _entry(self, config_cloud: str, region: str | None) -> Connection:
        with self._lock:
            file = self._read()
            if config_cloud not in file.entries:
                raise heat.HeatError(
                    values.Outcome.REFUSING,
                    f"clouds.yaml at {file.path} has no entry '{config_cloud}'; "
                    f"it has: {', '.join(file.entries) or 'none'}",
                )
            entry, connection = self._connections.get((config_cloud, region), (None, None))
            if connection is None or entry != file.entries[config_cloud]:
                connection = self._build(file, config_cloud, region)
                self._connections[config_cloud, region] = (
                    file.entries[config_cloud],
                    connection,
                )
        return connection

    def reach(self, cloud: models.Cloud) -> adapter.Adapter:
        """The connection for a registered cloud, authenticated: an adapter for its Heat.

        :raises heat.HeatError: REFUSING for what its owner or the operator has to put right,
            UNREACHABLE when Keystone does not answer
        """
        connection = self._connection(cloud)
        heat.authenticate(connection)
        return connection

    def log_in(self, cloud: models.Cloud) -> None:
        """Get a token for a registered cloud, unless there is one. :raises heat.HeatError: as ``reach``"""
        heat.log_in(self._connection(cloud))

    def _connection(self, cloud: models.Cloud) -> Connection:
        if cloud.kind == "config":
            return self._entry(cloud.config_cloud or cloud.name, cloud.region)
        stamp = cloud.credential_id, cloud.region
        with self._lock:
            known, connection = self._registered.get(cloud.id, (None, None))
        if connection is None or known != stamp:
            # Not under the lock: it asks the database. Of two at once the first stays.
            if self._reach is None:
                raise heat.HeatError(
                    values.Outcome.REFUSING, "This engine has no access to credentials of projects"
                )
            made = self._to(cloud, self._reach(cloud))
            with self._lock:
                known, connection = self._registered.get(cloud.id, (None, None))
                if connection is None or known != stamp:
                    connection = made
                    self._registered[cloud.id] = stamp, made
        return connection

    def _to(self, cloud: models.Cloud, reach: Reach) -> Connection:
        verify: bool | str = not reach.insecure
        if reach.cacert and not reach.insecure:
            verify = self._ca_file(reach.cacert)
        session = self._session(
            reach.plugin, verify, None, reach.timeout or self._timeout, reach.permits
        )
        connection = Connection(
            session,
            service_type="orchestration",
            interface="public",
            region_name=cloud.region,
        )
        connection.where = "registered for this cloud"
        connection.advice = reach.advice
        return connection

    def expiry(self, cloud: models.Cloud) -> datetime.datetime | None:
        """When an application credential ends, in naive UTC; None: never, or nobody tells.

        :raises heat.HeatError: as ``reach``
        """
        connection = self.reach(cloud)
        plugin: typing.Any = connection.session.auth
        try:
            user = plugin.get_user_id(connection.session)
            own = plugin.auth_methods[0].application_credential_id
            answer = connection.session.get(
                f"{plugin.auth_url.rstrip('/')}/users/{user}/application_credentials/{own}",
                endpoint_override=plugin.auth_url,
                log=False,
            )
            text = answer.json()["application_credential"]["expires_at"]
            moment = datetime.datetime.fromisoformat(text)
        except Exception:
            # Some Keystones do not tell an application credential of itself; then nobody knows.
            return None
        if moment.tzinfo is not None:
            moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
        return moment

    def _ca_file(self, text: str) -> str:
        """The libraries take the certificates of an authority from a file only."""
        with self._lock:
            if self._cas is None:
                self._cas = tempfile.TemporaryDirectory(prefix="heat-spreader-ca-")
            file = pathlib.Path(self._cas.name) / hashlib.sha256(text.encode()).hexdigest()
            if not file.exists():
                file.write_text(text)
            return str(file)

    def _session(
        self,
        plugin: typing.Any,
        verify: bool | str | None,
        cert: typing.Any,
        timeout: float,
        permits: Callable[[str], bool] | None = None,
    ) -> "_Session":
        session = _Session(
            auth=plugin,
            verify=verify,
            cert=cert,
            timeout=timeout,
            redirect=False,
            app_name="heat-spreader",
        )
        # Neither a proxy nor a netrc of whoever started us; looking for them costs a fifth of
        # each request too.
        session.session.trust_env = False
        for scheme in ("http://", "https://"):
            session.session.mount(
                scheme,
                self._transport()
                if self._transport
                else _Transport(pool_maxsize=self._pool_size, permits=permits),
            )
        return session

    def forget(self, config_cloud: str | None = None) -> None:
        """Connect anew next time, from a clouds.yaml read anew; None: all clouds."""
        with self._lock:
            self._file = None
            for key in list(self._connections):
                if config_cloud in (None, key[0]):
                    del self._connections[key]

    def keep(self, cloud_ids: Collection[str]) -> None:
        """Forget the connections of clouds that are registered no more, and with them their secrets."""
        with self._lock:
            for cloud_id in self._registered.keys() - set(cloud_ids):
                del self._registered[cloud_id]

    def _read(self) -> "_File":
        """clouds.yaml as it is now. While it is broken, as it was before."""
        try:
            path, signature = _look(self._paths)
            if self._file is None or self._file.signature != signature:
                self._file = _File(path, signature)
        except _Unusable as exc:
            if self._file is None:
                raise heat.HeatError(values.Outcome.REFUSING, str(exc)) from exc
            if self._complained_about != str(exc):
                LOG.error("%s; what it said before stays in force", exc)
                self._complained_about = str(exc)
        else:
            self._complained_about = None
        return self._file

    def _build(self, file: "_File", config_cloud: str, region: str | None) -> Connection:
        try:
            config = file.region(config_cloud, region)
            verify, cert = config.get_requests_verify_args()
            session = self._session(
                config.get_auth(),
                verify,
                cert,
                config.config.get("api_timeout") or self._timeout,
            )
            # A plain adapter, without a version to discover: the catalog is asked anew with each
            # token, so an endpoint may move.
            return Connection(
                session,
                service_type=config.get_service_type("orchestration"),
                service_name=config.get_service_name("orchestration"),
                interface=config.get_interface("orchestration"),
                region_name=region or config.get_region_name("orchestration"),
                endpoint_override=config.get_endpoint("orchestration"),
            )
        except Exception as exc:
            # The SDK raises many kinds of exceptions for what can be wrong with an entry.
            raise heat.HeatError(
                values.Outcome.REFUSING,
                f"Entry '{config_cloud}' of clouds.yaml at {file.path} cannot be used: "
                f"{heat.one_line(exc)}",
            ) from exc


# -- clouds.yaml -----------------------------------------------------------------------------------


class _Unusable(Exception):
    """There is no clouds.yaml, or none that can be read."""


def _look(paths: Sequence[str]) -> tuple[str, object]:
    """The path of clouds.yaml, and something that changes whenever it or its secrets change."""
    for path in paths:
        if os.path.exists(path):
            return path, [_signature(path), _signature(_secure(path))]
    raise _Unusable(f"There is no clouds.yaml; looked for {', '.join(paths)}")


def _signature(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _secure(path: str) -> str:
    """secure.yaml beside clouds.yaml, where operators keep the passwords."""
    directory, name = os.path.split(path)
    return os.path.join(directory, name.replace("clouds", "secure", 1))


class _File:
    """One state of clouds.yaml, with the secrets from beside it merged in."""

    def __init__(self, path: str, signature: object) -> None:
        self.path = path
        self.signature = signature
        try:
            # The SDK logs and skips a file that it cannot read; an operator wants to be told.
            with open(path, encoding="utf-8") as file:
                content = yaml.safe_load(file)
            if not isinstance(content, dict) or not isinstance(content.get("clouds"), dict):
                raise ValueError("it has no mapping 'clouds'")
            # Not from the environment: an engine must not act as whoever happened to start it.
            secure = _secure(path)
            self._config = loader.OpenStackConfig(
                config_files=[path],
                secure_files=[secure] if secure != path else [],
                load_envvars=False,
                app_name="heat-spreader",
            )
        except Exception as exc:
            why = heat.one_line(exc)
            raise _Unusable(f"clouds.yaml at {path} cannot be read: {why}") from exc
        self.entries: dict[str, object] = {
            name: copy.deepcopy(self._config.cloud_config["clouds"][name])
            for name in content["clouds"]
            if isinstance(name, str)
        }

    def region(self, config_cloud: str, region: str | None) -> cloud_region.CloudRegion:
        entry = self.entries[config_cloud]
        if not isinstance(entry, dict) or not isinstance(entry.get("auth", {}), dict):
            raise ValueError("neither the entry nor its 'auth' may be anything but a mapping")
        if "://" in str(entry.get("profile") or entry.get("cloud")):
            raise ValueError("a profile from the network is not read: it could keep us waiting")
        try:
            return self._config.get_one(config_cloud, region_name=region)
        except sdk_exceptions.ConfigException:
            # The entry lists its regions and ours is not among them. The catalog has the last word.
            if region is None:
                raise
            return self._config.get_one(config_cloud)


# -- What keeps a cloud from holding us up ---------------------------------------------------------


class _Session(ksa_session.Session):
    """A session in which threads that wait for a token together fail together.

    keystoneauth lets one thread at a time ask Keystone. With a Keystone that hangs, the tenth
    thread would wait for ten timeouts.
    """

    def __init__(self, **kwargs: typing.Any) -> None:
        super().__init__(**kwargs)
        self._token_lock = threading.RLock()
        self._asking = False
        self._failure: tuple[float, Exception] | None = None

    def get_auth_headers(self, *args: typing.Any, **kwargs: typing.Any) -> typing.Any:
        return self._together(super().get_auth_headers, *args, **kwargs)

    def get_endpoint(self, *args: typing.Any, **kwargs: typing.Any) -> typing.Any:
        return self._together(super().get_endpoint, *args, **kwargs)

    def _together(
        self, ask: Callable[..., typing.Any], *args: typing.Any, **kwargs: typing.Any
    ) -> typing.Any:
        came = time.monotonic()
        with self._token_lock:
            if self._asking:
                # Asked from within: Keystone's version document answers 401, and keystoneauth would
                # wait for ever for the token that it is getting.
                raise ksa_exceptions.AuthorizationFailure("Keystone wants a token to give a token")
            if self._failure and self._failure[0] >= came:
                raise self._failure[1]
            self._asking = True
            try:
                answer = ask(*args, **kwargs)
            except Exception as exc:
                self._failure = time.monotonic(), exc
                raise
            finally:
                self._asking = False
            self._failure = None
            return answer


class _Transport(ksa_session.TCPKeepAliveAdapter):
    """Reads the whole answer within the timeout and within limits of size.

    The timeout of the libraries is for one read of the socket, so a server that sends a byte now
    and then could hold a thread for ever, and one that sends without end all memory. One transport
    is for one cloud.
    """

    def __init__(
        self, *, permits: Callable[[str], bool] | None = None, **kwargs: typing.Any
    ) -> None:
        """:param permits: whether an address may be connected to; None: all"""
        self._permits = permits
        self._lock = threading.Lock()
        self._held = 0  # bytes of bodies that are being read
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self._permits)

    def send(  # type: ignore[override]
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: typing.Any = None,
        **kwargs: typing.Any,
    ) -> requests.Response:
        response = super().send(request, stream=True, timeout=timeout, **kwargs)
        try:
            response._content = self._body(response)
        except BaseException:
            response.close()  # the rest of the body must not be taken for the next answer
            raise
        response._content_consumed = True
        return response

    def _body(self, response: requests.Response) -> bytes:
        body = bytearray()
        try:
            while chunk := response.raw.read1(PIECE, decode_content=True):
                body += chunk
                self._hold(len(chunk))
                if len(body) > LARGEST_ANSWER or self._held > MOST_AT_ONCE:
                    raise _too_much(response, f"the answer is larger than {LARGEST_ANSWER} bytes")
            if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
                raise _too_much(response, f"the answer holds more than {MOST_VALUES} values")
            return bytes(body)
        except urllib3.exceptions.ReadTimeoutError as exc:
            raise requests.exceptions.ReadTimeout(exc, request=response.request) from exc
        except urllib3.exceptions.DecodeError as exc:
            raise requests.exceptions.ContentDecodingError(exc, request=response.request) from exc
        except urllib3.exceptions.HTTPError as exc:
            raise requests.exceptions.ConnectionError(exc, request=response.request) from exc
        finally:
            self._hold(-len(body))

    def _hold(self, size: int) -> None:
        with self._lock:
            self._held += size


def _too_much(response: requests.Response, what: str) -> Exception:
    return requests.exceptions.RequestException(what, request=response.request)


class _Timely(http.client.HTTPResponse):
    """An answer that is here within the timeout of its request from the first byte to the last."""

    def __init__(self, sock: socket.socket, *args: typing.Any, **kwargs: typing.Any) -> None:
        super().__init__(sock, *args, **kwargs)
        timeout = sock.gettimeout()
        if timeout is not None:
            self.fp = io.BufferedReader(_Until(time.monotonic() + timeout, sock, self.fp.detach()))


class _Until(io.RawIOBase):
    """What comes from a socket before a moment of the monotonic clock.

    It is asked at every read, of a head as well as of a body: also one header a minute, or "100
    Continue" again and again, ends.
    """

    def __init__(self, deadline: float, sock: socket.socket, source: io.RawIOBase) -> None:
        self._deadline = deadline
        self._socket = sock
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: typing.Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)
        return self._source.readinto(buffer)

    def close(self) -> None:
        self._source.close()
        super().close()


def _pools(permits: Callable[[str], bool] | None) -> dict[str, typing.Any]:
    """Connection pools that ask about the very address before they knock at it.

    To resolve a name first and to connect to the name later would be two questions, and whoever owns
    the name may answer them differently.

    :param permits: whether an address may be connected to; None: all
    """

    class Plain(urllib3.connection.HTTPConnection):
        response_class = _Timely

        def _new_conn(self) -> socket.socket:
            return connect(self) if permits else super()._new_conn()

    class Encrypted(urllib3.connection.HTTPSConnection):
        response_class = _Timely

        def _new_conn(self) -> socket.socket:
            return connect(self) if permits else super()._new_conn()

    class PlainPool(urllib3.connectionpool.HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(urllib3.connectionpool.HTTPSConnectionPool):
        ConnectionCls = Encrypted

    def connect(connection: urllib3.connection.HTTPConnection) -> socket.socket:
        host, port = connection._dns_host, connection.port
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            raise urllib3.exceptions.NameResolutionError(
                connection.host,
                connection,
                exc,  # type: ignore[arg-type]
            ) from exc
        addresses = [str(entry[4][0]) for entry in found]
        refused = [address for address in addresses if permits and not permits(address)]
        if refused or not addresses:
            raise heat.HeatError(
                values.Outcome.REFUSING,
                f"{heat.one_line(connection.host, 100)} is in a network in which this service does "
                "not let clouds of projects be",
            )
        failure: Exception | None = None
        for address in addresses:
            try:
                return urllib3.util.connection.create_connection(
                    (address, port),
                    connection.timeout,
                    source_address=connection.source_address,
                    socket_options=connection.socket_options,
                )
            except TimeoutError as exc:
                failure = urllib3.exceptions.ConnectTimeoutError(
                    connection, f"Connection to {connection.host} timed out"
                )
                failure.__cause__ = exc
            except OSError as exc:
                failure = urllib3.exceptions.NewConnectionError(connection, str(exc))
                failure.__cause__ = exc
        assert failure is not None  # noqa: S101 - there was an address at least
        raise failure

    return {"http": PlainPool, "https": EncryptedPool}
