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

"""Bytes that a coverage-guided fuzzer thinks of, for everything that reads text from outside.

usage: python -m heat_spreader.tests.fuzz [-max_total_time=600] [LIBFUZZER OPTION ...] [CORPUS]

Whatever is read is either understood or refused by the error that is meant for it; any other
exception, a crash or a second without an end is a finding. ``tox -e fuzz`` has atheris.
"""

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["heat_spreader.api", "heat_spreader.engine.core"]):
    from heat_spreader import addresses
    from heat_spreader import exception
    from heat_spreader.api import expose
    from heat_spreader.api import templates
    from heat_spreader.api import versions
    from heat_spreader.engine.core import allocation

GUARD = addresses.Guard(["127.0.0.0/8"], [])


def _template(text: str) -> None:
    templates.hidden(text)
    templates.sets(text, ["a"])


def _weight(text: str) -> None:
    with contextlib.suppress(ValueError):
        weight = allocation.parse_weight(text)
        assert allocation.parse_weight(allocation.format_weight(weight)) == weight


def _json(text: str) -> None:
    document = expose.parse_json(text, "the body")
    expose.check_text(document, "the body")
    expose.plain(document, "the body")


TARGETS = (
    _template,
    lambda text: templates.sets(text, ["a"]),
    _weight,
    _json,
    lambda text: versions.negotiate(f"{versions.SERVICE_TYPE} {text}"),
    versions.negotiate,
    GUARD.check_host,
    lambda text: GUARD.permits(text),
)


def one(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    target = TARGETS[provider.ConsumeIntInRange(0, len(TARGETS) - 1)]
    # Halves of characters are refused in every body before it is looked at.
    text = provider.ConsumeUnicodeNoSurrogates(provider.remaining_bytes())
    # These are refused by exceptions of their own; all that is meant for callers is of this tree.
    with contextlib.suppress(exception.Invalid):
        target(text)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
