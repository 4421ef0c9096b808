"""The reference of the resources is what their schemas say."""

from pathlib import Path

import pytest

from logstream_operator.spec import reference

DOC = Path(__file__).parents[2] / "docs" / "resources.md"


def test_the_document_is_up_to_date() -> None:
    """`python -m logstream_operator.spec.reference docs/resources.md` brings it up to date."""
    written, heading, _ = DOC.read_text().partition(reference.HEADING)
    assert heading
    assert DOC.read_text() == written + reference.text()


def test_what_is_written_by_hand_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "resources.md"
    path.write_text(f"By hand.\n\n{reference.HEADING}stale\n")
    assert reference.main([str(path)]) == 0
    assert path.read_text().startswith(f"By hand.\n\n{reference.HEADING}")
    assert "`collector.replicas`" in path.read_text()
    assert "stale" not in path.read_text()
    assert "dataPlaneRef cannot change: make a new LogStream instead" in path.read_text()
    path.write_text("no such line")
    assert reference.main([str(path)]) == 1
    assert "has no line" in capsys.readouterr().err
