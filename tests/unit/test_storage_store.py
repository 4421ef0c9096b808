"""The store's pure parts."""

from hypothesis import given
from hypothesis import strategies as st

from logstream.storage.store import _CHUNK, _chunks


@given(st.lists(st.binary(max_size=10) | st.sampled_from([bytes(_CHUNK - 1), bytes(_CHUNK + 1)]), max_size=12))
async def test_chunks_are_the_parts_in_few_pieces(parts: list[bytes]) -> None:
    pieces = [piece async for piece in _chunks(parts)]
    assert b"".join(pieces) == b"".join(parts)
    assert all(len(piece) >= _CHUNK for piece in pieces[:-1])
