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

"""``auth_strategy = http_basic``: users and bcrypt hashes in a file, for sites without a Keystone.

Knows passwords for as long as it takes to check them; what it remembers of them is of no use to
anybody else. Everybody in the file is an administrator of the one project "local".

This is not oslo.middleware's, although that reads the same files: by the time it takes one learns who
exists, it answers whatever fails behind it with 401, and each request costs a processor a quarter of
a second.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import threading
import time
from typing import Any

import bcrypt
from oslo_log import log

from heat_spreader import exception
from heat_spreader.api import hooks

LOG = log.getLogger(__name__)

# bcrypt takes a quarter of a second on purpose, which is for whoever guesses and not for each request.
REMEMBER = 300.0
MOST_REMEMBERED = 1000
# What is compared when there is no such user, so that the time does not tell who exists.
NOBODY = bcrypt.hashpw(secrets.token_bytes(16), bcrypt.gensalt(12))


class HttpBasic:
    """Middleware: lets in who knows a password, and says in the headers of Keystone who it is."""

    def __init__(self, app: Any, path: str, *, most: int = 2) -> None:
        """
        :param most: passwords checked at the same time: each takes a processor for itself
        :raises StartupError: the file cannot be read, or others may read it
        """
        self.app = app
        self._path = path
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._checking = threading.Semaphore(most)
        self._stamp: object = None
        self._hashes: dict[str, bytes] = {}
        self._known: dict[bytes, float] = {}
        self._read()
        if self._stamp is None:
            raise exception.StartupError(
                reason=f"[api] http_basic_auth_user_file {path} cannot be read; make it with "
                "'htpasswd -B -c'"
            )
        if os.stat(path).st_mode & 0o007:
            raise exception.StartupError(
                reason=f"{path} can be read or changed by everybody on this machine; 'chmod 640' it"
            )

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        user = self._user(environ.get("HTTP_AUTHORIZATION", ""))
        forget_claims(environ)
        if user is None:
            response = hooks.error_response(
                environ, 401, "A user name and a password are needed (HTTP Basic)."
            )
            response.headers["WWW-Authenticate"] = 'Basic realm="Heat Spreader", charset="UTF-8"'
            return response(environ, start_response)
        # Nobody behind this has any use for the password.
        environ.pop("HTTP_AUTHORIZATION", None)
        environ.update(identity(user))
        return self.app(environ, start_response)

    def _user(self, header: str) -> str | None:
        kind, _, encoded = header.partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            user, colon, password = (
                base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
            )
        except (binascii.Error, ValueError):
            return None
        if not colon:
            return None
        self._read()
        known = self._hashes.get(user)
        mark = hmac.digest(self._key, (known or b"") + encoded.encode(), hashlib.sha256)
        with self._lock:
            if self._known.get(mark, 0.0) > time.monotonic():
                return user
        if not self._is_right(password, known):
            return None
        with self._lock:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[mark] = time.monotonic() + REMEMBER
        return user

    def _is_right(self, password: str, known: bytes | None) -> bool:
        with self._checking:
            try:
                right = bcrypt.checkpw(password.encode(), known or NOBODY)
            except ValueError:  # a password that bcrypt cannot take, or a hash that is none
                return False
        return right and known is not None

    def _read(self) -> None:
        """Read the file again when it has changed; while it cannot be read, what it said holds."""
        try:
            status = os.stat(self._path)
            stamp = status.st_mtime_ns, status.st_size, status.st_ino
            if stamp == self._stamp:
                return
            with open(self._path, encoding="utf-8") as file:
                lines = [line.strip() for line in file]
        except (OSError, UnicodeDecodeError) as error:
            LOG.error(
                "%s cannot be read (%s); what it said before stays in force", self._path, error
            )
            return
        hashes = {}
        for number, line in enumerate(lines, 1):
            if not line or line.startswith("#"):
                continue
            user, _, hashed = line.partition(":")
            if not user or not hashed.startswith(("$2a$", "$2b$", "$2y$")):
                LOG.error("%s, line %d: not a user and a bcrypt hash; ignored", self._path, number)
                continue
            hashes[user] = hashed.encode()
        self._hashes, self._stamp = hashes, stamp


def identity(user: str) -> dict[str, str]:
    """What the rest of the service looks at to know who asks."""
    return {
        "HTTP_X_IDENTITY_STATUS": "Confirmed",
        "HTTP_X_USER_ID": user,
        "HTTP_X_PROJECT_ID": "local",
        "HTTP_X_ROLES": "admin,member,reader",
    }


def forget_claims(environ: dict[str, Any]) -> None:
    """Take out of a request what the caller says of itself in the headers that we believe."""
    for name in list(environ):
        if name.startswith("HTTP_X_") or name == "HTTP_OPENSTACK_SYSTEM_SCOPE":
            del environ[name]
