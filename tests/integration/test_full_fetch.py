"""How Kafka comes into the cache: whole and as expected, or not at all."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from logstream.errors import StartupError
from logstream.standalone.full import fetch

# A Maven whose repository is the folder $JARS: it copies what the real one would download.
_MAVEN = """#!{python}
import os, shutil, sys, time
target = next(word.partition("=")[2] for word in sys.argv if word.startswith("-DoutputDirectory="))
with open(os.environ["MAVEN_RUNS"], "a") as runs:
    runs.write("run\\n")
if os.environ.get("MAVEN_FAILS"):
    print("[INFO] Scanning for projects...\\n[ERROR] Could not transfer artifact: Connection refused")
    sys.exit(1)
os.mkdir(target)
for name in os.listdir(os.environ["JARS"]):
    os.link(os.path.join(os.environ["JARS"], name), os.path.join(target, name))
    print(f"[INFO] Downloaded from central: https://repository/x/{{name}} (1 kB at 1 kB/s)", flush=True)
"""


@pytest.fixture(scope="session")
def jars() -> Path:
    """The real jars, from the real cache."""
    try:
        return fetch.kafka_libs()
    except StartupError as error:
        reason = f"NOT TESTED: {error.message}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def cache(tmp_path: Path, jars: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and a Maven that gives the real jars, or what the test changes in `tmp_path/jars`."""
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text(_MAVEN.format(python=sys.executable))
    maven.chmod(maven.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "jars").mkdir()
    for jar in jars.iterdir():
        shutil.copy(jar, tmp_path / "jars" / jar.name)
    monkeypatch.setenv("PATH", f"{maven.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JARS", str(tmp_path / "jars"))
    monkeypatch.setenv("MAVEN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LOGSTREAM_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    # Nothing half-fetched is left, whatever the test did.
    assert not list((tmp_path / "cache").glob(f"kafka-{fetch.KAFKA_VERSION}.*[!k]"))


def _runs(cache: Path) -> int:
    runs = cache.parent / "runs"
    return len(runs.read_text().splitlines()) if runs.exists() else 0


def test_it_is_fetched_once(cache: Path) -> None:
    told: list[tuple[int, int]] = []
    libs = fetch.kafka_libs(lambda done, total: told.append((done, total)))
    assert libs == cache / f"kafka-{fetch.KAFKA_VERSION}"
    assert told[0][0] == 1
    assert told[-1] == (len(list(libs.iterdir())), len(list(libs.iterdir())))
    assert fetch.kafka_libs() == libs
    assert _runs(cache) == 1


def test_a_file_that_was_changed_in_the_cache_is_fetched_again(cache: Path) -> None:
    libs = fetch.kafka_libs()
    jar = next(libs.glob("kafka_*.jar"))
    jar.unlink()
    jar.write_bytes(b"something else")
    fetch.kafka_libs()
    assert jar.stat().st_size > 1_000_000
    assert _runs(cache) == 2


@pytest.mark.parametrize("change", ["other", "missing", "more"])
def test_what_is_not_expected_is_not_kept(cache: Path, change: str) -> None:
    jar = next((cache.parent / "jars").glob("kafka-clients-*.jar"))
    if change == "missing":
        jar.unlink()
    elif change == "other":
        jar.write_bytes(jar.read_bytes() + b"x")
    else:
        (jar.parent / "another.jar").write_bytes(b"")
    with pytest.raises(StartupError, match=r"gave another Kafka .* than expected .*nothing was kept"):
        fetch.kafka_libs()
    assert not (cache / f"kafka-{fetch.KAFKA_VERSION}").exists()


def test_two_at_once_fetch_once(cache: Path) -> None:
    command = [sys.executable, "-c", "from logstream.standalone.full import fetch; print(fetch.kafka_libs())"]
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(subprocess.run, command, capture_output=True, text=True, check=True) for _ in range(3)]
        assert {one.result().stdout.strip() for one in running} == {str(cache / f"kafka-{fetch.KAFKA_VERSION}")}
    assert _runs(cache) == 1


def test_maven_s_own_reason_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAVEN_FAILS", "1")
    with pytest.raises(StartupError, match=r"Maven could not fetch Kafka .*: Could not transfer artifact"):
        fetch.kafka_libs()


def test_a_missing_maven_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(cache))
    with pytest.raises(StartupError, match="no mvn on the PATH; install both with `apt install openjdk-17-jre-headl"):
        fetch.kafka_libs()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LOGSTREAM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StartupError, match=r"cannot keep Kafka in .*choose another folder with LOGSTREAM_CACHE"):
        fetch.kafka_libs()


def test_an_old_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.20\" 2023-07-18' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(StartupError, match=r"needs Java 17 or newer and .*/bin/java is Java 11; install"):
        fetch.java()
