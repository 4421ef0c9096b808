"""Where Kafka comes from: Maven's repository, by pinned version and checksum, into a cache outside the checkout.

Standard library only.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path

from logstream.errors import StartupError
from logstream.standalone.full.death import die_with

KAFKA_VERSION = "4.1.2"
CACHE_VARIABLE = "LOGSTREAM_CACHE"
MIN_JAVA = 17
FETCH_SECONDS = 900.0

Progress = Callable[[int, int], None]
"""Called with the number of files that are here, and how many there will be."""


def cache_folder() -> Path:
    """`$LOGSTREAM_CACHE`, else `~/.cache/logstream` (or where XDG_CACHE_HOME says)."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(os.path.abspath(given))
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "logstream"


def java() -> str:
    """The path of a Java that can run the broker. Raises StartupError with what to install."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if found is None:
        where = f"there is no bin/java in JAVA_HOME ({home})" if home else "there is no java on the PATH"
        raise StartupError(f"Kafka needs Java {MIN_JAVA} or newer and {where}; {_how_to_install()}")
    done = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', done.stderr + done.stdout)
    if version is None or int(version[1]) < MIN_JAVA:
        is_old = f"{found} is Java {version[1]}" if version else f"{found} does not tell its version"
        raise StartupError(f"Kafka needs Java {MIN_JAVA} or newer and {is_old}; {_how_to_install()}")
    return found


def kafka_libs(progress: Progress | None = None) -> Path:
    """The folder with the broker's jars, fetched the first time (about 43 MB), checked every time.

    Two processes that fetch at once do no harm: one waits for the other. Raises StartupError.
    """
    cache = cache_folder()
    libs = cache / f"kafka-{KAFKA_VERSION}"
    wanted = _checksums()
    try:
        if not _differences(libs, wanted):
            return libs
        cache.mkdir(mode=0o755, parents=True, exist_ok=True)
        with _locked(cache / f"kafka-{KAFKA_VERSION}.lock"):
            if _differences(libs, wanted):
                _fetch(cache, libs, wanted, progress)
    except OSError as error:
        raise StartupError(
            f"cannot keep Kafka in {cache}: {error.strerror or error}; choose another folder with {CACHE_VARIABLE}"
        ) from error
    return libs


def _fetch(cache: Path, libs: Path, wanted: Mapping[str, str], progress: Progress | None) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise StartupError(f"Kafka is fetched with Maven and there is no mvn on the PATH; {_how_to_install()}")
    prefix = f"kafka-{KAFKA_VERSION}.part-"
    for broken_off in cache.glob(f"{prefix}*"):
        shutil.rmtree(broken_off, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=cache) as folder:
        pom = Path(folder) / "pom.xml"
        pom.write_bytes((resources.files(__package__) / "kafka-pom.xml").read_bytes())
        fetched = Path(folder) / "libs"
        _run_maven(
            [
                maven, "--batch-mode", "--file", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime",
                f"-DoutputDirectory={fetched}",
            ],
            wanted, progress,
        )  # fmt: skip
        if differences := _differences(fetched, wanted):
            raise StartupError(
                f"Maven's repository gave another Kafka {KAFKA_VERSION} than expected ({differences[0]}); nothing "
                "was kept. A mirror that answers with other files is the usual reason: see settings.xml of Maven"
            )
        if libs.exists():
            # Incomplete or changed. Whoever has it open keeps the files it opened.
            libs.rename(Path(folder) / "old")
        fetched.rename(libs)
        if progress is not None:
            progress(len(wanted), len(wanted))


def _run_maven(command: list[str], wanted: Mapping[str, str], progress: Progress | None) -> None:
    told: list[str] = []
    seen: set[str] = set()
    waiting = os.getpid()
    with subprocess.Popen(
        command,
        preexec_fn=lambda: die_with(waiting),  # noqa: PLW1509 — it calls the C library alone
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                told = [*told[-200:], line.rstrip()]
                name = line.partition(" (")[0].rstrip().rpartition("/")[2]
                if "Downloaded from" in line and name in wanted and progress is not None:
                    seen.add(name)
                    progress(len(seen), len(wanted))
            status = process.wait(FETCH_SECONDS)
        except BaseException:
            process.kill()
            raise
    if status != 0:
        reasons = [line for line in told if "[ERROR]" in line] or told
        reason = reasons[0].replace("[ERROR] ", "").strip() if reasons else f"status {status}"
        raise StartupError(f"Maven could not fetch Kafka {KAFKA_VERSION}: {reason}")


def _checksums() -> dict[str, str]:
    """File name to SHA-256 in hexadecimal digits, of every jar."""
    text = (resources.files(__package__) / f"kafka-{KAFKA_VERSION}.sha256").read_text()
    pairs = (line.split() for line in text.splitlines())
    return {name: digest for digest, name in pairs}


def _differences(folder: Path, wanted: Mapping[str, str]) -> list[str]:
    """What is missing, too much or changed in `folder`, in words."""
    try:
        found = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return [f"{folder} is not there"]
    differences = [f"{name} is not expected" for name in sorted(found - wanted.keys())]
    for name, digest in wanted.items():
        if name not in found:
            differences.append(f"{name} is missing")
        elif _digest(folder / name) != digest:
            differences.append(f"{name} has another checksum")
    return differences


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held by one process at a time; let go when it ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _how_to_install() -> str:
    return (
        "install both with `apt install openjdk-17-jre-headless maven`, `dnf install java-21-openjdk-headless maven` "
        "or `brew install openjdk maven`"
    )
