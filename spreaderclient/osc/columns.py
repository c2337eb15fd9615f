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

"""How values look in a table for people; ``-f json`` and its like get them raw."""

from collections.abc import Iterator
from collections.abc import Sequence
import datetime
import json
import textwrap
from typing import Any

from cliff import columns


def age(moment: str | None) -> str:
    """How long ago, in the one unit that matters; empty when it never happened."""
    if not moment:
        return ""
    then = datetime.datetime.fromisoformat(moment)
    return _duration(max((datetime.datetime.now(datetime.UTC) - then).total_seconds(), 0))


def left(moment: str | None) -> str:
    """How long until then; empty when it is over, or never comes."""
    if not moment:
        return ""
    then = datetime.datetime.fromisoformat(moment)
    seconds = (then - datetime.datetime.now(datetime.UTC)).total_seconds()
    return _duration(seconds) if seconds > 0 else ""


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def wrapped(text: str, indent: str = "") -> str:
    """A sentence in lines of a width that leaves a table readable."""
    return "\n".join(textwrap.wrap(text, 100, initial_indent=indent, subsequent_indent=indent))


def plain(value: object) -> str:
    return "-" if value is None else str(value)


class Age(columns.FormattableColumn[str | None]):
    def human_readable(self) -> str:
        return age(self._value)


class Votes(columns.FormattableColumn[list[dict[str, Any]]]):
    """A line for each observer: where it is, what it saw, how often, how long ago, and if it counts."""

    def human_readable(self) -> str:
        return (
            "\n".join(aligned([self._cells(seen) for seen in self._value])) if self._value else "-"
        )

    @staticmethod
    def _cells(seen: dict[str, Any]) -> Sequence[str]:
        run = f"{seen['misses']} missed" if seen["misses"] else ""
        run = f"{seen['goods']} good" if seen["goods"] else run
        why = "counts" if seen["counts"] else "does not count"
        if seen["abstains"]:
            why = f"abstains: {seen['abstains']}"
        return (
            seen["observer"] + (f" ({seen['zone']})" if seen["zone"] else ""),
            seen["outcome"],
            run,
            f"{age(seen['observed_at'])} ago",
            why,
        )


class Plain(columns.FormattableColumn[Any]):
    """A value that may be missing."""

    def human_readable(self) -> str:
        return plain(self._value)


class Sentence(columns.FormattableColumn[str]):
    def human_readable(self) -> str:
        return wrapped(self._value or "")


class Json(columns.FormattableColumn[Any]):
    """A nested value in as few characters as keep it readable."""

    def human_readable(self) -> str:
        if isinstance(self._value, dict):
            return ", ".join(f"{key}={self._short(v)}" for key, v in sorted(self._value.items()))
        if isinstance(self._value, list):
            return ", ".join(map(self._short, self._value))
        return "" if self._value is None else str(self._value)

    @staticmethod
    def _short(value: object) -> str:
        return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


class Text(columns.FormattableColumn[Any]):
    """A long text, of which a table tells only that it is there."""

    def human_readable(self) -> str:
        if not self._value:
            return ""
        if isinstance(self._value, str):
            return f"{len(self._value.splitlines())} lines (shown whole by -f json)"
        return f"{', '.join(sorted(self._value))} (shown whole by -f json)"


class Surge(columns.FormattableColumn[int | None]):
    def human_readable(self) -> str:
        return "all" if self._value is None else str(self._value)


class Ledger(columns.FormattableColumn[dict[str, int]]):
    def human_readable(self) -> str:
        return "\n".join(
            ", ".join(f"{key.replace('_', ' ')} {self._value[key]}" for key in line)
            for keys in (
                ("desired", "assigned", "unassigned", "shortfall", "excess"),
                ("confirmed", "in_doubt", "bound", "distance"),
            )
            if (line := [key for key in keys if key in self._value])
        )


class Spread(columns.FormattableColumn[list[dict[str, Any]]]):
    """The members of a stack in one line: what runs of what each should have."""

    def human_readable(self) -> str:
        return ", ".join(map(spread, self._value))


# What Heat does to the units of a member while its status ends with _IN_PROGRESS.
VERBS = {
    "CREATE": "creating",
    "UPDATE": "updating",
    "CHECK": "checking",
    "DELETE": "deleting",
}
# What is the matter with a member, in words for a line that has no room for reasons.
TROUBLES = {"FULL": "full", "DRIFTED": "drifted", "MISSING": "missing", "ERROR": "in error"}


def spread(member: dict[str, Any]) -> str:
    text = f"{member['cloud']} {member['confirmed']}/{plain(member['share'])}"
    action, _, progress = (member["heat_status"] or "").partition("_")
    if member["verdict"] != "healthy":
        return f"{text} {member['verdict']}"
    if progress == "IN_PROGRESS":
        return f"{text} {VERBS.get(action, action.lower())}"
    return f"{text} {TROUBLES.get(member['status'], '')}".rstrip()


class Members(columns.FormattableColumn[list[dict[str, Any]]]):
    """Per member its numbers, and below them why they are what they are."""

    TITLES = (
        *("cloud", "weight", "bounds", "share", "running"),
        *("Heat status", "verdict", "status"),
    )

    def human_readable(self) -> str:
        heading, *lines = aligned([self.TITLES, *map(self._numbers, self._value)])
        text = [heading]
        for member, line in zip(self._value, lines, strict=True):
            text.append(line)
            text.extend(wrapped(reason, "  ") for reason in self._reasons(member))
        return "\n".join(text)

    @staticmethod
    def _numbers(member: dict[str, Any]) -> tuple[str, ...]:
        running = plain(member["confirmed"])
        if member["verdict"] != "healthy" and member["observed_at"]:
            running += f" ({age(member['observed_at'])} ago)"
        maximum = member["maximum"]
        return (
            member["cloud"],
            member["weight"],
            f"{member['minimum']}..{'' if maximum is None else maximum}",
            plain(member["share"]),
            running,
            plain(member["heat_status"]),
            f"{member['verdict']} {age(member['verdict_since'])}".rstrip(),
            member["status"],
        )

    @staticmethod
    def _reasons(member: dict[str, Any]) -> Iterator[str]:
        """Why the share is what it is, and, unless that says it already, why the verdict is.

        Then what the service remembers of the member, which explains a share beside its weight.
        """
        reason, doubt = member["status_reason"] or "", member["verdict_reason"] or ""
        if reason:
            yield reason
        if doubt and doubt not in reason and member["verdict"] != "healthy":
            yield f"{member['verdict']}: {doubt}"
        if wait := left(member["full_until"]):
            yield f"full at {plain(member['capacity'])}; more is offered to it again in {wait}"
        if member["conflict"]:
            yield "conflict: left as others set it, until you change the stack or 'stack retry' it"
        if gone := age(member["missing_since"]):
            yield f"its Heat stack has been missing for {gone}"
        if busy := age(member["busy_since"]):
            yield f"Heat has been at work on it for {busy}"
        if member["check_asked"]:
            yield "Heat is still to be asked for a check"


class Decision(columns.FormattableColumn[dict[str, Any] | None]):
    """An event with all that it has to say about causes."""

    def human_readable(self) -> str:
        if not self._value:
            return ""
        event = self._value
        lines = [wrapped(f"{event['created_at']} {event['type']}: {event['message']}")]
        if moves := self._moves(event["before"], event["after"]):
            lines.append(wrapped(moves, "  "))
        evidence = event["evidence"]
        if isinstance(evidence, dict) and evidence.get("reason"):
            lines.append(wrapped(f"because: {evidence['reason']}", "  "))
        lines.append(f"  by {', '.join(filter(None, (event['actor'], event['request_id'])))}")
        return "\n".join(lines)

    @staticmethod
    def _moves(before: Any, after: Any) -> str:
        """Each share that changed, as in "cloud1 6 -> 7". Other events have other values."""
        if not isinstance(before, dict) or not isinstance(after, dict):
            return ""
        return ", ".join(
            f"{key} {before.get(key, 0)} -> {after[key]}"
            for key in after
            if isinstance(after[key], int) and before.get(key, 0) != after[key]
        )
