"""What must hold before anything is started: a folder to write in, room, nobody else there, free ports.

Every failure is a StartupError: one sentence that says what to do. Standard library only.
"""

import errno
import fcntl
import os
import socket
import time
from pathlib import Path

from logstream.errors import StartupError

MIB = 1024 * 1024
MIN_START_BYTES = 64 * MIB
"""Without this much free space neither the log nor the engine could open their files. Ingestion has a higher
floor of its own (LOGSTREAM_BUS_MIN_FREE_DISK_BYTES): below that one, what is stored can still be searched."""
ORPHANS_SECONDS = 20.0
"""How long the children of a killed supervisor may take to finish before a new start gives up on them."""


def prepare_folder(data: Path) -> Path:
    """The folder's absolute path, made (mode 0700) when it is not there and proved to be writable."""
    data = Path(os.path.abspath(data))
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = data / f".probe-{os.getpid()}"
        probe.write_bytes(b"logstream")
        probe.unlink()
    except FileExistsError as error:
        raise StartupError(f"{data} is a file; choose a folder with --data") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StartupError(f"the disk of {data} is full; free some space or choose another --data") from error
        raise StartupError(
            f"cannot write to {data}: {error.strerror or error}; choose another folder with --data"
        ) from error
    return data


def check_space(data: Path, *, minimum: int = MIN_START_BYTES) -> None:
    """Raises StartupError when the disk of `data` has fewer than `minimum` bytes free for this user."""
    stat = os.statvfs(data)
    free = stat.f_bavail * stat.f_frsize
    if free < minimum:
        raise StartupError(
            f"only {free // MIB} MiB are free on the disk of {data} and at least {minimum // MIB} MiB are needed; "
            "free some space or choose another --data"
        )


def lock(data: Path, *, patience: float = ORPHANS_SECONDS) -> int:
    """Take the folder for this process; returns the descriptor that holds the lock.

    The children inherit the descriptor, so the folder stays taken until the last of them has ended, also when
    the supervisor is killed. Then a new start waits up to `patience` seconds for them.
    """
    descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            if _alive(holder) or time.monotonic() >= deadline:
                os.close(descriptor)
                raise StartupError(
                    f"LogStream is already running on {data} (process {holder or 'unknown'}); "
                    "stop it first or choose another --data"
                ) from None
            time.sleep(0.1)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def listen(host: str, port: int, option: str) -> socket.socket:
    """A listening socket; `option` is named when the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StartupError(f"cannot listen on {host}:{port}: {reason}; choose another --host or {option}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(2048)
    except (OSError, OverflowError) as error:
        sock.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise StartupError(
                f"port {port} on {host} is already in use; stop what uses it or choose another with {option}"
            ) from error
        reason = getattr(error, "strerror", None) or error
        wrong = "--host" if getattr(error, "errno", None) == errno.EADDRNOTAVAIL else option
        raise StartupError(f"cannot listen on {host}:{port}: {reason}; choose another with {wrong}") from error
    return sock


def free_port(host: str, port: int, option: str) -> int:
    """`port`, proved to be free, or one the system chose for 0; for a child that listens by itself."""
    with listen(host, port, option) as sock:
        return int(sock.getsockname()[1])
