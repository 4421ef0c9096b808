"""The progress bar of `logstream send`: bytes, lines per second, time left. Nothing when nobody looks."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from logstream.cli.sender import Totals

if TYPE_CHECKING:
    import rich.progress

    from logstream.cli.follow import LogFile


class Progress:
    """A bar over all files on standard error; with `follow` a counter, as the end is not known."""

    def __init__(self, paths: Sequence[Path], totals: Totals, *, follow: bool, quiet: bool) -> None:
        self._sizes = {path: path.stat().st_size if path.exists() else 0 for path in paths}
        self._done = dict.fromkeys(paths, 0)
        self._totals = totals
        self._follow = follow
        self._bar: rich.progress.Progress | None = None
        if sys.stderr.isatty() and not quiet:
            self._bar = self._make()

    def _make(self) -> "rich.progress.Progress":
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        console = Console(stderr=True)
        lines = TextColumn("{task.fields[sent]:,} sent")
        if self._follow:
            return Progress(SpinnerColumn(), TextColumn("following"), lines, console=console, transient=True)
        return Progress(
            BarColumn(), DownloadColumn(), TransferSpeedColumn(), lines, TextColumn("ETA"), TimeRemainingColumn(),
            console=console, transient=True,
        )  # fmt: skip

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("send", total=sum(self._sizes.values()) or None, sent=0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, file: "LogFile") -> None:
        """Called after each acknowledged batch."""
        if self._bar is not None:
            self._done[file.path], self._sizes[file.path] = file.progress()
            sent = self._totals.accepted + self._totals.duplicates
            self._bar.update(
                self._task, completed=sum(self._done.values()), total=sum(self._sizes.values()) or None, sent=sent
            )
