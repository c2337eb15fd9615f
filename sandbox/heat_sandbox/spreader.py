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
"""Heat Spreader itself beside the clouds of a sandbox: installed, configured, started, asked.

It runs as one process on SQLite, with the sandbox's Keystone in front of it.
"""

import collections.abc
import hashlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import time
import typing
import urllib.error

from heat_sandbox import configfiles
from heat_sandbox import identity
from heat_sandbox import install
from heat_sandbox import process
from heat_sandbox import progress
from heat_sandbox import sandbox

Sections = collections.abc.Mapping[str, collections.abc.Mapping[str, object]]

# Short times, so that a person sees an outage from end to end. A real site keeps the defaults.
QUICK: dict[str, dict[str, object]] = {
    "health": {"probe_interval": 2, "probe_timeout": 2},
    "engine": {"sweep_interval": 0.5, "progress_interval": 0.5, "retry_interval": 3},
    "spread": {"toleration": 5, "stable": 8, "stable_ceiling": 16},
}


def surroundings(box: sandbox.Sandbox) -> Sections:
    """What the service has to be told of the sandbox: its clouds, and who asks Keystone."""
    account = box.account("spreader")
    who = {
        "auth_url": account["auth_url"],
        "auth_type": "password",
        "username": account["username"],
        "password": account["password"],
        "user_domain_id": "default",
    }
    return {
        "api": {"auth_strategy": "keystone"},
        "clouds": {"config_file": box.clouds_yaml},
        "keystone_authtoken": {
            **who,
            "www_authenticate_uri": account["auth_url"],
            "project_name": account["project"],
            "project_domain_id": "default",
            "service_token_roles_required": True,
        },
        "trustee": who,
        # Here the clouds of projects are on this machine, too.
        "tenants": {"allowed_networks": "127.0.0.1/32"},
    }


def write(conf: pathlib.Path, *parts: Sections) -> None:
    """Write a configuration file for its owner's eyes; where parts differ the last one counts."""
    sections: dict[str, dict[str, object]] = {}
    for part in parts:
        for section, options in part.items():
            sections.setdefault(section, {}).update(options)
    draft = conf.with_suffix(".draft")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(configfiles.ini(sections))
    draft.rename(conf)


class Spreader:
    """The service of a sandbox; its files lie in ``spreader/`` of the sandbox's directory."""

    def __init__(self, box: sandbox.Sandbox, bin_directory: pathlib.Path | None = None) -> None:
        """:param bin_directory: where its commands are installed; the sandbox's own otherwise"""
        self.box = box
        self.directory = box.directory / "spreader"
        self.bin = bin_directory or box.installation.path / "bin"
        self.log = self.directory / "heat-spreader.log"
        self.conf = self.directory / "heat-spreader.conf"
        self._pid = self.directory / "pid.json"

    # Installed and configured

    def install(self) -> None:
        """Install this repository into the sandbox's environment, unless it is there as it is."""
        stamp = self.box.installation.path / "spreader.stamp"
        what = f"{sandbox.TOP}[mysql,postgresql]"
        files = [
            sandbox.TOP / name for name in ("requirements.txt", "setup.cfg", "pyproject.toml")
        ]
        wanted = hashlib.sha256(
            what.encode() + b"".join(file.read_bytes() for file in files)
        ).hexdigest()
        if stamp.exists() and stamp.read_text() == wanted:
            return
        with progress.stage("Installing Heat Spreader"):
            environment = self.box.installation.pip_environment()
            if not (sandbox.TOP / ".git").exists():
                environment.setdefault("PBR_VERSION", "0.0.0")
            done = subprocess.run(
                [self.box.installation.python, "-m", "pip", "install", "-q", "-e", what],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                check=False,
            )
            if done.returncode:
                raise install.InstallError(f"pip failed:\n{done.stdout[-3000:]}")
        stamp.write_text(wanted)

    def configure(self, more: Sections = QUICK) -> None:
        """Write its configuration and migrate its database; ``more`` is added to what it needs."""
        self.directory.mkdir(exist_ok=True, mode=0o700)
        mine: Sections = {
            "DEFAULT": {"log_file": self.log, "host": "sandbox"},
            "api": {"port": self.box.settings().spreader_port},
            "database": {"connection": f"sqlite:///{self.directory / 'heat-spreader.sqlite'}"},
            "secrets": {"key_file": self.directory / "secrets.keys"},
        }
        write(self.conf, surroundings(self.box), mine, more)
        if not (self.directory / "secrets.keys").exists():
            self.command("heat-spreader-manage", "--config-file", self.conf, "credential", "key")
        self.command("heat-spreader-manage", "--config-file", self.conf, "db", "sync")

    # Started and stopped

    def start(self) -> None:
        """Start it, unless it runs; returns when it answers."""
        if process.state(self._started()) == "running":
            return
        started = process.start(
            f"{self.box.directory}/spreader",
            [self.bin / "heat-spreader", "run", "--config-file", self.conf],
            self.directory / "heat-spreader.out",
        )
        self._pid.write_text(json.dumps([started.pid, started.started_at]))
        deadline = time.monotonic() + 30
        while not self.answers():
            if process.state(started) == "dead" or time.monotonic() > deadline:
                said = (self.directory / "heat-spreader.out").read_text()[-2000:]
                raise sandbox.SandboxError(f"Heat Spreader did not start: {said}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it and its workers; returns when they are gone."""
        process.end(process.marked(f"{self.box.directory}/spreader"), patience=20)
        self._pid.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it as a crash does."""
        crashed = process.marked(f"{self.box.directory}/spreader")
        process.send(crashed, signal.SIGKILL)
        while process.alive(crashed):
            time.sleep(0.02)

    def answers(self) -> bool:
        try:
            identity.call("GET", f"{self.url}/healthcheck", timeout=2)
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return True

    def _started(self) -> process.Started | None:
        try:
            return process.Started(*json.loads(self._pid.read_text()))
        except FileNotFoundError:
            return None

    def command(self, name: str, *arguments: object) -> None:
        done = subprocess.run(
            [self.bin / name, *map(str, arguments)],
            env=process.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise sandbox.SandboxError(f"{name} failed: {done.stdout[-2000:]}")

    # Asked

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.box.settings().spreader_port}"


class Caller:
    """One user of the sandbox who asks Heat Spreader, and the Heats, over REST."""

    def __init__(
        self, box: sandbox.Sandbox, entry: str = "cloud1", url: str | None = None
    ) -> None:
        """:param url: of the service; where the catalogue says that it is otherwise"""
        self._box = box
        self.url = url or f"http://127.0.0.1:{box.settings().spreader_port}"
        account = box.account(entry)
        self._keystone = identity.Keystone(
            account["auth_url"],
            account["username"],
            account["password"],
            account["project"],
            account["domain"],
        )
        self.project_id = self._keystone.project_id

    def call(
        self, method: str, path: str, body: object = None, timeout: float = 20
    ) -> dict[str, typing.Any]:
        """Ask the service. :raises urllib.error.HTTPError: it refused"""
        return identity.call(method, self.url + path, self._keystone.token, body, timeout)[0]

    def stack(self, name: str) -> dict[str, typing.Any] | None:
        """One stack; None when there is none of that name."""
        try:
            return self.call("GET", f"/v1/stacks/{name}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def in_heat(self, cloud: sandbox.Cloud, name: str, parameter: str = "count") -> int | None:
        """The count that a Heat itself shows; None when it has no such Heat stack."""
        url = f"{cloud.heat.url}/v1/{self.project_id}/stacks/{name}?resolve_outputs=False"
        try:
            # Topology "separate": this caller's token is of another Keystone, so ask as its own.
            account = self._box.account(cloud.name)
            keystone = identity.Keystone(
                account["auth_url"], account["username"], account["password"], account["project"]
            )
            url = url.replace(self.project_id, keystone.project_id)
            found, _ = identity.call("GET", url, keystone.token)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise
        return int(found["stack"]["parameters"][parameter])
