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

"""What a Heat template declares, found without running anything that is in it.

Only names are looked at, so that a mistake which Heat would ignore or report much later is refused
when the stack is submitted. Whether the template works is for each cloud's Heat to say.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import json
from typing import Any

import yaml

from heat_spreader import exception
from heat_spreader.api import expose

# The parser in C is many times faster, but a build of PyYAML may lack it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 100
# The most that Heat takes unless its operator lets it take more (max_template_size).
_MAX_SIZE = 512 * 1024

# The key that says which language it is: that language's names for parameters, default and hidden.
_LANGUAGES = {
    "heat_template_version": ("parameters", "default", "hidden"),
    "HeatTemplateFormatVersion": ("Parameters", "Default", "NoEcho"),
    "AWSTemplateFormatVersion": ("Parameters", "Default", "NoEcho"),
}


@dataclasses.dataclass(frozen=True)
class Declared:
    """The parameters of a template, those of them that have no default, and those that it hides."""

    parameters: frozenset[str]
    required: frozenset[str]
    hidden: frozenset[str]


def as_text(document: Any, where: str) -> str | None:
    """A template or environment as it is stored and sent to Heat: as text."""
    if document is None or isinstance(document, str):
        return document
    return json.dumps(expose.plain(document, where))


def declared(template: str) -> Declared:
    """:raises Invalid: this is no template"""
    if len(template.encode()) > _MAX_SIZE:
        raise exception.Invalid(
            reason=f"template: it is larger than {_MAX_SIZE} bytes, the most that Heat takes; put parts "
            "of it into files"
        )
    top = _mapping(template, "template")
    language = next((key for key in _LANGUAGES if key in top), None)
    if language is None:
        raise exception.Invalid(
            reason="template: it has no heat_template_version (or AWSTemplateFormatVersion)"
        )
    section, default, hidden = _LANGUAGES[language]
    parameters = _section(top, section, "template")
    return Declared(
        parameters=frozenset(parameters),
        required=frozenset(
            name for name, definition in parameters.items() if default not in _items(definition)
        ),
        hidden=frozenset(
            name
            for name, definition in parameters.items()
            if _is_true(_items(definition).get(hidden))
        ),
    )


def hidden(template: str | None) -> list[str]:
    """The names of parameters that a template hides. :raises Invalid: this is no template"""
    return sorted(declared(template).hidden) if template is not None else []


def sets(environment: str | None, names: Iterable[str]) -> bool:
    """Whether an environment has a value for one of these parameters, or cannot be understood."""
    try:
        return bool(_set_by(environment) & set(names))
    except exception.Invalid:
        return True


def _is_true(value: Any) -> bool:
    # As Heat reads it, from YAML or from JSON.
    text = value.value if isinstance(value, yaml.ScalarNode) else value
    return str(text).lower() in ("true", "yes", "on", "1", "y", "t")


def check(
    template: str | None,
    *,
    environment: str | None,
    files: Mapping[str, str],
    count_parameter: str,
    parameters: Mapping[str, Any],
    members: Mapping[str, Mapping[str, Any]],
) -> None:
    """Refuse what cannot work in any cloud.

    :param parameters: for all clouds
    :param members: cloud name: the parameters for this cloud only
    :raises Invalid: with what to change
    """
    given = {"parameters": parameters, "environment": environment, "files": files}
    given |= {f"parameters of member '{cloud}'": own for cloud, own in members.items()}
    if template is None:
        for what, value in given.items():
            if value:
                raise exception.Invalid(
                    reason=f"{what}: only a stack with a template can have this; without one, Heat "
                    "stacks that exist are taken over as they are, and only their count is changed"
                )
        return

    known = declared(template)
    listed = ", ".join(sorted(known.parameters)) or "none"
    if count_parameter not in known.parameters:
        raise exception.Invalid(
            reason=f"count_parameter: the template declares no parameter '{count_parameter}'; it "
            f"declares: {listed}"
        )
    for what in [key for key in given if key.startswith("parameters")]:
        if count_parameter in given[what]:  # type: ignore[operator]
            raise exception.Invalid(
                reason=f"{what}: '{count_parameter}' is the count parameter; it gets the share of "
                "each cloud and cannot be set"
            )
        for name in given[what]:  # type: ignore[union-attr]
            if name not in known.parameters:
                raise exception.Invalid(
                    reason=f"{what}: the template declares no parameter '{name}'; it declares: "
                    f"{listed}"
                )
    missing = known.required - {count_parameter} - set(parameters) - _set_by(environment)
    for cloud, own in members.items():
        if missing - set(own):
            raise exception.Invalid(
                reason=f"parameters: {', '.join(sorted(missing - set(own)))} has no default in the "
                f"template; give a value for the stack, or for each of its members ('{cloud}' has "
                "none)"
            )


def _set_by(environment: str | None) -> set[str]:
    if not environment:
        return set()
    top = _mapping(environment, "environment")
    return {
        name
        for section in ("parameters", "parameter_defaults")
        for name in _section(top, section, "environment")
    }


# --- reading --------------------------------------------------------------------------------------
# Text that starts with a brace is read as JSON, as Heat does: JSON with tabs is not YAML. YAML is
# only composed into nodes, never constructed: a construction follows merge keys, and a few lines of
# them can make it fill the memory.


def _mapping(text: str, where: str) -> Mapping[str, Any]:
    """The names and values at the top of a document.

    :raises Invalid: it cannot be read, or is no mapping
    """
    if text.lstrip().startswith("{"):
        document = expose.parse_json(text, where)
        expose.check_text(document, where)
    else:
        try:
            # Composing is recursive, in C: too deep a document would end the process.
            depth = 0
            for event in yaml.parse(text, _Loader):
                depth += isinstance(event, yaml.CollectionStartEvent)
                depth -= isinstance(event, yaml.CollectionEndEvent)
                if depth > _MAX_DEPTH:
                    raise exception.Invalid(
                        reason=f"{where}: nested more than {_MAX_DEPTH} levels deep"
                    )
            document = yaml.compose(text, _Loader)
        except yaml.YAMLError as error:
            problem = " ".join(str(error).split())
            raise exception.Invalid(reason=f"{where}: it is not YAML: {problem[:300]}") from None
    if not isinstance(document, dict | yaml.MappingNode):
        raise exception.Invalid(reason=f"{where}: it must be a mapping, with names and values")
    return _items(document)


def _section(top: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    section = top.get(name)
    if section is None or (
        isinstance(section, yaml.ScalarNode) and section.value in ("", "~", "null")
    ):
        return {}
    if not isinstance(section, dict | yaml.MappingNode):
        raise exception.Invalid(reason=f"{where}: '{name}' must be a mapping")
    return _items(section)


def _items(node: Any) -> Mapping[str, Any]:
    if isinstance(node, yaml.MappingNode):
        return dict(_pairs(node, set()))
    return node if isinstance(node, dict) else {}


def _pairs(node: yaml.MappingNode, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Names and values of a mapping; merged-in ones first, because its own replace them."""
    seen.add(id(node))
    for key, value in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                # Each only once, however often it is named: see above.
                if isinstance(merged, yaml.MappingNode) and id(merged) not in seen:
                    yield from _pairs(merged, seen)
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            yield key.value, value
