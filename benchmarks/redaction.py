"""What redaction costs a row, with every detector on, and what the detectors find in Loghub's samples.

    python -m benchmarks.redaction [--rows 200000] [--loghub DIR]

CPU microseconds a row in batches of 1,000, the best of three passes: without a rule; of rows of the workload that hold
nothing; of all rows of the workload, of which one in eight holds an IP address; and of Loghub's lines as messages, many
of which hold one. Loghub's lines are found, not labelled: see docs/redaction.md for what was looked at by eye.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.support.loghub import LOGHUB

from benchmarks.workload import Workload
from logstream.record import Batch, Decoded, Level, Record
from logstream.redact import Redactor, redactor_for
from logstream.settings import RedactionSettings

BATCH_ROWS = 1_000
_PASSES = 3


def microseconds(redactor: Redactor, batches: Sequence[Batch]) -> float:
    """CPU time a row, the best of some passes."""
    rows = sum(map(len, batches))
    decoded = [Decoded(batch) for batch in batches]
    best = float("inf")
    for _ in range(_PASSES):
        begin = time.process_time()
        for piece in decoded:
            redactor.redact(piece)
        best = min(best, time.process_time() - begin)
    return round(best / rows * 1e6, 3)


def cut(records: Sequence[Record]) -> list[Batch]:
    return [Batch.of(records[at : at + BATCH_ROWS]) for at in range(0, len(records), BATCH_ROWS)]


def touched(redactor: Redactor, messages: Sequence[str]) -> dict[str, int]:
    """In how many messages each rule finds something."""
    counts: Counter[str] = Counter()
    for message in messages:
        counts.update(rule.name for rule in redactor.explain(message)[1])
    return dict(counts.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the workload")
    parser.add_argument("--loghub", type=Path, default=LOGHUB, help="folder of Loghub's samples")
    arguments = parser.parse_args()
    everything = redactor_for(RedactionSettings(detectors=("all",), rules=()), "default")
    nothing = redactor_for(RedactionSettings(detectors=(), rules=()), "default")
    workload = Workload(arguments.rows, BATCH_ROWS)
    batches = [workload.batch(number) for number in range(workload.batches)]
    clean = cut([record for batch in batches for record in batch if not everything.explain(record.message)[1]])
    report: dict[str, object] = {
        "no_rule_us_per_row": microseconds(nothing, batches),
        "clean_us_per_row": microseconds(everything, clean),
        "workload_us_per_row": microseconds(everything, batches),
    }
    files: dict[str, object] = {}
    for path in sorted(arguments.loghub.glob("*/*_2k.log")):
        messages = path.read_text(encoding="utf-8", errors="replace").splitlines()
        cost = microseconds(everything, cut([Record(0, "s", Level.INFO, message) for message in messages]))
        found = touched(everything, messages)
        files[path.parent.name] = {"lines": len(messages), "us_per_line": cost, "touched": found}
        print(f"{path.parent.name:<12} {cost:7.3f} µs a line; lines touched: {found or 'none'}")
    print(json.dumps({**report, "loghub": files}))


if __name__ == "__main__":
    main()
