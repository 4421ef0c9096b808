"""`logstream up`: a supervisor of two processes, the embedded engine and the application.

`run` prepares, supervises and returns an exit status; `python -m logstream.standalone.up` is the same as a
process of its own, which the command line turns into, so that nothing but the standard library stays in
memory. Why these processes: docs/adr/0009-processes-of-logstream-up.md.
"""

import os
import sys
from collections.abc import Sequence

from logstream import __version__
from logstream.errors import StartupError
from logstream.standalone import open_files, preflight
from logstream.standalone.banner import Addresses, banner, url
from logstream.standalone.child import Child, Command
from logstream.standalone.options import UpOptions, parse
from logstream.standalone.pulse import Pulse, hang_seconds, reachable
from logstream.standalone.supervisor import Message, Supervisor, say

ENGINE_HOST = "127.0.0.1"
"""The engine has no authentication, so it stays on loopback whatever --host says."""

_CHILD_ENVIRONMENT = {
    # glibc gives each thread an arena of its own that rarely shrinks; two are enough for these processes.
    "MALLOC_ARENA_MAX": "2",
}


def run(options: UpOptions) -> int:
    """Run the platform until it is stopped; the exit status. Problems are told in one sentence."""
    try:
        return _run(options)
    except StartupError as error:
        say(error.message)
        return 1


def _run(options: UpOptions) -> int:
    _check_options(options)
    hang = hang_seconds()
    open_files.raise_limit()
    data = preflight.prepare_folder(options.data)
    lock = preflight.lock(data)
    preflight.check_space(data)
    collector = preflight.listen(options.host, options.collector_port, "--collector-port")
    api = preflight.listen(options.host, options.api_port, "--api-port")
    engine_port = preflight.free_port(ENGINE_HOST, options.clickhouse_port, "--clickhouse-port")
    addresses = Addresses(
        collector=url(options.host, collector.getsockname()[1]),
        api=url(options.host, api.getsockname()[1]),
        clickhouse=url(ENGINE_HOST, engine_port),
    )
    engine = Command(
        name="engine",
        arguments=(
            "-m", "logstream.standalone.engine", "--path", str(data / "clickhouse"),
            "--host", ENGINE_HOST, "--port", str(engine_port), "--stop-on-stdin-eof",
        ),
        environment=_CHILD_ENVIRONMENT,
        descriptors=(lock,),
        executable=sys.executable,
    )  # fmt: skip
    app = Command(
        name="app",
        arguments=(
            "-m", "logstream.standalone.app", "--data", str(data), "--host", options.host,
            "--collector-fd", str(collector.fileno()), "--api-fd", str(api.fileno()),
            "--clickhouse-url", addresses.clickhouse, *_optional(options),
        ),
        environment=_CHILD_ENVIRONMENT,
        descriptors=(lock, collector.fileno(), api.fileno()),
        executable=sys.executable,
    )  # fmt: skip

    def ready(message: Message) -> None:
        password = bool(os.environ.get("LOGSTREAM_ENGINE_PASSWORD"))
        _print(banner(__version__, addresses, data, message.get("first_login"), colour=_colour(), password=password))

    if not _colour():
        say(f"starting on {data}")
    engine_pulse = app_pulse = None
    if hang is not None:
        engine_pulse = Pulse((ENGINE_HOST, engine_port), "/ping", hang)
        host, port, *_ = api.getsockname()
        app_pulse = Pulse((reachable(host), port), "/livez", hang)
    children = Child(engine, pulse=engine_pulse), Child(app, pulse=app_pulse)
    supervisor = Supervisor(*children, (collector, api), on_ready=ready, say=say)
    return supervisor.run()


def _check_options(options: UpOptions) -> None:
    ports = {
        "--collector-port": options.collector_port,
        "--api-port": options.api_port,
        "--clickhouse-port": options.clickhouse_port,
    }
    for name, port in ports.items():
        if not 0 <= port <= 65_535:
            raise StartupError(f"{name} must be between 0 and 65535, not {port}")
    chosen = [port for port in ports.values() if port]
    if len(set(chosen)) != len(chosen):
        raise StartupError(f"{', '.join(ports)} must differ, not {', '.join(map(str, ports.values()))}")
    if options.retention_days is not None and not 1 <= options.retention_days <= 10_950:
        raise StartupError(f"--retention-days must be between 1 and 10950, not {options.retention_days}")


def _optional(options: UpOptions) -> list[str]:
    given: list[str] = []
    if options.retention_days is not None:
        given += ["--retention-days", str(options.retention_days)]
    if options.signup is not None:
        given += ["--signup", "open" if options.signup else "closed"]
    return given


def _colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _print(text: str) -> None:
    # A reader that went away (`logstream up | head`) is no reason to stop the platform.
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError:
        pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the supervisor's process."""
    # Logs, keys and accounts are this user's, also in a folder that was made before with other rights.
    os.umask(0o077)
    return run(parse(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    sys.exit(main())
