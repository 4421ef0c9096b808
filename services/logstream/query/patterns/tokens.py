"""Shapes to atoms: words, punctuation and masks, after masking what looks like a value without having a digit."""

import re

from logstream.query.patterns.shape import MASK

Atoms = tuple[str, ...]

MAX_ATOMS = 64
"""Atoms looked at; the rest of a longer shape is one mask."""

_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}"
_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6}"
_M = r"<\*>"
# Order matters: a URL holds a path, a date holds a day. Each repeats only over characters that its next part
# excludes, so that none backtracks far.
_RULES = tuple(
    (re.compile(pattern, re.ASCII), value)
    for pattern, value in (
        # scheme://anything
        (r"\b[A-Za-z][A-Za-z+.-]{0,30}://[^\s\"'),;\]]*", MASK),
        # Tue Mar 3 12:00:00 2020 and its parts, of which the numbers are masks already
        (rf"\b(?:{_DAY},?\s+)?{_MONTH}\s+{_M}(?:[\s,:]+{_M})*", MASK),
        (rf"\b{_DAY},?\s+{_M}", MASK),
        # key="some text": a value whatever is in it
        (r"(?<=[=:])\s?\"[^\"]*\"|(?<=[=:])\s?'[^']*'", MASK),
        # MAC and IPv6 addresses, of which only the groups with a digit are masks already
        (
            rf"(?<![\w:>])(?=[0-9A-Fa-f:]{{0,32}}{_M})(?:[0-9A-Fa-f]{{1,4}}|{_M})?(?:::?(?:[0-9A-Fa-f]{{1,4}}\b|{_M})){{2,15}}",
            MASK,
        ),
        # name@host.domain
        (r"(?<![\w.+@-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}", MASK),
        # A quoted word is a name
        (r"\"[^\"\s]*\"", f'"{MASK}"'),
        (r"(?<!\w)'[^'\s]*'", f"'{MASK}'"),
        # An empty pair by itself stands for a missing value
        (r"(?<!\S)\(\)", f"({MASK})"),
        (r"(?<!\S)\[\]", f"[{MASK}]"),
        # /a/path, ~/a/path, C:\a\path, with its query
        (r"(?<![\w>.)*/~-])~?/(?:[^\s\"'()\[\]{},;:=|?]*)(?:\?[^\s\"')\]]*)?", MASK),
        (r"\b[A-Za-z]:\\[^\s\"'()\[\],;|]*", MASK),
        (r"\b(?:null|NULL|nil|None|[Tt]rue|TRUE|[Ff]alse|FALSE|NaN)\b", MASK),
    )
)
_ATOM = re.compile(rf"(\s*)({_M}|(?:[\w.$@%+~/\\-]|[^\x00-\x7f])+|\*+|::|\S)", re.ASCII)
_WORD = re.compile(r"[\w.$@%+~/\\#*-]+", re.ASCII)
_JOINS = frozenset((*":,/#@-.;", "::"))


def is_word(atom: str) -> bool:
    """Whether `atom` may tell one template from another: it has letters, and is not a mask."""
    return atom != MASK and any(map(str.isalpha, atom))


def atoms_of(shape: str) -> list[tuple[bool, str]]:
    """The atoms of `shape`, each with whether a space stands before it.

    A word touching a mask is part of the value; masks in a row, also those that a list's punctuation separates,
    are one.
    """
    for pattern, value in _RULES:
        shape = pattern.sub(value, shape)
    out: list[tuple[bool, str]] = []
    for number, match in enumerate(_ATOM.finditer(shape)):
        if number == MAX_ATOMS:
            _append(out, True, MASK)
            break
        _append(out, bool(match[1]) and bool(out), match[2])
    return out


def _append(out: list[tuple[bool, str]], space: bool, atom: str) -> None:
    if atom != MASK:
        # A word's characters right after a mask belong to its value; a full stop ends the sentence.
        if out and out[-1][1] == MASK and not space and atom != "." and _WORD.fullmatch(atom):
            return
        out.append((space, atom))
        return
    if out and not space and out[-1][1] != MASK and _WORD.fullmatch(out[-1][1]):
        space = out.pop()[0]
    if len(out) > 1 and out[-1][1] in _JOINS and out[-2][1] == MASK:
        out.pop()
    if not out or out[-1][1] != MASK:
        out.append((space, MASK))


def joined(atoms: Atoms) -> Atoms:
    """`atoms` with masks in a row as one, as `atoms_of` leaves them."""
    out: list[str] = []
    for atom in atoms:
        if atom == MASK:
            if len(out) > 1 and out[-1] in _JOINS and out[-2] == MASK:
                out.pop()
            if out and out[-1] == MASK:
                continue
        out.append(atom)
    return tuple(out)
