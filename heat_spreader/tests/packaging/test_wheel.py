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

"""What a user installs: a wheel built from an export without git, complete and able to start.

pbr finds files through git when there is one; a tarball has none, and then a forgotten package or
data file goes missing without a word. So the wheel is built, listed, installed and used here. Needs
pip and a package index, and so is no part of the unit tests.
"""

import configparser
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

from alembic import script
from oslotest import base

TOP = pathlib.Path(__file__).resolve().parents[3]

LOAD_EVERY_ENTRY_POINT = """
import importlib.metadata
import heat_spreader.wsgi  # chooses the threading backend before anything else can choose another
for point in importlib.metadata.distribution("heat-spreader").entry_points:
    point.load()
    print(point.group, point.name)
"""


def run(*command: object, **kwargs: object) -> str:
    """What the command says on standard output."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **kwargs
    )
    if done.returncode != 0:
        raise AssertionError(
            f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        )
    return done.stdout


def export(target: pathlib.Path) -> None:
    """The files that a commit of this tree would hold, and no .git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TOP,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (TOP / name).is_file():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(TOP / name, target / name)
    else:
        # Not a checkout, but an export already.
        ignore = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist")
        shutil.copytree(TOP, target, ignore=ignore, dirs_exist_ok=True)


class TestWheel(base.BaseTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="heat-spreader-wheel-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        cls.source = cls.directory / "source"
        cls.source.mkdir()
        export(cls.source)
        run(
            *(sys.executable, "-m", "pip", "wheel", "--no-deps"),
            *("--wheel-dir", cls.directory, cls.source),
            env={**os.environ, "PBR_VERSION": "1.2.3"},
            cwd=cls.directory,
        )
        (cls.wheel,) = cls.directory.glob("*.whl")

    def wanted_entry_points(self) -> set[tuple[str, str]]:
        config = configparser.ConfigParser(delimiters=["="], interpolation=None)
        config.optionxform = str
        config.read(self.source / "setup.cfg")
        return {
            (group, line.partition("=")[0].strip())
            for group, lines in config["entry_points"].items()
            for line in lines.strip().splitlines()
        }

    def test_every_file_of_the_packages_is_in_it(self):
        wanted = {
            str(path.relative_to(self.source))
            for package in ("heat_spreader", "spreaderclient")
            for path in (self.source / package).rglob("*")
            if path.is_file()
        }
        with zipfile.ZipFile(self.wheel) as archive:
            packed = set(archive.namelist())
        self.assertEqual(set(), wanted - packed)
        # Guards against an export that lost them too.
        for name in ("alembic.ini", "migrations/env.py", "migrations/script.py.mako"):
            self.assertIn(f"heat_spreader/db/{name}", packed)
        self.assertTrue(
            any(name.startswith("heat_spreader/db/migrations/versions/0") for name in packed)
        )

    def test_every_entry_point_is_in_it(self):
        config = configparser.ConfigParser(delimiters=["="], interpolation=None)
        config.optionxform = str
        with zipfile.ZipFile(self.wheel) as archive:
            (name,) = [n for n in archive.namelist() if n.endswith("/entry_points.txt")]
            config.read_string(archive.read(name).decode())
        packed = {(group, name) for group in config.sections() for name in config[group]}
        self.assertEqual(self.wanted_entry_points(), packed)
        self.assertIn(("console_scripts", "heat-spreader"), packed)

    def test_it_runs_in_a_clean_environment(self):
        environment = self.directory / "environment"
        run(TOP / "tools" / "venv", environment)
        run(environment / "bin" / "python", "-m", "pip", "install", self.wheel)

        # In an empty directory: nothing of the source tree may help.
        elsewhere = self.directory / "elsewhere"
        elsewhere.mkdir()
        loaded = run(
            environment / "bin" / "python",
            "-W",
            "ignore",
            "-c",
            LOAD_EVERY_ENTRY_POINT,
            cwd=elsewhere,
        )
        lines = loaded.splitlines()
        for group, name in self.wanted_entry_points():
            self.assertIn(f"{group} {name}", lines)

        (elsewhere / "heat-spreader.conf").write_text(
            f"[database]\nconnection = sqlite:///{elsewhere}/spreader.db\n"
        )
        manage = [
            environment / "bin" / "heat-spreader-manage",
            "--config-file",
            "heat-spreader.conf",
        ]
        run(*manage, "db", "sync", cwd=elsewhere)
        head = script.ScriptDirectory(
            str(self.source / "heat_spreader/db/migrations")
        ).get_current_head()
        self.assertEqual(head, run(*manage, "db", "version", cwd=elsewhere).strip())
        self.assertTrue((elsewhere / "spreader.db").exists())
