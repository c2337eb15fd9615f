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

"""Reads every import of the tree and fails on an arrow that the architecture does not have.

The layers, what each may know, and which module alone may touch a library are the three tables
below; the contributor guide draws the same picture. Nothing is imported here, only parsed, so an
import inside a function or under ``TYPE_CHECKING`` counts like any other.
"""

import ast
from collections.abc import Iterator
import functools
import pathlib
import sys
import textwrap

from oslotest import base

TOP = pathlib.Path(__file__).resolve().parents[3]

# What everybody but the core may know: settings, the request, errors, rules.
LEAVES = [f"heat_spreader.{leaf}" for leaf in ("conf", "context", "exception", "policies")]

# What acts for projects: their secrets, their trusts, and where their clouds may be.
TENANTS = [f"heat_spreader.{module}" for module in ("addresses", "secret_store", "trusts")]

# layer -> what of our own it may import. A module belongs to the longest layer that its name
# begins with, and everything below a name in the list is allowed too.
ARROWS = {
    "heat_spreader": [],
    # The options of a trustee are those of a plugin.
    "heat_spreader.conf": ["heat_spreader.trusts", *LEAVES],
    "heat_spreader.context": LEAVES,
    "heat_spreader.exception": [],
    "heat_spreader.policies": LEAVES,
    "heat_spreader.report": LEAVES,
    "heat_spreader.rpc": LEAVES,
    "heat_spreader.addresses": LEAVES,
    "heat_spreader.secret_store": LEAVES,
    "heat_spreader.trusts": LEAVES,
    "heat_spreader.db": ["heat_spreader.db", *LEAVES],
    "heat_spreader.engine.core": ["heat_spreader.engine.core"],
    "heat_spreader.engine": [
        "heat_spreader.engine",
        "heat_spreader.db",
        "heat_spreader.report",
        "heat_spreader.rpc",
        *TENANTS,
        *LEAVES,
    ],
    "heat_spreader.api": [
        "heat_spreader.api",
        "heat_spreader.db",
        "heat_spreader.rpc",
        "heat_spreader.engine.core",
        *TENANTS,
        *LEAVES,
    ],
    "heat_spreader.wsgi": ["heat_spreader.api", "heat_spreader.report", *LEAVES],
    # The commands put the parts together: the schema for `manage`, both halves for `run`.
    "heat_spreader.cmd": [
        "heat_spreader.cmd",
        "heat_spreader.api",
        "heat_spreader.engine",
        "heat_spreader.db",
        "heat_spreader.report",
        "heat_spreader.rpc",
        *TENANTS,
        *LEAVES,
    ],
    "spreaderclient": ["spreaderclient"],
}

# library, or a part of one -> the only ones that may import it; the longest name counts
OWNERS = {
    "openstack": ["heat_spreader.engine.heat", "heat_spreader.engine.clouds", "spreaderclient"],
    "keystoneauth1": [
        "heat_spreader.engine.heat",
        "heat_spreader.engine.clouds",
        "heat_spreader.trusts",
        "spreaderclient",
    ],
    # For a Barbican, which castellan would wait for without an end.
    "keystoneauth1.session": [
        "heat_spreader.engine.clouds",
        "heat_spreader.secret_store",
        "heat_spreader.trusts",
    ],
    "sqlalchemy": ["heat_spreader.db", "heat_spreader.context"],
    "alembic": ["heat_spreader.db"],
    "oslo_db": ["heat_spreader.db", "heat_spreader.context"],
    # To register its options, or to name the error that ends a command, touches no data.
    "oslo_db.exception": ["heat_spreader.db", "heat_spreader.cmd"],
    "oslo_db.options": ["heat_spreader.conf"],
    "oslo_messaging": ["heat_spreader.rpc"],
    "oslo_reports": ["heat_spreader.report"],
    "oslo_reports.opts": ["heat_spreader.conf"],
    "prometheus_client": ["heat_spreader.engine.metrics"],
    "kombu": ["heat_spreader.rpc"],
    "cryptography": ["heat_spreader.secret_store"],
    "castellan": ["heat_spreader.secret_store"],
}

# layer -> the only libraries besides the standard one that it may import
LIBRARIES = {
    "heat_spreader.engine.core": [],
    # keystoneauth is openstacksdk's HTTP, and cliff what osc-lib's commands are made of. Templates
    # are YAML.
    "spreaderclient": ["cliff", "keystoneauth1", "openstack", "osc_lib", "yaml"],
}

# What makes a function give two answers to one question, or reach outside.
IMPURE_MODULES = """asyncio builtins concurrent ctypes getpass http importlib inspect io locale logging
    multiprocessing os pathlib platform queue random sched secrets select selectors shutil signal
    socket socketserver sqlite3 ssl subprocess sys tempfile threading time urllib uuid warnings
    """.split()
IMPURE_CALLS = {"now", "utcnow", "today"}
IMPURE_BUILTINS = {"__import__", "eval", "exec", "input", "open", "print"}

# Names that say nothing: what is in such a module belongs beside its user.
VAGUE_NAMES = {"base", "common", "constants", "helpers", "manager", "objects", "util", "utils"}


def within(name: str, prefixes: list[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def nearest(name: str, table: dict[str, list[str]]) -> str | None:
    """The longest key of the table that the name is, or is below."""
    return max((key for key in table if within(name, [key])), key=len, default=None)


@functools.cache
def read_tree() -> dict[str, ast.Module]:
    """Every module of the two packages by its dotted name, the tests left out."""
    tree = {}
    for package in ("heat_spreader", "spreaderclient"):
        for path in sorted((TOP / package).rglob("*.py")):
            parts = path.relative_to(TOP).with_suffix("").parts
            if parts[:2] == ("heat_spreader", "tests"):
                continue
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            tree[name] = ast.parse(path.read_text(), str(path))
    return tree


def imports(module: str, source: ast.Module, modules: set[str]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of each import; ``from a import b`` is a.b, or a when b is in our module a."""
    package = (
        module if any(m.startswith(module + ".") for m in modules) else module.rpartition(".")[0]
    )
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                parents = package.split(".")
                start = ".".join([*parents[: len(parents) - node.level + 1], *start.split(".")])
                start = start.rstrip(".")
            for alias in node.names:
                whole = f"{start}.{alias.name}"
                ours = start.partition(".")[0] in {"heat_spreader", "spreaderclient"}
                yield node.lineno, start if ours and whole not in modules else whole


def violations(tree: dict[str, ast.Module]) -> list[str]:
    found = []
    modules = set(tree)
    ours = {name.partition(".")[0] for name in ARROWS}
    for module, source in tree.items():
        home = nearest(module, ARROWS)
        libraries = LIBRARIES.get(nearest(module, LIBRARIES) or "")
        for line, name in imports(module, source, modules):
            top = name.partition(".")[0]
            where = f"{module}:{line} imports {name}"
            if home is None:
                found.append(f"{module} is in no layer")
            elif top in ours:
                if not within(name, ARROWS[home]):
                    found.append(f"{where}: {home} may not")
            elif (owned := nearest(name, OWNERS)) and not within(module, OWNERS[owned]):
                found.append(f"{where}: only {', '.join(OWNERS[owned])} may")
            elif libraries is not None and top not in (*libraries, *sys.stdlib_module_names):
                found.append(f"{where}: neither ours nor the standard library")
            elif home == "heat_spreader.engine.core" and top in IMPURE_MODULES:
                found.append(f"{where}: the core has no clock, chance, log or outside world")
        if home == "heat_spreader.engine.core":
            found.extend(impure_calls(module, source))
    return found


def impure_calls(module: str, source: ast.Module) -> Iterator[str]:
    for node in ast.walk(source):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr in IMPURE_CALLS:
                yield f"{module}:{node.lineno} asks for the time: {ast.unparse(called)}"
            elif isinstance(called, ast.Name) and called.id in IMPURE_BUILTINS:
                yield f"{module}:{node.lineno} calls {called.id}"


class TestLayering(base.BaseTestCase):
    def test_every_import_follows_an_arrow(self):
        self.assertEqual([], violations(read_tree()))

    def test_the_whole_tree_was_read(self):
        tree = list(read_tree())
        for package in ARROWS:
            self.assertIn(package, tree)
        for module in ("heat_spreader.db.api", "heat_spreader.engine.core.allocation"):
            self.assertIn(module, tree)

    def test_no_module_has_a_name_that_says_nothing(self):
        vague = [name for name in read_tree() if VAGUE_NAMES & set(name.split("."))]
        self.assertEqual([], vague)


class TestTheReader(base.BaseTestCase):
    """The rules above are worth something only when a breach of each is seen."""

    def seen(self, module: str, source: str) -> list[str]:
        # The real tree around it, so that ``from package import module`` is understood.
        return violations(
            {
                **dict.fromkeys(read_tree(), ast.parse("")),
                module: ast.parse(textwrap.dedent(source)),
            }
        )

    def test_a_forbidden_import_is_seen(self):
        for module, source in [
            ("heat_spreader.api.stacks", "from heat_spreader.engine import heat"),
            ("heat_spreader.api.stacks", "import heat_spreader.engine.reconcile"),
            ("heat_spreader.api.stacks", "from ..engine import reconcile"),
            ("heat_spreader.api.stacks", "def f():\n    import sqlalchemy"),
            ("heat_spreader.db.api", "from heat_spreader.engine.core import values"),
            ("heat_spreader.db.api", "from heat_spreader import rpc"),
            ("heat_spreader.cmd.run", "from oslo_db.sqlalchemy import enginefacade"),
            ("heat_spreader.conf", "import oslo_db"),
            ("heat_spreader.engine.reconcile", "import openstack"),
            ("heat_spreader.engine.reconcile", "from keystoneauth1 import exceptions"),
            ("heat_spreader.engine.reconcile", "from heat_spreader.api import app"),
            ("heat_spreader.engine.service", "import oslo_messaging as messaging"),
            ("heat_spreader.engine.core.plan", "from heat_spreader import exception"),
            ("heat_spreader.engine.core.plan", "from oslo_utils import timeutils"),
            ("heat_spreader.engine.core.health", "import time"),
            ("heat_spreader.engine.core.health", "from random import choice"),
            ("heat_spreader.engine.core.health", "import logging"),
            ("heat_spreader.engine.core.health", "import datetime\ndatetime.datetime.now()"),
            ("heat_spreader.engine.core.health", "print(1)"),
            ("heat_spreader.wsgi.api", "from heat_spreader.engine import service"),
            ("heat_spreader.conf", "from heat_spreader.db import api"),
            ("spreaderclient.osc.stack", "from heat_spreader import exception"),
            ("spreaderclient.osc.stack", "import requests"),
        ]:
            self.assertEqual(1, len(self.seen(module, source)), f"{module}: {source}")

    def test_an_allowed_import_is_let_through(self):
        for module, source in [
            ("heat_spreader.api.stacks", "from heat_spreader.db import api as db_api"),
            ("heat_spreader.api.stacks", "from heat_spreader.engine.core import values"),
            ("heat_spreader.engine.clouds", "import openstack"),
            ("heat_spreader.engine.reconcile", "from heat_spreader.engine.core import plan"),
            ("heat_spreader.engine.core.plan", "import datetime\nfrom . import values"),
            ("heat_spreader.rpc", "import oslo_messaging"),
            ("spreaderclient.osc.stack", "from osc_lib.command import command\nimport json"),
        ]:
            self.assertEqual([], self.seen(module, source), f"{module}: {source}")
