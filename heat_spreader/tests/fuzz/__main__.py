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
    from heat_spreader.api import schemas
    from heat_spreader.api import templates
    from heat_spreader.api import versions
    from heat_spreader.api import watchdogs
    from heat_spreader.engine.core import allocation

CHECK_ALERTS = expose.validator(schemas.ALERTS)
CHECK_OBSERVATION = expose.validator(schemas.OBSERVATION)
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


def _webhook(text: str) -> None:
    body = expose.parse_json(text, "the body")
    with contextlib.suppress(exception.Invalid):
        CHECK_OBSERVATION(expose.plain(body, "the body"), "the body")
    _alerts(body)


def _alert(text: str) -> None:
    """A fuzzer finds no whole webhook: it gives the words of one."""
    status, cloud, name, summary, more = [*text.split("\n", 4), "", "", "", ""][:5]
    labels = {"cloud": cloud, "alertname": name}
    with contextlib.suppress(exception.Invalid):
        labels["more"] = expose.parse_json(more, "the labels")
    alert = {"status": status or "firing", "labels": labels, "annotations": {"summary": summary}}
    _alerts({"alerts": [alert, alert | {"status": "resolved"}]})


def _alerts(body: object) -> None:
    expose.check_text(body, "the body")
    body = expose.plain(body, "the body")
    CHECK_ALERTS(body, "the body")
    clouds, ignored = watchdogs.by_cloud(body, "cloud")
    assert sum(map(len, clouds.values())) + ignored <= len(body["alerts"])
    assert all(isinstance(words, str) for firing in clouds.values() for words in firing)


TARGETS = (
    _template,
    lambda text: templates.sets(text, ["a"]),
    _weight,
    _json,
    _webhook,
    _alert,
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
