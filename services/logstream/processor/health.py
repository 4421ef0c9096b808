"""What keeps partitions from going on, in words for whoever looks after them."""

from logstream import metrics


class Health:
    """Problems by stream and partition; one at a time each. For readiness, beside the metric of the same name."""

    def __init__(self) -> None:
        self._problems: dict[tuple[str, int | None], tuple[str, str]] = {}

    def report(self, stream: str, partition: int | None, code: str, message: str) -> bool:
        """`partition` of `stream` (None: all of it) waits, because of `code`; whether that is new."""
        place = stream, partition
        before = self._problems.get(place, ("", ""))[0]
        self._problems[place] = code, message
        if before != code:
            self._count(stream, before)
            self._count(stream, code)
        return before != code

    def clear(self, stream: str, partition: int | None) -> None:
        """It goes on. Idempotent."""
        code, _ = self._problems.pop((stream, partition), ("", ""))
        self._count(stream, code)

    def problems(self) -> list[str]:
        """One sentence each; empty when all is well."""
        return [
            f"stream {stream}{'' if partition is None else f', partition {partition}'}: {message}"
            for (stream, partition), (_, message) in sorted(self._problems.items(), key=lambda item: str(item[0]))
        ]

    def _count(self, stream: str, code: str) -> None:
        if code:
            waiting = sum(of == stream and other == code for (of, _), (other, _) in self._problems.items())
            metrics.PROCESSOR_WAITING.labels(stream, code).set(waiting)
