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

"""Virtual time, and what takes the place of threads in it.

An actor is a greenlet that gives way when it waits. One event happens at a time, in an order that a
seed decides, and the clock jumps from event to event. Nothing here knows what is simulated.
"""

from collections.abc import Callable
from collections.abc import Iterable
from concurrent import futures
import heapq
import itertools
import random
from typing import Any
from typing import NamedTuple

import greenlet


class Process:
    """What is killed or stopped as a whole: all actors of one engine.

    :ivar stopped_until: no actor of it does anything before this time
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.stopped_until = 0.0
        # What its next pause does to it, and after how many pauses.
        self.trap: Callable[[], None] | None = None
        self.trap_in = 0
        # Only pauses of actors that work on something are counted.
        self.trap_busy = False


class Actor(greenlet.greenlet):
    """One thread of a process.

    :ivar task: whatever it is at work for; who is started by it inherits it
    :ivar query: what it asks the database
    """

    def __init__(
        self, schedule: "Schedule", process: Process | None, name: str, work: Callable[[], Any]
    ) -> None:
        super().__init__(self._work, schedule.hub)
        self.schedule = schedule
        self.process = process
        self.name = name
        self.work = work
        self.ticket = 0
        self.answer: Any = None
        self.task: Any = None
        self.query: Any = None

    def _work(self, _answer: Any = None) -> None:
        try:
            self.work()
        except greenlet.GreenletExit:
            pass
        except Exception as error:
            self.schedule.crashed(self, error)


class Schedule:
    """The events to come. ``run`` lets them happen.

    :ivar now: seconds since the beginning
    """

    def __init__(self, rng: random.Random) -> None:
        self.now = 0.0
        self.random = rng
        self.hub = greenlet.getcurrent()
        self.current: Actor | None = None
        self.trouble: Exception | None = None
        self.events = 0
        self._heap: list[tuple[float, int, Actor | None, Any]] = []
        self.numbers = itertools.count()
        self._over = False
        self._actors: list[Actor] = []

    # --- for whoever is outside an actor ------------------------------------------------------------

    def at(self, time: float, do: Callable[[], None]) -> None:
        """Call ``do`` at this time, outside any actor."""
        heapq.heappush(self._heap, (time, next(self.numbers), None, do))

    def start(
        self, process: Process | None, name: str, work: Callable[[], Any], delay: float = 0.0
    ) -> Actor:
        actor = Actor(self, process, name, work)
        if self.current is not None:
            actor.task = self.current.task
        self._actors.append(actor)
        self._push(self.now + delay, actor)
        return actor

    def run(self, until: float, over: Callable[[], bool] | None = None) -> bool:
        """Let things happen until this time, until ``over``, or until somebody is in trouble.

        :returns: whether ``over`` came true
        """
        heap = self._heap
        while heap and heap[0][0] <= until:
            time, _, actor, what = heapq.heappop(heap)
            if time > self.now:
                self.now = time
            self.events += 1
            if actor is None:
                what()
            else:
                process = actor.process
                if process is not None:
                    if not process.alive:
                        continue
                    if process.stopped_until > self.now:
                        heapq.heappush(
                            heap, (process.stopped_until, next(self.numbers), actor, what)
                        )
                        continue
                ticket, answer = what
                if ticket != actor.ticket or actor.dead:
                    continue
                actor.answer = answer
                self.current = actor
                actor.switch()
                self.current = None
            if self.trouble is not None:
                raise self.trouble
            if over is not None and over():
                return True
        self.now = max(self.now, until)
        return False

    def crashed(self, actor: Actor, error: Exception) -> None:
        if not self._over:
            self.trouble = error

    def close(self) -> None:
        """End all actors: what they would still do when they are unwound, they must not do."""
        self._over = True
        for actor in self._actors:
            actor.ticket += 1
            if actor and not actor.dead:
                actor.throw(greenlet.GreenletExit)
        self._actors.clear()
        self._heap.clear()

    # --- for actors ---------------------------------------------------------------------------------

    def _push(self, time: float, actor: Actor, answer: Any = None) -> None:
        heapq.heappush(self._heap, (time, next(self.numbers), actor, (actor.ticket, answer)))

    def wake(self, actor: Actor, ticket: int, answer: Any, delay: float = 0.0) -> None:
        """Let an actor go on that waits with this ticket."""
        if ticket == actor.ticket:
            heapq.heappush(
                self._heap, (self.now + delay, next(self.numbers), actor, (ticket, answer))
            )

    def wait(self, timeout: float | None = None) -> Any:
        """Give way until somebody wakes this actor; what it was given, None after the timeout."""
        actor = self.current
        if self._over or actor is None:
            raise greenlet.GreenletExit
        if timeout is not None:
            self._push(self.now + timeout, actor)
        self.hub.switch()
        if self._over:
            raise greenlet.GreenletExit
        actor.ticket += 1
        return actor.answer

    def sleep(self, seconds: float) -> None:
        self.wait(max(0.0, seconds))

    def pause(self) -> None:
        """A moment in which others may come first; mostly short."""
        actor = self.current
        if actor is None:
            if self._over:
                raise greenlet.GreenletExit
            return
        process = actor.process
        if process is not None and process.trap is not None:
            if actor.task is not None or not process.trap_busy:
                process.trap_in -= 1
                if process.trap_in <= 0:
                    trap, process.trap = process.trap, None
                    trap()
        chance = self.random.random()
        # Once in fifty times a thread has to wait for its turn, or the database for a disk.
        self.wait(chance * 0.004 if chance < 0.98 else (chance - 0.98) * 75)


class Future:
    """What ``concurrent.futures`` has under this name, as much of it as is used."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._number = next(schedule.numbers)
        self._done = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._waiting: list[tuple[Actor, int]] = []
        self._begun = False
        self._cancelled = False
        self._then: list[Callable[[Any], Any]] = []

    def __hash__(self) -> int:
        return self._number  # so that the order of a set is the same every time

    def set_running_or_notify_cancel(self) -> bool:
        self._begun = True
        return not self._cancelled

    def cancel(self) -> bool:
        if not self._done and not self._begun:
            self._cancelled = True
            self._finish()
        return self._cancelled

    def cancelled(self) -> bool:
        return self._cancelled

    def running(self) -> bool:
        return self._begun and not self._done

    def add_done_callback(self, then: Callable[[Any], Any]) -> None:
        if self._done:
            then(self)
        else:
            self._then.append(then)

    def set_result(self, result: Any) -> None:
        self._result = result
        self._finish()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._finish()

    def _finish(self) -> None:
        self._done = True
        for actor, ticket in self._waiting:
            self._schedule.wake(actor, ticket, True)
        self._waiting.clear()
        for then in self._then:
            then(self)

    def done(self) -> bool:
        return self._done

    def settle(self, timeout: float | None = None) -> bool:
        """Give way until it is done, or for so long."""
        schedule = self._schedule
        if not self._done:
            actor = schedule.current
            if actor is not None:
                self._waiting.append((actor, actor.ticket))
            schedule.wait(timeout)
        return self._done

    def result(self, timeout: float | None = None) -> Any:
        if not self.settle(timeout):
            raise TimeoutError
        if self._cancelled:
            raise futures.CancelledError
        if self._error is not None:
            raise self._error
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if not self.settle(timeout):
            raise TimeoutError
        return self._error


class Executor:
    """A pool of threads of whichever process asks for it."""

    def __init__(self, schedule: Schedule, workers: int | None = None, name: str = "pool") -> None:
        self._schedule = schedule
        self._workers = workers or 8
        self._name = name
        self._busy = 0
        self._down = False
        self._queue: list[tuple[Future, Callable[[], Any], Any]] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        if self._down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = Future(self._schedule)
        actor = self._schedule.current
        self._queue.append(
            (future, lambda: work(*args, **kwargs), actor.task if actor is not None else None)
        )
        if self._busy < self._workers:
            self._busy += 1
            process = actor.process if actor is not None else None
            self._schedule.start(process, self._name, self._serve)
        return future

    def _serve(self) -> None:
        while self._queue:
            future, work, task = self._queue.pop(0)
            if not future.set_running_or_notify_cancel():
                continue
            actor = self._schedule.current
            if actor is not None:
                actor.task = task
            try:
                result = work()
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)
        self._busy -= 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._down = True
        if cancel_futures:
            for future, _, _ in self._queue:
                future.cancel()


class _Waited(NamedTuple):
    done: set[Future]
    not_done: set[Future]


class Futures:
    """In the place of ``concurrent.futures`` in a module."""

    Executor = futures.Executor
    Future = Future
    CancelledError = futures.CancelledError
    TimeoutError = TimeoutError
    FIRST_COMPLETED = "FIRST_COMPLETED"
    FIRST_EXCEPTION = "FIRST_EXCEPTION"
    ALL_COMPLETED = "ALL_COMPLETED"

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def ThreadPoolExecutor(
        self, max_workers: int | None = None, thread_name_prefix: str = "pool", **_: Any
    ) -> Executor:
        return Executor(self._schedule, max_workers, thread_name_prefix)

    def wait(self, fs: Iterable[Future], timeout: float | None = None, **_: Any) -> Any:
        fs = list(fs)
        end = None if timeout is None else self._schedule.now + timeout
        for future in fs:
            future.settle(None if end is None else max(0.0, end - self._schedule.now))
        return _Waited(
            {future for future in fs if future.done()},
            {future for future in fs if not future.done()},
        )


class Time:
    """In the place of the module ``time``."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self.sleep = schedule.sleep

    def monotonic(self) -> float:
        return self._schedule.now

    time = perf_counter = monotonic


class Threading:
    """In the place of the module ``threading``."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def Event(self) -> "_Event":
        return _Event(self._schedule)

    def Thread(self, **options: Any) -> "_Thread":
        return _Thread(self._schedule, **options)

    def Lock(self) -> "_Lock":
        return _Lock(self._schedule)

    RLock = Lock


class _Event:
    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._set = False
        self._waiting: list[tuple[Actor, int]] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        for actor, ticket in self._waiting:
            self._schedule.wake(actor, ticket, True)
        self._waiting.clear()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set and (timeout is None or timeout > 0):
            actor = self._schedule.current
            if actor is not None:
                self._waiting.append((actor, actor.ticket))
            self._schedule.wait(timeout)
            if not self._set:
                self._waiting = [w for w in self._waiting if w[0] is not actor]
        return self._set


class _Thread:
    def __init__(
        self,
        schedule: Schedule,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        name: str = "thread",
        daemon: bool | None = None,
    ) -> None:
        self._schedule = schedule
        self._target = lambda: target(*args, **(kwargs or {}))
        self._name = name
        self._actor: Actor | None = None

    def start(self) -> None:
        current = self._schedule.current
        process = current.process if current is not None else None
        self._actor = self._schedule.start(process, self._name, self._target)

    def is_alive(self) -> bool:
        return self._actor is not None and not self._actor.dead

    def join(self, timeout: float | None = None) -> None:
        pass


class _Lock:
    """Held by one actor at a time; most are never held while anybody gives way."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._owner: Actor | None = None
        self._depth = 0
        self._waiting: list[tuple[Actor, int]] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = self._schedule.current
        while self._depth and self._owner is not me:
            if not blocking:
                return False
            if me is not None:
                self._waiting.append((me, me.ticket))
            self._schedule.wait()
        self._owner, self._depth = me, self._depth + 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            if self._waiting:
                actor, ticket = self._waiting.pop(0)
                self._schedule.wake(actor, ticket, True)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
