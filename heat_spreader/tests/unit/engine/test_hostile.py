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

"""One project's Heat does its worst to a running engine; what becomes of the others' stacks."""

import gzip
import itertools
import time
import tracemalloc

import webob

from heat_spreader import context
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.tests import fake_heat
from heat_spreader.tests.unit.engine import test_service
from heat_spreader.tests.unit.engine import world

MIB = 1024 * 1024
BOMB = gzip.compress(b" " * 300 * MIB)


def _endless(request, proceed):
    response = webob.Response(content_type="application/json")
    response.app_iter = itertools.repeat(b" " * 65536)
    response.content_length = 10**12
    return response


def _bomb(request, proceed):
    return webob.Response(
        body=BOMB, content_type="application/json", headers={"Content-Encoding": "gzip"}
    )


NONSENSE = (
    (302, {"Location": "http://192.0.2.1/v1/stolen"}, b""),
    (200, {}, b'{"stacks": ['),
    (200, {}, b'{"stacks": {"stack": [null]}, "stack": [7]}'),
    (200, {}, b'{"stacks": [' + b"{}," * 200_000 + b"{}]}"),
    (200, {}, b"[" * 90_000),
)


def _nonsense():
    """A redirect, half a JSON, one of another shape, of very many values, very deep; and again."""
    answers = itertools.cycle(NONSENSE)

    def talk(request, proceed):
        status, headers, body = next(answers)
        return webob.Response(
            body=body, status=status, headers=headers, content_type="application/json"
        )

    return talk


def _drips():
    """A head that never ends, and a body; and again."""
    heads = itertools.cycle((b"X-Head: ", b"Content-Length: 1000000\r\n\r\n"))

    def drip(request, proceed):
        def pieces():
            yield b"HTTP/1.1 200 OK\r\n" + next(heads)
            while True:
                time.sleep(0.05)
                yield b" "

        raise fake_heat.Bytes(pieces())

    return drip


ATTACKS = {
    "an endless body": _endless,
    "a gzip bomb": _bomb,
    "nonsense": _nonsense(),
    "drips": _drips(),
}


class TestHostileHeat(test_service.ServiceTest):
    clouds = ("cloud1", "cloud2", "cloud3", "hostile")
    # Of the time that a test may take: each attack may begin with the end of the one before.
    TIMEOUT_SCALING_FACTOR = 5

    def setUp(self):
        super().setUp()
        # Whoever waited for the hostile one once would not be ready in the time that tests have.
        self.config.set("clouds", timeout=20.0)
        self.config.set("health", probe_timeout=20.0)
        self.config.set("engine", claim_lease=60.0)
        self.hostile = self.site.heats["hostile"]
        self.attacker = context.RequestContext(user_id="eve", project_id="q", overwrite=False)

    def register(self, name):
        if name != "hostile":
            return super().register(name)
        values = {"name": name, "project_id": "q", "kind": "config", "config_cloud": name}
        return db_clouds.create_cloud(self.ctx, values).id

    def attack(self, kind):
        """Whatever is asked from now on gets this answer, but every other listing."""
        listings = itertools.count()

        def spoil(request, proceed):
            listing = request.method == "GET" and request.path_info.endswith("/stacks")
            return proceed() if listing and next(listings) % 2 == 0 else kind(request, proceed)

        # Who still waits in the attack of before waits no more.
        self.hostile.fault("refuse")
        self.hostile.heal()
        self.hostile.fault(spoil)

    def hostile_stack(self, name):
        return db_stacks.create_stack(
            self.attacker,
            {
                "name": name,
                "project_id": "q",
                "user_id": "eve",
                "count": 3,
                "template": world.TEMPLATE,
                "failover_toleration": 0,
                "failback_stable": 0,
            },
            [{"cloud_id": self.ids["hostile"], "weight": "1"}],
        ).id

    def verdict(self, name):
        return db_clouds.get_cloud(self.ctx, name, None).verdict

    def life(self, name):
        """Create a stack of another project, resize it, have it fail over and come back."""
        stack = self.create_stack(name=name)
        self.until(lambda: self.units(name)[:3] == (6, 2, 2))
        db_stacks.update_stack(self.ctx, stack, values={"count": 20})
        self.until(lambda: self.units(name)[:3] == (12, 4, 4))
        self.site.heats["cloud3"].fault("refuse")
        self.until(lambda: self.units(name)[:2] == (14, 6))
        self.site.heats["cloud3"].heal()
        self.until(lambda: self.units(name)[:3] == (12, 4, 4))
        self.until(lambda: self.stack(stack).status == "ACTIVE")
        db_stacks.update_stack(self.ctx, stack, values={"action": "delete"})

    def test_it_harms_only_the_stacks_of_its_own_project(self):
        self.start()
        self.until(lambda: all(self.verdict(name) == "healthy" for name in self.clouds))
        self.life("before")
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.addCleanup(self.hostile.fault, "refuse")
        for number, (what, kind) in enumerate(ATTACKS.items()):
            self.attack(kind)
            for each in range(4):
                self.hostile_stack(f"hostile-{number}-{each}")
            asked = len(self.hostile.requests)
            self.until(lambda asked=asked: len(self.hostile.requests) > asked + 1, seconds=45)
            self.life(f"web-{number}")
            _, peak = tracemalloc.get_traced_memory()
            self.assertLess(peak, 64 * MIB, what)
