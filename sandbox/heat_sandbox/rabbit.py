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

"""A RabbitMQ of the sandbox's own: as this user, on the loopback address, beside any other.

It takes the files that Debian's rabbitmq-server has installed. Where that is not installed they
are fetched with apt-get and unpacked next to the virtual environment, and run from there:
nothing is installed and no root is needed. It leaves a system-wide broker alone.
"""

import base64
import collections.abc
import dataclasses
import hashlib
import json
import os
import pathlib
import secrets
import socket

from heat_sandbox import debian

USER = "heat"


@dataclasses.dataclass(frozen=True)
class Rabbit:
    """Where its files are: the script that starts it, and its Erlang's programs."""

    script: pathlib.Path
    erlang: pathlib.Path


def find(unpacked: pathlib.Path) -> Rabbit | None:
    """Look for RabbitMQ in the system and below `unpacked`."""
    for root in (debian.SYSTEM, unpacked):
        scripts = sorted(root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"))
        erlang = root / "usr/lib/erlang/bin"
        # Not /usr/sbin/rabbitmq-server: that one refuses everybody but root and rabbitmq.
        if scripts and (erlang / "erl").exists():
            return Rabbit(scripts[-1], erlang)
    return None


def fetch(unpacked: pathlib.Path) -> Rabbit:
    """Fetch Debian's packages of RabbitMQ and Erlang, and unpack them without installing."""
    advice = "install it (as root: apt-get install rabbitmq-server) or do without"

    def amend(draft: pathlib.Path) -> None:
        # Erlang's start scripts know where they are only by heart.
        for script in ("erl", "start"):
            for path in draft.glob(f"usr/lib/erlang/**/bin/{script}"):
                text = path.read_text()
                path.write_text(text.replace("=/usr/lib/erlang", f"='{unpacked}/usr/lib/erlang'"))

    debian.fetch("rabbitmq-server", ("erlang-", "rabbitmq-server"), unpacked, advice, amend)
    found = find(unpacked)
    if not found:
        raise debian.DebianError(f"the packages in {unpacked} hold no RabbitMQ: {advice}")
    return found


def configuration(
    port: int, password: str, vhosts: collections.abc.Sequence[str], definitions: pathlib.Path
) -> dict[str, str]:
    """Give its configuration files: their names and their text.

    The user and the virtual hosts, one for each Heat, are loaded when it boots: that spares runs
    of rabbitmqctl, a second or more each.
    """
    salt = secrets.token_bytes(4)
    digest = hashlib.sha256(salt + password.encode()).digest()
    everything = {"user": USER, "configure": ".*", "write": ".*", "read": ".*"}
    wanted = {
        "users": [
            {
                "name": USER,
                "password_hash": base64.b64encode(salt + digest).decode(),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": "",
            }
        ],
        "vhosts": [{"name": vhost} for vhost in vhosts],
        "permissions": [{"vhost": vhost, **everything} for vhost in vhosts],
    }
    return {
        "rabbitmq.conf": f"listeners.tcp.1 = 127.0.0.1:{port}\nload_definitions = {definitions}\n",
        definitions.name: json.dumps(wanted, indent=2) + "\n",
        # Read instead of the system's files of these names.
        "enabled_plugins": "[].\n",
        "rabbitmq-env.conf": "",
    }


def environment(
    etc: pathlib.Path, data: pathlib.Path, log: pathlib.Path, erlang: pathlib.Path, port: int
) -> dict[str, str]:
    """Give the environment that keeps a broker to itself; it takes `port` and the two after."""
    return {
        "PATH": f"{erlang}:{os.environ.get('PATH', os.defpath)}",
        # Erlang makes its cookie there.
        "HOME": str(data),
        "ERL_EPMD_PORT": str(port + 2),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"sandbox-{port}@localhost",
        "RABBITMQ_DIST_PORT": str(port + 1),
        "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
        "RABBITMQ_PID_FILE": str(data / "pid"),
        "RABBITMQ_LOG_BASE": str(log.parent),
        "RABBITMQ_LOGS": str(log),
        "RABBITMQ_CONFIG_FILE": str(etc / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(etc / "enabled_plugins"),
        "RABBITMQ_CONF_ENV_FILE": str(etc / "rabbitmq-env.conf"),
        # One scheduler that does not spin; and nothing on an outer interface.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none "
        "-kernel inet_dist_use_interface {127,0,0,1}",
    }


def answers(port: int) -> bool:
    """Tell whether a broker speaks on the port: a hung one accepts and says nothing."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(connection.recv(1))
    except OSError:
        return False
