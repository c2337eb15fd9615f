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

"""The sandbox's virtual environment: Keystone, Heat and a WSGI server from the package index.

One environment serves any number of sandboxes. It takes whatever index pip is configured for.
Beside the packages it keeps empty databases at their newest schema, made once, because the
migrations are the longest part of a first boot.
"""

import collections.abc
import concurrent.futures
import contextlib
import fcntl
import json
import os
import pathlib
import sqlite3
import subprocess

from heat_sandbox import process
from heat_sandbox import progress

# Older Keystones have no keystone.wsgi.api; older Heats cannot run their engine on threads.
REQUIREMENTS = ("keystone>=30", "openstack-heat>=27", "cheroot")
# How many packages that was when last looked at, for the progress display only.
EXPECTED = 157


class InstallError(Exception):
    """The packages, or a database of theirs, could not be had."""


class Installation:
    """A virtual environment with the packages that are required, at `path`."""

    def __init__(
        self,
        path: pathlib.Path,
        requirements: tuple[str, ...] = REQUIREMENTS,
        what: str = "Keystone and Heat",
    ) -> None:
        self.path = path
        self._requirements = requirements
        self._what = what
        self.python = path / "bin" / "python"
        self.log = path / "install.log"
        self.stamp = path / "installed.json"

    def complete(self) -> bool:
        """Tell whether the packages we want are installed."""
        try:
            return bool(json.loads(self.stamp.read_text()) == list(self._requirements))
        except (FileNotFoundError, ValueError):
            return False

    def ensure(self, make_venv: pathlib.Path) -> None:
        """Install what is missing; `make_venv` is the script that makes an empty environment."""
        if self.complete():
            return
        with self.locked():
            if self.complete():
                return
            with progress.stage(f"Making a virtual environment in {self.path}"):
                if subprocess.run([make_venv, self.path], check=False).returncode:
                    raise InstallError("without a virtual environment there is no sandbox")
            with progress.stage(f"Installing {self._what}") as stage:
                self.pip_install(stage)
            self.stamp.write_text(json.dumps(self._requirements))

    def pip_install(self, stage: progress.Stage) -> None:
        # Without --no-compile pip spends a quarter of its time on modules nobody imports.
        command = [
            str(self.python),
            "-m",
            "pip",
            "install",
            "--no-compile",
            "--progress-bar",
            "off",
        ]
        collected = 0
        with (
            open(self.log, "w") as log,
            subprocess.Popen(
                [*command, *self._requirements],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                env=self.pip_environment(),
            ) as pip,
        ):
            assert pip.stdout is not None
            for line in pip.stdout:
                log.write(line)
                word, _, rest = line.strip().partition(" ")
                if word == "Collecting":
                    collected += 1
                    stage.detail = f"{collected} of about {EXPECTED}: {rest.split(' (')[0]}"
                elif word == "Installing":
                    stage.detail = f"unpacking {collected} packages"
        if pip.returncode:
            tail = "".join(self.log.read_text().splitlines(keepends=True)[-15:])
            raise InstallError(
                f"pip failed; its last words (all of them are in {self.log}):\n{tail}"
            )

    @staticmethod
    def pip_environment() -> dict[str, str]:
        # Unlike the processes of the sandbox, pip may well need the proxy.
        return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def run(self, script: pathlib.Path, *arguments: str | pathlib.Path, **extra: str) -> None:
        """Run a Python script inside the environment, with extra environment variables."""
        # Through the interpreter, for the first line of an installed script breaks on long paths.
        done = subprocess.run(
            [self.python, script, *arguments],
            env=process.environment(**extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise InstallError(f"{script.name} failed:\n{done.stdout[-3000:]}")

    def empty_databases(self) -> tuple[pathlib.Path, pathlib.Path]:
        """Give files to copy: empty databases of Keystone and of Heat at their newest schema."""
        with self.locked(), concurrent.futures.ThreadPoolExecutor() as pool:
            keystone = pool.submit(self.empty_database, "keystone", "keystone-manage")
            heat = pool.submit(self.empty_database, "openstack_heat", "heat-manage")
            return keystone.result(), heat.result()

    def empty_database(self, distribution: str, script: str) -> pathlib.Path:
        (info,) = self.path.glob(f"lib/python3*/site-packages/{distribution}-*.dist-info")
        # The version is in the name: after an upgrade of the package a new one is made.
        empty = self.path / "databases" / (info.name.removesuffix(".dist-info") + ".db")
        if not empty.exists():
            empty.parent.mkdir(exist_ok=True)
            draft = empty.with_suffix(".draft")
            draft.unlink(missing_ok=True)
            config = empty.with_suffix(".conf")
            config.write_text(
                f"[database]\nconnection = sqlite:///{draft}\nsqlite_synchronous = false\n"
            )
            self.run(self.path / "bin" / script, "--config-file", config, "db_sync")
            config.unlink()
            # This mode stays with the file: readers then do not wait for the writer.
            with contextlib.closing(sqlite3.connect(draft)) as database:
                database.execute("PRAGMA journal_mode=WAL")
            draft.rename(empty)
        return empty

    @contextlib.contextmanager
    def locked(self) -> collections.abc.Iterator[None]:
        """Keep two sandboxes from installing into one environment at a time."""
        # A lock on this package's own directory leaves no lock file behind.
        here = os.open(pathlib.Path(__file__).parent, os.O_RDONLY)
        try:
            fcntl.flock(here, fcntl.LOCK_EX)
            yield
        finally:
            os.close(here)
