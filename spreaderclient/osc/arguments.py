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

"""The forms of argument that several commands share: CLOUD=WEIGHT, CLOUD=N, KEY=VALUE and so on.

Each checks only what can be told without the service, and says what it expected.
"""

import argparse
from collections.abc import Iterable
import decimal
import re
from typing import TypeVar

from osc_lib import exceptions

T = TypeVar("T")


def identity(text: str) -> str:
    """A name or id that goes into a URL: another character would make it another URL."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", text):
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither a name nor an id; those have letters, digits, '_', '.' and '-'."
        )
    return text


def weight(text: str) -> str:
    """The weight exactly as it was typed: a float in between would change it."""
    if not re.fullmatch(r"[01]|[01]?\.[0-9]{1,9}", text) or decimal.Decimal(text) > 1:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a weight. A weight is the fraction of the count that a cloud gets: a "
            "decimal from 0 to 1 with at most 9 digits after the point, for example 0.6."
        )
    return text


def cloud_weight(text: str) -> tuple[str, str]:
    cloud, value = _split(text, "CLOUD=WEIGHT", "cloud1=0.6")
    return cloud, weight(value)


def cloud_number(text: str) -> tuple[str, int]:
    cloud, value = _split(text, "CLOUD=N", "cloud1=4")
    return cloud, number(value)


def number(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 0 or more.")
    return int(text)


def number_or_all(text: str) -> int | None:
    return None if text == "all" else number(text)


def key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not of the form KEY=VALUE, for example flavor=m1.small."
        )
    return key, value


def cloud_key_value(text: str) -> tuple[str, tuple[str, str]]:
    cloud, colon, rest = text.partition(":")
    if not cloud or not colon or "=" not in rest.lstrip("="):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not of the form CLOUD:KEY=VALUE, for example cloud1:flavor=m1.small."
        )
    return cloud, key_value(rest)


def template_parameter(text: str) -> str:
    """A name. Those who know 'openstack stack create' would give --parameter KEY=VALUE."""
    if "=" in text:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not the name of a template parameter. This option names the parameter "
            "that carries the count; use --param KEY=VALUE to give a parameter its value."
        )
    return text


def once(option: str, pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """The pairs as a dictionary; a cloud that is named twice is a mistake, not a last word."""
    found: dict[str, T] = {}
    for key, value in pairs:
        if key in found:
            raise exceptions.CommandError(f"{option} names {key} twice.")
        found[key] = value
    return found


def _split(text: str, form: str, example: str) -> tuple[str, str]:
    cloud, equals, value = text.rpartition("=")
    if not cloud or not equals:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not of the form {form}, for example {example}."
        )
    return cloud, value
