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

"""Database servers of the sandbox's own: a MariaDB or a PostgreSQL, as this user, on 127.0.0.1.

They take the programs that Debian's packages have installed. Where these are not installed they are
fetched and unpacked beside the virtual environment; a server of the system is left alone.
"""

import collections.abc
import dataclasses
import os
import pathlib
import subprocess

from heat_sandbox import debian

USER = "spreader"


@dataclasses.dataclass(frozen=True)
class Server:
    """One database server; what differs between the two kinds is in the classes below.

    :ivar root: the directory with `usr` in which its programs are
    :ivar data: its own files; made by `prepare`
    """

    root: pathlib.Path
    data: pathlib.Path
    port: int
    password: str

    def environment(self) -> dict[str, str]:
        """What its programs need to find their libraries when they are not installed."""
        if self.root == debian.SYSTEM:
            return {}
        libraries = [str(path) for path in self.root.glob("usr/lib/*-linux-gnu*")]
        return {"LD_LIBRARY_PATH": ":".join(libraries)}

    def _answers(self, command: collections.abc.Sequence[object], **extra: str) -> bool:
        try:
            done = subprocess.run(
                [str(part) for part in command],
                env=os.environ | self.environment() | extra,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=5,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


class MariaDB(Server):
    package = "mariadb-server"
    prefixes = ("mariadb-", "libmariadb")

    @staticmethod
    def find(root: pathlib.Path) -> bool:
        return (root / "usr/sbin/mariadbd").exists()

    @property
    def url(self) -> str:
        return f"mysql+pymysql://{USER}:{self.password}@127.0.0.1:{self.port}/spreader"

    def prepare(self) -> None:
        self.data.mkdir(parents=True)
        debian.run(
            [self.root / "usr/bin/mariadb-install-db", "--no-defaults", f"--user={_user()}",
             f"--basedir={self.root / 'usr'}", f"--datadir={self.data}", "--skip-test-db",
             "--auth-root-authentication-method=normal"],
            "mariadb-install-db failed",
            **self.environment(),
        )  # fmt: skip
        # Its root has no password, and only the socket, which is in a directory that is nobody
        # else's, leads to it.
        (self.data / "start.sql").write_text(
            "DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> 'localhost';\n"
            "FLUSH PRIVILEGES;\n"
            "CREATE DATABASE IF NOT EXISTS spreader;\n"
            f"CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'127.0.0.1';\n"
        )

    def command(self) -> list[object]:
        return [
            self.root / "usr/sbin/mariadbd", "--no-defaults", f"--user={_user()}",
            f"--basedir={self.root / 'usr'}", f"--datadir={self.data}",
            "--bind-address=127.0.0.1", f"--port={self.port}", "--skip-name-resolve",
            "--socket=socket", "--pid-file=pid", f"--init-file={self.data / 'start.sql'}",
            # What is committed outlives the process, though not the machine.
            "--innodb-flush-log-at-trx-commit=2",
        ]  # fmt: skip

    def answers(self) -> bool:
        """Tell whether it takes statements."""
        client = [self.root / "usr/bin/mariadb", "--no-defaults", "--host=127.0.0.1"]
        return self._answers(
            [*client, f"--port={self.port}", f"--user={USER}", "--connect-timeout=2",
             "--execute=SELECT 1", "spreader"],
            MYSQL_PWD=self.password,
        )  # fmt: skip


class PostgreSQL(Server):
    package = "postgresql"
    prefixes = ("postgresql", "libpq")

    @staticmethod
    def find(root: pathlib.Path) -> bool:
        return any(root.glob("usr/lib/postgresql/*/bin/postgres"))

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://{USER}:{self.password}@127.0.0.1:{self.port}/postgres"

    def _program(self, name: str) -> list[object]:
        found = sorted(self.root.glob(f"usr/lib/postgresql/*/bin/{name}"))[-1]
        if os.geteuid():
            return [found]
        # It refuses to run as root: let it believe that it is somebody else.
        return ["unshare", "--user", "--map-user=65534", "--map-group=65534", found]

    def prepare(self) -> None:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        password = self.data.with_name("password")
        password.write_text(self.password)
        debian.run(
            [*map(str, self._program("initdb")), f"--pgdata={self.data}", f"--username={USER}",
             f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale",
             "--no-sync"],
            "initdb failed (as root it needs user namespaces; try as another user)",
            **self.environment(),
        )  # fmt: skip
        password.unlink()

    def command(self) -> list[object]:
        return [
            *self._program("postgres"), "-D", self.data, "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
            "-c", "timezone=UTC",
            # What is committed outlives the process, though not the machine.
            "-c", "fsync=off",
        ]  # fmt: skip

    def answers(self) -> bool:
        """Tell whether it takes statements."""
        (client, *_) = sorted(self.root.glob("usr/lib/postgresql/*/bin/psql"), reverse=True)
        return self._answers(
            [client, "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", "postgres",
             "-c", "SELECT 1"],
            PGPASSWORD=self.password,
            PGCONNECT_TIMEOUT="2",
        )  # fmt: skip


KINDS = {"mariadb": MariaDB, "postgresql": PostgreSQL}


def find(kind: str, unpacked: pathlib.Path) -> pathlib.Path:
    """Give the directory with its `usr`: the system's, or one below `unpacked`, fetched if need be."""
    wanted = KINDS[kind]
    own = unpacked / kind
    for root in (debian.SYSTEM, own):
        if wanted.find(root):
            return root
    advice = f"install it (as root: apt-get install {wanted.package}) or choose another database"
    debian.fetch(wanted.package, wanted.prefixes, own, advice)
    if not wanted.find(own):
        raise debian.DebianError(f"the packages in {own} hold no {kind}: {advice}")
    return own


def _user() -> str:
    # Asked to run as root, MariaDB wants to hear it said.
    return "root" if not os.geteuid() else str(os.geteuid())
