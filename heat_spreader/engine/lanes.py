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
"""A lane for each cloud, through which all requests of rounds go: what hangs in one holds up no other.

A lane is bounded, nobody waits long for a place in it, and nothing is sent through it while the cloud
is in doubt. What was put off has not reached the cloud.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Hashable
from collections.abc import Mapping
from concurrent import futures
import contextlib
import dataclasses
import datetime
import threading
import time
from typing import Any
from typing import TypeVar

from heat_spreader.engine import observe

# Seconds without any answer after which a lane counts as stuck, so that nobody waits for a place in it
# any more; and seconds after which a round that waits lends its own place among the rounds to another.
# Well below a sweep interval.
PATIENCE = 0.25

Key = TypeVar("Key", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class PutOff:
    """In the place of a result: nothing was sent.

    :ivar reason: to go on after the cloud's name
    :ivar before: how many were put off there before it, since the latest listing. Those that come later
        have to wait longer: all at once they would keep the engine busy with being put off
    """

    reason: str
    before: int = 0


class Lanes:
    """All lanes of one engine."""

    def __init__(
        self,
        concurrency: int,
        max_in_progress: int,
        listing: Callable[[str], observe.Snapshot | None],
        *,
        lent: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
        executor: Callable[..., futures.Executor] = futures.ThreadPoolExecutor,
    ) -> None:
        """
        :param concurrency: requests on the wire in one cloud; as many again may wait for a place
        :param max_in_progress: operations that Heat is at in one cloud, as far as we know of them
        :param listing: the latest good listing of a cloud by its id, None while it is in doubt
        :param lent: entered while a round only waits for clouds
        :param executor: makes the workers of one lane
        """
        self._concurrency = concurrency
        self._max_in_progress = max_in_progress
        self._listing = listing
        self._lent = lent
        self._executor = executor
        self._lanes: dict[str, _Lane] = {}
        self._lock = threading.Lock()
        self._halted = False

    def run(
        self,
        jobs: Mapping[Key, tuple[str, Callable[[], Any]]],
        begin: Callable[[], datetime.datetime] | None = None,
    ) -> dict[Key, Any]:
        """Do all the jobs side by side and wait for them; for each its result or a ``PutOff``.

        :param jobs: cloud id and what to do there
        :param begin: the jobs begin operations of Heat; gives the database's time
        """
        results: dict[Key, Any] = {}
        begun: dict[Key, futures.Future[Any]] = {}
        for key, (cloud_id, work) in jobs.items():
            future = self._submit(cloud_id, work, begin)
            if isinstance(future, PutOff):
                results[key] = future
            else:
                begun[key] = future
        waiting = futures.wait(begun.values(), PATIENCE).not_done
        if waiting:
            with self._lent():
                while waiting := self._patient(waiting, begun, jobs):
                    waiting = futures.wait(waiting, PATIENCE).not_done
        for key, future in begun.items():
            if not future.cancelled():
                results[key] = future.result()
            else:
                results[key] = self._put_off(jobs[key][0], "has not answered other requests yet")
        return results

    def _patient(
        self,
        waiting: set[futures.Future[Any]],
        begun: Mapping[Key, futures.Future[Any]],
        jobs: Mapping[Key, tuple[str, Callable[[], Any]]],
    ) -> set[futures.Future[Any]]:
        """Those that are worth waiting for: on the wire, or in a lane that moves."""
        stuck = {
            future
            for key, future in begun.items()
            # Only a lane in which nobody waits may be gone.
            if future in waiting and (lane := self._lanes.get(jobs[key][0])) and lane.stuck()
        }
        # cancel() does nothing to what is on the wire. One that was cancelled is not waited for: it
        # would count as done only when a worker comes to it.
        return {future for future in waiting if future not in stuck or not future.cancel()}

    def _put_off(self, cloud_id: str, reason: str) -> PutOff:
        with self._lock:
            lane = self._lanes.get(cloud_id)
            if lane is None:
                return PutOff(reason)
            lane.look(self._listing(cloud_id))
            lane.put_off += 1
            return PutOff(reason, lane.put_off - 1)

    def keep(self, cloud_ids: Collection[str]) -> None:
        """End the lanes of clouds that are registered no more, those in use when they are in use no more."""
        with self._lock:
            unused = [
                self._lanes.pop(cloud_id)
                for cloud_id in self._lanes.keys() - set(cloud_ids)
                if not self._lanes[cloud_id].load
            ]
        for lane in unused:
            lane.workers.shutdown(wait=False)

    def report(self) -> dict[str, str]:
        """For each cloud how many requests it has not answered yet. Takes no lock."""
        return {
            cloud_id: f"{lane.load} request(s)" + (", stuck" if lane.load and lane.stuck() else "")
            for cloud_id, lane in list(self._lanes.items())
        }

    def stop(self) -> None:
        """Send nothing more; what is on the wire is waited for by those who sent it."""
        with self._lock:
            self._halted = True
            lanes = list(self._lanes.values())
        # Not under the lock: whatever is cancelled leaves its lane at once, which takes the lock.
        for lane in lanes:
            lane.workers.shutdown(wait=False, cancel_futures=True)

    def _submit(
        self, cloud_id: str, work: Callable[[], Any], begin: Callable[[], datetime.datetime] | None
    ) -> futures.Future[Any] | PutOff:
        with self._lock:
            if self._halted:
                return PutOff("is left alone by an engine that stops")
            if cloud_id not in self._lanes:
                self._lanes[cloud_id] = _Lane(
                    self._executor(self._concurrency, thread_name_prefix=f"work-{cloud_id}")
                )
            lane = self._lanes[cloud_id]
            full = lane.load >= 2 * self._concurrency
            lane.load += not full
        if full:
            return self._put_off(
                cloud_id, "is given no more requests until it has answered others"
            )
        try:
            future = lane.workers.submit(self._do, cloud_id, lane, work, begin)
        except RuntimeError:  # stopped in this moment
            return PutOff("is left alone by an engine that stops")
        future.add_done_callback(lambda _: self._leave(lane))
        return future

    def _leave(self, lane: "_Lane") -> None:
        with self._lock:
            lane.load -= 1
            lane.moved_at = time.monotonic()

    def _do(
        self,
        cloud_id: str,
        lane: "_Lane",
        work: Callable[[], Any],
        begin: Callable[[], datetime.datetime] | None,
    ) -> Any:
        # Asked for here: the cloud may have come into doubt while the job waited for its place.
        listing = self._listing(cloud_id)
        if listing is None:
            return self._put_off(
                cloud_id, "has not answered a listing since a request to it failed"
            )
        if begin is not None:
            with self._lock:
                lane.look(listing)
                begun = lane.begin(begin(), self._max_in_progress)
            if not begun:
                return self._put_off(
                    cloud_id,
                    f"is at {self._max_in_progress} operations already, the most that it is given",
                )
        return work()


class _Lane:
    """One cloud's workers, and what was begun and put off there since the latest listing."""

    def __init__(self, workers: futures.Executor) -> None:
        self.workers = workers
        self.load = 0
        self.put_off = 0
        self.moved_at = time.monotonic()
        self._listing: observe.Snapshot | None = None
        self._in_progress = 0
        self._begun: list[datetime.datetime] = []

    def stuck(self) -> bool:
        """Nothing has been answered for a while."""
        return time.monotonic() - self.moved_at > PATIENCE

    def look(self, listing: observe.Snapshot | None) -> None:
        """Count anew if this listing is a new one."""
        if listing is None or listing is self._listing:
            return
        self._listing = listing
        self._in_progress = sum(row.in_progress for row in listing.heat_stacks.values())
        self._begun = [begun for begun in self._begun if begun >= listing.at]
        self.put_off = 0

    def begin(self, moment: datetime.datetime, max_in_progress: int) -> bool:
        """Count one more operation, unless there are enough of them."""
        if self._in_progress + len(self._begun) >= max_in_progress:
            return False
        self._begun.append(moment)
        return True
