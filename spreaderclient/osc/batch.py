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

"""One command for several named objects: each is tried, and any failure is a failure."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import logging

from openstack import exceptions as sdk_exceptions
from osc_lib import exceptions


class Batch:
    """Leaving it raises one CommandError for all that failed::

    with batch.Batch(self.log, names) as each:
        for name in names:
            with each.tried(name):
                ...
    """

    def __init__(self, log: logging.Logger, names: Sequence[str]) -> None:
        self._log = log
        self._names = names
        self._failed: dict[str, str] = {}

    def __enter__(self) -> "Batch":
        return self

    @contextlib.contextmanager
    def tried(self, name: str) -> Iterator[None]:
        try:
            yield
        except sdk_exceptions.SDKException as error:
            self._failed[name] = str(error)
            if len(self._names) > 1:
                self._log.error("%s: %s", name, error)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None or not self._failed:
            return
        if len(self._names) == 1:
            raise exceptions.CommandError(self._failed[self._names[0]])
        raise exceptions.CommandError(
            f"{len(self._failed)} of {len(self._names)} failed: {', '.join(self._failed)}."
        )
