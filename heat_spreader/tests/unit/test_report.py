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
"""Guru Meditation Reports: that they come when they are asked for, and what is in them."""

import os
import pathlib
import signal

import fixtures
from oslo_config import cfg
from oslotest import base

from heat_spreader import conf as spreader_conf
from heat_spreader import exception
from heat_spreader import report


class TestReport(base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.conf = cfg.CONF
        self.conf.reset()
        spreader_conf.register(self.conf)
        self.addCleanup(self.conf.clear_override, "log_dir", group="oslo_reports")
        self.conf.set_override("log_dir", str(self.directory), group="oslo_reports")
        self.addCleanup(signal.signal, signal.SIGUSR2, signal.getsignal(signal.SIGUSR2))
        self.useFixture(fixtures.MonkeyPatch(f"{report.__name__}._Report.persistent_sections", []))

    def asked(self) -> str:
        os.kill(os.getpid(), signal.SIGUSR2)
        (written,) = self.directory.iterdir()
        self.assertTrue(written.name.startswith(f"spreader-{os.getpid()}_gurumeditation_"))
        text = written.read_text()
        written.unlink()
        return text

    def test_a_signal_asks_for_one(self) -> None:
        self.conf.set_override("connection", "mysql://u:dont-tell@db/", group="database")
        self.addCleanup(self.conf.clear_override, "connection", group="database")
        report.setup(self.conf, "spreader")
        report.add_section("Engine", lambda: {"rounds": {"a": "claim 1"}, "free": 7})
        text = self.asked()
        self.assertIn("product = Heat Spreader", text)
        self.assertIn(f"version = {spreader_conf.VERSION}", text)
        # Where each thread is, this one here:
        self.assertIn("os.kill(os.getpid(), signal.SIGUSR2)", text)
        self.assertIn("connection = ***", text)
        self.assertNotIn("dont-tell", text)
        self.assertIn("free = 7", text)
        self.assertIn("a = claim 1", text)

    def test_a_section_takes_the_place_of_an_earlier_one(self) -> None:
        """As when a process is told to begin anew."""
        report.setup(self.conf, "spreader")
        report.add_section("Engine", lambda: {"free": 7})
        report.add_section("Engine", lambda: {"free": 8})
        text = self.asked()
        self.assertNotIn("free = 7", text)
        self.assertIn("free = 8", text)

    def test_under_a_wsgi_server_signals_are_left_alone(self) -> None:
        before = signal.getsignal(signal.SIGUSR2)
        report.setup(self.conf, "spreader", signals=False)
        self.assertIs(before, signal.getsignal(signal.SIGUSR2))

    def test_a_file_to_watch_that_is_not_there(self) -> None:
        self.conf.set_override(
            "file_event_handler", str(self.directory / "none"), group="oslo_reports"
        )
        self.addCleanup(self.conf.clear_override, "file_event_handler", group="oslo_reports")
        error = self.assertRaises(exception.StartupError, report.setup, self.conf, "spreader")
        self.assertIn("touching it", str(error))
