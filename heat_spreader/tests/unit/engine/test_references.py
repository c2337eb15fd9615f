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
"""When a host trusts what it sees: real sockets on loopback, and nobody who listens."""

import http.server
import socket
import threading

from oslotest import base

from heat_spreader import rpc
from heat_spreader.engine import references
from heat_spreader.tests import fixtures as spreader_fixtures


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        self.send_error(404)

    def log_message(self, *args):
        pass


class ReferencesTest(base.BaseTestCase):
    def listen(self):
        """A server that knows no page, and its URL."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.asked = 0
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server, f"http://127.0.0.1:{server.server_address[1]}/"

    def nobody(self):
        """An address at which nobody listens, as long as nobody asks for a port."""
        held = socket.socket()
        self.addCleanup(held.close)
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}/"

    def doubt(self, *urls, bus="", every=0.0):
        return references.References(urls, lambda: bus, timeout=2.0, every=every).doubt()

    def test_none_are_named(self):
        self.assertEqual("", self.doubt())

    def test_any_answer_will_do(self):
        _, url = self.listen()
        self.assertEqual("", self.doubt(url))
        self.assertEqual("", self.doubt(self.nobody(), url))

    def test_none_answers(self):
        one, other = self.nobody(), self.nobody()
        doubt = self.doubt(one, other)
        for url in (one, other):
            self.assertIn(f"{url} (ConnectionError)", doubt)

    def test_the_bus(self):
        _, url = self.listen()
        self.assertIn("message bus: mq1 (no route)", self.doubt(url, bus="mq1 (no route)"))

    def test_many_clouds_cost_one_question(self):
        server, url = self.listen()
        seldom = references.References([url], str, timeout=2.0, every=60.0)
        often = references.References([url], str, timeout=2.0, every=0.0)
        for _ in range(3):
            self.assertEqual("", seldom.doubt())
        self.assertEqual(1, server.asked)
        for _ in range(3):
            self.assertEqual("", often.doubt())
        self.assertEqual(4, server.asked)


class TestBus(ReferencesTest):
    def setUp(self):
        super().setUp()
        self.conf = self.useFixture(spreader_fixtures.Config()).conf

    def bus(self, url):
        return rpc.out_of_reach(self.conf, url, timeout=2.0)

    def test_a_bus_without_a_broker(self):
        self.assertEqual("", self.bus("fake://"))

    def test_one_broker_of_several_is_enough(self):
        _, up = self.listen()
        up, down = (url.split("//")[1].strip("/") for url in (up, self.nobody()))
        self.assertEqual("", self.bus(f"rabbit://u:p@{down},u:p@{up}/"))
        why = self.bus(f"rabbit://u:p@{down}/")
        self.assertTrue(why.startswith("127.0.0.1 ("), why)
        self.assertNotIn("u:p", why)
