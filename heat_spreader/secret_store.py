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

"""Where the secrets of projects are kept: passwords, and secrets of application credentials.

A store turns a secret into text that may lie in the database, and back. It knows nothing of clouds;
what it is handed is never logged and is in none of its errors.
"""

import base64
import hashlib
import json
import os
import stat
from typing import Any
from typing import Protocol

from cryptography import fernet
from oslo_config import cfg

from heat_spreader import exception


class SecretStore(Protocol):
    """``owner`` is the id of the row for which a secret is kept; with another it is not given out."""

    def seal(self, owner: str, secret: str) -> str:
        """What to store in the place of the secret. :raises NoSecretStore: it cannot be kept"""

    def unseal(self, owner: str, sealed: str) -> str:
        """:raises NoSecretStore: the store is away; :raises SecretLost: it does not have the secret"""

    def discard(self, sealed: str) -> None:
        """Forget what is kept elsewhere. :raises NoSecretStore: the store is away"""

    @property
    def key_id(self) -> str:
        """Which key a new secret is sealed with; empty where keys are not ours."""


def open_store(conf: cfg.ConfigOpts) -> SecretStore:
    """The store that ``[secrets] store`` names.

    :raises StartupError: others can read the keys, or they are none
    """
    if conf.secrets.store == "castellan":
        return Castellan(conf)
    return Local(conf.secrets.key_file)


class Local:
    """Encrypts with the keys of a file, one Fernet key a line; the first one for what is new."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._keys: dict[str, fernet.Fernet] = {}
        try:
            with open(path, encoding="ascii") as file:
                mode = os.fstat(file.fileno()).st_mode
                lines = [line.strip() for line in file]
        except FileNotFoundError:
            return  # there is nothing to keep until a project brings a cloud
        except (OSError, UnicodeDecodeError) as error:
            raise exception.StartupError(
                reason=f"[secrets] key_file {path} cannot be read: {type(error).__name__}"
            ) from None
        if stat.S_IMODE(mode) & 0o037:
            raise exception.StartupError(
                reason=f"[secrets] key_file {path} has mode {stat.S_IMODE(mode):04o}; only its owner "
                "may change it and only its group may read it: 'chmod 640' or 600"
            )
        for number, line in enumerate(lines, 1):
            if not line or line.startswith("#"):
                continue
            try:
                self._keys[_key_id(line)] = fernet.Fernet(line)
            except ValueError:
                raise exception.StartupError(
                    reason=f"[secrets] key_file {path}, line {number}: this is no key; "
                    "'heat-spreader-manage credential key' adds one"
                ) from None
        if not self._keys:
            raise exception.StartupError(
                reason=f"[secrets] key_file {path} has no key; 'heat-spreader-manage credential key' "
                "adds one"
            )

    @property
    def key_id(self) -> str:
        return next(iter(self._keys), "")

    def seal(self, owner: str, secret: str) -> str:
        if not self._keys:
            raise exception.NoSecretStore(
                reason=f"there is no key file {self._path}; the operator makes it with "
                "'heat-spreader-manage credential key'"
            )
        # The row is inside: whoever may write to the database cannot give a secret to another row.
        bound = json.dumps([owner, secret]).encode()
        token = self._keys[self.key_id].encrypt(bound).decode()
        return f"v1:{self.key_id}:{token}"

    def unseal(self, owner: str, sealed: str) -> str:
        version, key_id, token = sealed.split(":", 2) if sealed.count(":") == 2 else ("", "", "")
        if version != "v1":
            raise exception.SecretLost(reason="it was kept by another kind of store")
        if key_id not in self._keys:
            raise exception.NoSecretStore(
                reason=f"key {key_id} is not in {self._path}; put it back behind the others"
            )
        try:
            whose, secret = json.loads(self._keys[key_id].decrypt(token.encode()))
        except (fernet.InvalidToken, ValueError):
            raise exception.SecretLost(reason="it was changed since it was stored") from None
        if whose != owner:
            raise exception.SecretLost(reason="it was stored for something else")
        return str(secret)

    def discard(self, sealed: str) -> None:
        pass


def _key_id(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def add_key(path: str) -> str:
    """Put a new key in front of those in the file, and give its id; makes the file if need be."""
    try:
        with open(path, encoding="ascii") as file:
            present = file.read()
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            owner = os.fstat(file.fileno())
    except FileNotFoundError:
        present, mode, owner = "", 0o600, None
    except OSError as error:
        raise exception.StartupError(reason=f"{path} cannot be read: {error.strerror}") from None
    key = fernet.Fernet.generate_key().decode()
    draft = f"{path}.draft"
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{key}\n{present}")
            file.flush()
            os.fsync(file.fileno())
            if owner is not None:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                os.fchmod(file.fileno(), mode & 0o640)
        os.rename(draft, path)
    except OSError as error:
        raise exception.StartupError(
            reason=f"{path} cannot be written: {error.strerror}"
        ) from None
    return _key_id(key)


# Seconds that Keystone or Barbican has for an answer, unless [barbican] timeout says otherwise.
BARBICAN_TIMEOUT = 10


def _key_manager(conf: cfg.ConfigOpts) -> Any:
    """castellan's own, but its Barbican would wait for an answer for ever."""
    from castellan import key_manager
    from castellan.key_manager import barbican_key_manager as barbican
    from keystoneauth1 import session

    class Barbican(barbican.BarbicanKeyManager):
        def _get_barbican_client(self, context: Any) -> Any:
            auth = self._get_keystone_auth(context)
            patient = session.Session(
                auth, verify=self._verify, timeout=self.conf.barbican.timeout or BARBICAN_TIMEOUT
            )
            return barbican.barbican_client_import.Client(
                version=self.conf.barbican.barbican_api_version,
                session=patient,
                endpoint=self._get_barbican_endpoint(auth, patient),
            )

    chosen = key_manager.API(conf)
    return Barbican(conf) if type(chosen) is barbican.BarbicanKeyManager else chosen


class Castellan:
    """Barbican or Vault has the secret, and we a reference; see ``[key_manager]`` for which and how."""

    key_id = ""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        try:
            # Only a site that wants it has to have it.
            from castellan import options
            from castellan.common import utils
        except ImportError:
            raise exception.StartupError(
                reason="[secrets] store is castellan, which is not installed: "
                "pip install 'heat-spreader[castellan]'"
            ) from None
        options.set_defaults(conf)
        self._conf = conf
        self._manager = _key_manager(conf)
        self._utils = utils

    def _ask(self, what: str, *arguments: Any) -> Any:
        from castellan.common import exception as castellan_exc

        look_at = (
            "check backend, auth_url and the user of [key_manager], "
            "and that this user has the role that the key manager asks for"
        )
        if self._conf.key_manager.backend == "vault":
            look_at = "check vault_url and what it knows us by in [vault]"
        try:
            try:
                context = self._utils.credential_factory(conf=self._conf)
            except castellan_exc.AuthTypeInvalidError:
                context = None  # Vault has its own way to know us
                if self._conf.key_manager.backend != "vault":
                    look_at = "[key_manager] auth_type is not set or not known"
            return getattr(self._manager, what)(context, *arguments)
        except castellan_exc.ManagedObjectNotFoundError:
            raise exception.SecretLost(
                reason="the key manager does not have it any more"
            ) from None
        except Exception as error:
            # Each backend raises what its own libraries do; none of it may show what we handed over.
            raise exception.NoSecretStore(
                reason=f"the key manager does not answer as it should ({type(error).__name__}); "
                f"{look_at}"
            ) from None

    def seal(self, owner: str, secret: str) -> str:
        from castellan.common.objects import opaque_data

        bound = base64.b64encode(json.dumps([owner, secret]).encode())
        name = f"heat-spreader {owner}"
        return f"castellan:{self._ask('store', opaque_data.OpaqueData(bound, name=name))}"

    def unseal(self, owner: str, sealed: str) -> str:
        whose, secret = json.loads(base64.b64decode(self._get(sealed)))
        if whose != owner:
            raise exception.SecretLost(reason="it was stored for something else")
        return str(secret)

    def discard(self, sealed: str) -> None:
        try:
            self._ask("delete", self._reference(sealed))
        except exception.SecretLost:
            pass

    def _get(self, sealed: str) -> bytes:
        return bytes(self._ask("get", self._reference(sealed)).get_encoded())

    def _reference(self, sealed: str) -> str:
        kind, _, reference = sealed.partition(":")
        if kind != "castellan":
            raise exception.SecretLost(reason="it was kept by another kind of store")
        return reference
