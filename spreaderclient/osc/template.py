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

"""A template as the service wants it: its text, and the local files that it refers to.

The text is sent as it is; ``files`` has each file under the name by which the template calls it,
which is how Heat looks it up. Only local files are read, nothing is fetched.
"""

from collections.abc import Iterator
import os
from typing import Any

from osc_lib import exceptions
import yaml


def read_template(path: str, files: dict[str, str]) -> str:
    """The text of a template; what its ``get_file`` and ``type: x.yaml`` name is added to files."""
    text = _read(path, "The template")
    for is_template, name in _references(_parse(text, path)):
        _add(files, name, path, is_template)
    return text


def read_environment(path: str, files: dict[str, str]) -> str:
    """The text of an environment; the templates that its registry maps to are added to files."""
    text = _read(path, "The environment")
    document = _parse(text, path)
    registry = document.get("resource_registry") if isinstance(document, dict) else None
    for name in _strings(registry):
        if _is_template(name) and "://" not in name:
            _add(files, name, path, is_template=True)
    return text


def _add(files: dict[str, str], name: str, referrer: str, is_template: bool) -> None:
    path = os.path.join(os.path.dirname(referrer), name)
    text = _read(path, f"{referrer} refers to '{name}', but the file")
    if files.get(name) == text:
        return
    if name in files:
        raise exceptions.CommandError(
            f"Two different files are called '{name}'; Heat tells them apart by this name alone. "
            f"Rename {path} or the other one."
        )
    files[name] = text
    if is_template:
        for deeper_is_template, deeper in _references(_parse(text, path)):
            _add(files, deeper, path, deeper_is_template)


def _references(node: Any) -> Iterator[tuple[bool, str]]:
    """(is it a template, name) of every local file that a parsed template refers to."""
    if isinstance(node, list):
        for value in node:
            yield from _references(value)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "get_file" and isinstance(value, str):
                if "://" in value:
                    raise exceptions.CommandError(
                        f"get_file: {value} is not a local file, and only local files are read. "
                        "Download it and refer to the copy."
                    )
                yield False, value
            elif key == "type" and isinstance(value, str) and _is_template(value):
                # Heat itself fetches a nested template from a URL.
                if "://" not in value:
                    yield True, value
            else:
                yield from _references(value)


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for value in node.values():
            yield from _strings(value)
    elif isinstance(node, str):
        yield node


def _is_template(name: str) -> bool:
    # Heat's own test.
    return name.endswith((".yaml", ".template"))


def _read(path: str, what: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError as error:
        raise exceptions.CommandError(f"{what} {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise exceptions.CommandError(f"{what} {path} is not text in UTF-8.") from None


def _parse(text: str, path: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise exceptions.CommandError(f"{path} is neither YAML nor JSON: {where}") from None
