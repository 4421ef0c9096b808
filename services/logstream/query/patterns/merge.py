"""Which words of the distinct shapes are values: shapes to templates.

Two views of the same question are taken in turn until neither finds more:

- *One position*: shapes that are the same but for one word. Many different words there make it a value; few make
  them different kinds of message.
- *Several positions* (after IPLoM, Makanju et al. 2009, and Brain, Yu et al. 2023): shapes with the same
  punctuation are split by the position with the fewest different words, until all positions that still differ have
  enough different words for values and most of the words are common.

Only which shapes there are counts, not how often nor in which order they came.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import reduce
from operator import xor

from logstream.query.patterns.shape import MASK
from logstream.query.patterns.template import Template
from logstream.query.patterns.tokens import Atoms, atoms_of, is_word, joined

# How many different words at one position make a value, by what the words look like.
_BESIDE_A_VALUE = 2
"""A masked value has been seen in the same place, or after the same two words in another kind of message."""
_NAMES = 3
"""All hold punctuation (host names, classes, files)."""
_WORDS = 4
_CAPITALS = 8
"""All begin with a capital: states (NEW, RUNNING) rather than values."""
_FIRST_NAMES = 4
_FIRST_WORDS = 12
"""At the beginning, where most messages have their subject, or after which only one word is left."""
_COMMON = 0.5
"""Least share of common words in a template that has several values without digits."""
_MAX_ROUNDS = 10

_UNITS = frozenset(
    {"B", "kB", "KB", "MB", "GB", "TB", "PB", "KiB", "MiB", "GiB", "TiB", "byte", "bytes"}
    | {"ns", "us", "µs", "ms", "s", "sec", "secs", "second", "seconds", "min", "minute", "minutes", "hour", "hours"}
)
"""The same quantity is written with one or another of them: two are enough."""
_NAME = re.compile(r"[^A-Za-z]")
_EVENT = re.compile(r"[a-z]+(?:ed|ing)", re.ASCII)

Clusters = dict[Atoms, set[Atoms]]
"""A template's atoms, with the atoms of the shapes that it stands for."""


def learn(shapes: Iterable[str]) -> Mapping[str, Template]:
    """The template of each of `shapes`. The same set of shapes gives the same templates."""
    atoms: dict[str, Atoms] = {}
    spaces: dict[Atoms, list[tuple[bool, str]]] = {}
    for shape in sorted(shapes):
        spaced = atoms_of(shape)
        own = atoms[shape] = tuple(atom for _, atom in spaced)
        spaces.setdefault(own, spaced)
    clusters: Clusters = {own: {own} for own in spaces}
    for _ in range(_MAX_ROUNDS):
        before = len(clusters)
        clusters = _merge_several_positions(_merge_one_position(clusters))
        if len(clusters) == before:
            break
    templates: dict[Atoms, Template] = {}
    for merged, members in clusters.items():
        template = Template(merged, _text(merged, spaces[min(members)]))
        templates.update(dict.fromkeys(members, template))
    return {shape: templates[own] for shape, own in atoms.items()}


def _needed(position: int, words: Collection[str], common: int) -> int:
    """How many different `words` at `position` make it a value, in messages with `common` other words."""
    if MASK in words or _UNITS.issuperset(words):
        return _BESIDE_A_VALUE
    names = all(map(_NAME.search, words))
    if position == 0:
        return _FIRST_NAMES if names else _FIRST_WORDS
    if names:
        return _NAMES
    if common < 2 or sum(_EVENT.fullmatch(word) is not None for word in words) * 2 > len(words):
        return _FIRST_WORDS
    return _CAPITALS if all(word[0].isupper() for word in words) else _WORDS


def _merge_one_position(clusters: Clusters) -> Clusters:
    for _ in range(_MAX_ROUNDS):
        # A place is the rest of the message. A hash that any one atom can be taken out of (Zobrist's) stands for it:
        # slices of every message at every position would take the square of its length.
        totals = {atoms: reduce(xor, map(hash, enumerate(atoms)), len(atoms)) for atoms in clusters}
        commons = {atoms: sum(map(is_word, atoms)) for atoms in clusters}
        befores = {
            atoms[i - 2 : i]
            for atoms in clusters
            for i in range(2, len(atoms))
            if atoms[i] == MASK and is_word(atoms[i - 2]) and is_word(atoms[i - 1])
        }
        values: dict[Atoms, set[int]] = defaultdict(set)
        for i in range(max(map(len, clusters), default=0)):
            places: dict[int, list[Atoms]] = defaultdict(list)
            for atoms, total in totals.items():
                if i < len(atoms) and (atoms[i] == MASK or is_word(atoms[i])):
                    places[total ^ hash((i, atoms[i]))].append(atoms)
            for same in places.values():
                if len(same) > 1:
                    words = [atoms[i] for atoms in same]
                    common = commons[same[0]] - is_word(words[0])
                    needed = _BESIDE_A_VALUE if same[0][max(i - 2, 0) : i] in befores else _needed(i, words, common)
                    if common and len(words) >= needed:
                        for atoms in same:
                            values[atoms].add(i)
        if not values:
            break
        clusters = _masked(clusters, values)
    return clusters


def _merge_several_positions(clusters: Clusters) -> Clusters:
    groups: dict[Atoms, list[Atoms]] = defaultdict(list)
    for atoms in clusters:
        groups[tuple(MASK if is_word(atom) else atom for atom in atoms)].append(atoms)
    values: dict[Atoms, set[int]] = {}
    pending = list(groups.values())
    while pending:
        group = pending.pop()
        columns = [set(column) for column in zip(*group, strict=True)]
        different = [i for i, column in enumerate(columns) if len(column) > 1]
        if len(different) < 2:
            continue  # the other view decides about one position
        common = sum(len(column) == 1 and is_word(group[0][i]) for i, column in enumerate(columns))
        if common >= max(2, _COMMON * (common + len(different))) and all(
            len(columns[i]) >= _needed(i, columns[i], common) for i in different
        ):
            values.update((atoms, set(different)) for atoms in group)
            continue
        split = min(different, key=lambda i: len(columns[i]))
        parts: dict[str, list[Atoms]] = defaultdict(list)
        for atoms in group:
            parts[atoms[split]].append(atoms)
        pending.extend(parts.values())
    return _masked(clusters, values)


def _masked(clusters: Clusters, values: Mapping[Atoms, set[int]]) -> Clusters:
    """`clusters` with a mask at each position in `values`; those that are then the same are one."""
    merged: Clusters = defaultdict(set)
    for atoms, members in clusters.items():
        positions = values.get(atoms)
        if positions:
            masked = joined(tuple(MASK if i in positions else atom for i, atom in enumerate(atoms)))
            merged[masked] |= members
        else:
            merged[atoms] |= members
    return merged


def _text(merged: Atoms, spaced: Iterable[tuple[bool, str]]) -> str:
    """`merged` with the spaces of one of the shapes that it stands for."""
    source = iter(spaced)
    text = ""
    for atom in merged:
        # A mask may stand for several atoms of the shape: they are passed over on the way to the next constant.
        space = next((space for space, own in source if atom in (MASK, own)), True)
        text += " " + atom if space and text else atom
    return text
