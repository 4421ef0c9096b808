"""Message templates: grouping accuracy on Loghub's labelled samples, and lines a second on generated ones.

    python -m benchmarks.patterns [--rows 1000000] [--loghub DIR]

Grouping accuracy is Zhu et al.'s ("Tools and Benchmarks for Automated Log Parsing", 2019): the share of lines whose
group has exactly the lines of their labelled group. The input is the column Content, the message without its header,
as LogStream stores it.
"""

import argparse
import csv
import json
import time
from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path

from tests.support.loghub import LOGHUB

from benchmarks.workload import Workload
from logstream.query.patterns import ShapeCounter, learn, shape_of, summarise


def grouping_accuracy(labels: Sequence[Hashable], groups: Sequence[Hashable]) -> float:
    """The share of lines, 0 to 1, whose group in `groups` is the same set of lines as their group in `labels`."""
    return sum(len(lines) for lines in _sets(groups) & _sets(labels)) / len(labels)


def _sets(groups: Sequence[Hashable]) -> set[frozenset[int]]:
    members: dict[Hashable, list[int]] = defaultdict(list)
    for line, group in enumerate(groups):
        members[group].append(line)
    return {frozenset(lines) for lines in members.values()}


def read_labelled(path: Path) -> tuple[list[str], list[str]]:
    """Messages and labels of one of Loghub's *_structured.csv."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = [(row["Content"], row["EventId"]) for row in csv.DictReader(file)]
    return [message for message, _ in rows], [label for _, label in rows]


def templates_of(messages: Sequence[str]) -> list[str]:
    """The template's id of each message."""
    shapes = list(map(shape_of, messages))
    templates = learn(set(shapes))
    return [templates[shape].id for shape in shapes]


def accuracies(folder: Path) -> dict[str, float]:
    """Grouping accuracy by name of each labelled file in a folder of `folder`."""
    found = {}
    for path in sorted(folder.glob("*/*_structured.csv")):
        messages, labels = read_labelled(path)
        found[path.parent.name] = grouping_accuracy(labels, templates_of(messages))
    return found


def measure_speed(rows: int) -> dict[str, float]:
    """CPU seconds of one pass over `rows` generated messages, and of learning their templates."""
    workload = Workload(rows)
    messages = [message for number in range(workload.batches) for message in workload.batch(number).messages]
    counter = ShapeCounter()
    begin = time.process_time()
    counter.add(messages)
    counted = time.process_time()
    patterns = summarise(counter.shapes)
    end = time.process_time()
    if sum(pattern.count for pattern in patterns) + counter.rest != rows:
        raise SystemExit("the patterns' counts do not add up to the lines read")
    return {
        "lines": rows,
        "shapes": len(counter.shapes),
        "patterns": len(patterns),
        "count_seconds": round(counted - begin, 3),
        "learn_seconds": round(end - counted, 3),
        "lines_per_second": round(rows / (end - begin)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="generated lines to time")
    parser.add_argument("--loghub", type=Path, default=LOGHUB, help="folder of Loghub's samples")
    arguments = parser.parse_args()
    files = accuracies(arguments.loghub)
    if not files:
        raise SystemExit(f"no */*_structured.csv in {arguments.loghub}: set LOGSTREAM_LOGHUB")
    for name, accuracy in files.items():
        print(f"{name:<12} {accuracy:.4f}")
    speed = measure_speed(arguments.rows)
    mean = sum(files.values()) / len(files)
    print(
        json.dumps({"grouping_accuracy": round(mean, 4), "files": {k: round(v, 4) for k, v in files.items()}, **speed})
    )


if __name__ == "__main__":
    main()
