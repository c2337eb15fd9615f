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

"""Guru Meditation Reports: what a process is at, told when an operator asks it.

A report shows all threads with where they are, the configuration with its secrets masked, and what the
process itself has to say. It goes to standard error, or to a file in [oslo_reports] log_dir.
"""

from collections.abc import Callable
import os
from typing import Any

from oslo_config import cfg
from oslo_reports import guru_meditation_report as gmr
from oslo_reports.models import with_default_views

from heat_spreader import conf as spreader_conf
from heat_spreader import exception


class _Report(gmr.TextGuruMeditation):
    persistent_sections = []

    @classmethod
    def handle_signal(
        cls, version: Any, service_name: str | None, log_dir: str | None, frame: Any
    ) -> None:
        # A fork has the handler of its parent, and both may be asked in the same second.
        super().handle_signal(version, f"{service_name}-{os.getpid()}", log_dir, frame)


class _Version:
    """What oslo.reports asks for at the top of a report."""

    def vendor_string(self) -> str:
        return "OpenStack"

    def product_string(self) -> str:
        return "Heat Spreader"

    def version_string_with_package(self) -> str:
        return spreader_conf.VERSION


# The process that has a thread which watches [oslo_reports] file_event_handler. Neither a fork nor a
# process that is told to start anew may end up with none, or with two.
_watched_by = 0


def setup(conf: cfg.ConfigOpts, name: str, *, signals: bool = True) -> None:
    """Report from this process on SIGUSR2, or when [oslo_reports] file_event_handler is touched.

    A fork inherits the first, and has to call this for the second.

    :param name: of the program, for the name of a file
    :param signals: whether signals are ours to handle: under a WSGI server and in a thread they are not
    :raises StartupError: the file to be watched cannot be read
    """
    global _watched_by
    watched = conf.oslo_reports.file_event_handler
    if watched:
        if _watched_by == os.getpid():
            return
        if not os.access(watched, os.R_OK):
            raise exception.StartupError(
                reason=f"[oslo_reports] file_event_handler ({watched}) cannot be read; make an empty "
                "file there, which reports are then asked for by touching it"
            )
        _watched_by = os.getpid()
    _Report.setup_autorun(_Version(), name, conf=conf, setup_signal=signals)


def add_section(title: str, tell: Callable[[], dict[str, Any]]) -> None:
    """Have reports show what this function returns, under this title; it takes the place of an earlier one.

    It is called in a signal handler, so it must not wait for a lock: whoever holds it may be interrupted.
    """
    sections = [section for section in _Report.persistent_sections if section[0] != title]
    sections.append((title, lambda: with_default_views.ModelWithDefaultViews(data=tell())))
    _Report.persistent_sections = sections
