"""Steps of one reconcile: each succeeds, fails with a reason, or is not begun because of another one."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from logstream.errors import LogStreamError, Unavailable
from logstream_operator import metrics
from logstream_operator.cluster.errors import ClusterAway, ClusterRefused
from logstream_operator.external.problem import reason_of


@dataclass(frozen=True, slots=True)
class Failure:
    """reason: in CamelCase. passing: it may succeed later though nobody changes anything."""

    reason: str
    message: str
    passing: bool = True


@dataclass(slots=True)
class Steps:
    """What came of them, by the name of the step's condition (AccountsReady, TopicReady, …)."""

    failures: dict[str, Failure] = field(default_factory=dict)
    succeeded: set[str] = field(default_factory=set)
    order: list[str] = field(default_factory=list)
    """Names of steps, as they were come to."""

    @asynccontextmanager
    async def step(self, name: str, backend: str, *, after: tuple[str, ...] = ()) -> AsyncIterator[bool]:
        """Yields whether to begin at all: every step in `after` has succeeded. A LogStreamError is noted; what comes
        from the API server itself passes through."""
        self.order.append(name)
        missing = next((other for other in after if other not in self.succeeded), None)
        if missing is not None:
            self.failures[name] = Failure("Waiting", f"waits for {missing}")
            yield False
            return
        began = time.perf_counter()
        try:
            yield True
        except ClusterAway:
            raise
        except LogStreamError as error:
            self.fail(name, error, backend)
        else:
            if name not in self.failures:
                self.succeeded.add(name)
        finally:
            metrics.STEP_SECONDS.labels(name).observe(time.perf_counter() - began)

    def fail(self, name: str, error: LogStreamError, backend: str) -> None:
        self.failures[name] = Failure(
            reason_of(error, backend), error.message, isinstance(error, Unavailable | ClusterRefused)
        )

    @property
    def failed(self) -> bool:
        return bool(self.failures)

    @property
    def passing(self) -> bool:
        """Whether asking again soon makes sense."""
        return any(failure.passing for failure in self.failures.values() if failure.reason != "Waiting")
