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
"""Whether this host should trust what it sees of clouds: it asks others than clouds before it says so.

Knows nothing of clouds and decides nothing about them.
"""

from collections.abc import Callable
from collections.abc import Sequence
import threading
import time

from oslo_log import log
import requests

LOG = log.getLogger(__name__)


class References:
    """Places that answer whatever becomes of the clouds, unless the network of this host is to blame.

    The database is one of them without being asked: who cannot reach it cannot store a vote either.

    :param urls: any answer will do; one of them that answers is enough
    :param bus: tells why the message bus cannot be reached, or nothing
    :param timeout: seconds for each of them
    :param every: seconds for which an answer holds, so that many clouds cost one question
    """

    def __init__(
        self, urls: Sequence[str], bus: Callable[[], str], *, timeout: float, every: float
    ) -> None:
        self._urls = urls
        self._bus = bus
        self._timeout = timeout
        self._every = every
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._doubt = ""

    def doubt(self) -> str:
        """Why nothing that this host sees should count now; empty: it should."""
        with self._lock:
            if self._asked_at is None or time.monotonic() - self._asked_at >= self._every:
                before, self._doubt = self._doubt, self._ask()
                self._asked_at = time.monotonic()
                if self._doubt and not before:
                    LOG.warning("What this host sees of clouds is not counted: %s", self._doubt)
                elif before and not self._doubt:
                    LOG.info("What this host sees of clouds is counted again")
            return self._doubt

    def _ask(self) -> str:
        if bus := self._bus():
            return f"more than half of the clouds fail at once, and so does the message bus: {bus}"
        failed = []
        for url in self._urls:
            try:
                with requests.Session() as session:
                    # Neither a proxy nor a netrc of whoever started us.
                    session.trust_env = False
                    session.get(
                        url, timeout=self._timeout, allow_redirects=False, stream=True
                    ).close()
                return ""
            except requests.RequestException as error:
                failed.append(f"{url} ({type(error).__name__})")
        if not failed:
            return ""
        return (
            "more than half of the clouds fail at once, and so does each reference: "
            f"{', '.join(failed)}"
        )
