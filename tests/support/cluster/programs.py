"""Where the control plane and Helm come from: Go modules pinned by go.mod and go.sum, built into a cache.

`kubernetes/` is one program with all components, `helm/` is Helm's own. The cache is
`logstream.standalone.full.fetch.cache_folder()`, outside the checkout; a changed pin is another folder in it.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from logstream.errors import StartupError
from logstream.standalone.full.death import die_with
from logstream.standalone.full.fetch import CACHE_VARIABLE, cache_folder

COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)
MIN_GO = (1, 24)
TELL_SECONDS = 15.0

Tell = Callable[[str], None]
"""Called with one line about what is going on, now and then."""

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Module:
    """`folder` has go.mod and go.sum, and what it pins `requirement` to is the version.

    package: what to build; variables: what to set in it, by -ldflags; also: further names of the program.
    """

    name: str
    folder: Path
    requirement: str
    package: str
    variables: Mapping[str, str]
    also: Sequence[str] = ()

    @property
    def version(self) -> str:
        """As go.mod pins it, such as v1.34.4."""
        text = (self.folder / "go.mod").read_text()
        found = re.search(rf"^\s*(?:require )?{re.escape(self.requirement)} (v\S+)", text, re.MULTILINE)
        assert found is not None, f"go.mod of {self.name} does not require {self.requirement}"
        return found[1]

    @property
    def built(self) -> Path:
        """The folder in the cache that a build of exactly these pins and this source has."""
        digest = hashlib.sha256(platform.machine().encode())
        for path in sorted((*self.folder.glob("go.*"), *self.folder.glob("*.go"))):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return cache_folder() / f"{self.name}-{self.version}-{digest.hexdigest()[:12]}"


KUBERNETES = Module(
    "kubernetes",
    _HERE / "kubernetes",
    "k8s.io/kubernetes",
    ".",
    {
        "k8s.io/component-base/version.gitVersion": "{version}",
        "k8s.io/component-base/version.gitMajor": "{major}",
        "k8s.io/component-base/version.gitMinor": "{minor}",
    },
    also=COMPONENTS,
)
HELM = Module(
    "helm",
    _HERE / "helm",
    "helm.sh/helm/v3",
    "helm.sh/helm/v3/cmd/helm",
    {"helm.sh/helm/v3/internal/version.version": "{version}"},
)


def control_plane(tell: Tell | None = None) -> Path:
    """The folder with all of COMPONENTS that clusters need: KUBEBUILDER_ASSETS when it has them, else built.

    The first build takes minutes and is kept. Raises StartupError.
    """
    needed = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
    if (assets := os.environ.get("KUBEBUILDER_ASSETS")) and all((Path(assets) / name).exists() for name in needed):
        return Path(assets)
    return build(KUBERNETES, tell)


def helm(tell: Tell | None = None) -> Path:
    """Helm 3: the one on the PATH when it is as new as the pinned one, else built. Raises StartupError."""
    if found := shutil.which("helm"):
        done = subprocess.run([found, "version", "--short"], capture_output=True, text=True, check=False)
        if re.match(r"v3\.", done.stdout) and _numbers(done.stdout) >= _numbers(HELM.version):
            return Path(found)
    return build(HELM, tell) / "helm"


def build(module: Module, tell: Tell | None) -> Path:
    """The folder in the cache with the module's program, built when it is not there. Raises StartupError.

    Two processes that ask at once do no harm: one waits for the other.
    """
    built = module.built
    try:
        if built.exists():
            return built
        built.parent.mkdir(parents=True, exist_ok=True)
        with _locked(built.with_name(f"{module.name}.lock"), module, tell):
            if not built.exists():
                _build_into(built, module, tell or (lambda _line: None))
    except OSError as error:
        raise StartupError(
            f"cannot keep {module.name} in {built.parent}: {error.strerror or error}; choose another folder with "
            f"{CACHE_VARIABLE}"
        ) from error
    return built


def _build_into(built: Path, module: Module, tell: Tell) -> None:
    toolchain = go()
    environment = {**os.environ, "GOWORK": "off", "GOFLAGS": "-mod=readonly -buildvcs=false -trimpath"}
    major, minor = _numbers(module.version)[:2]
    flags = " ".join(
        f"-X {name}={value.format(version=module.version, major=major, minor=minor)}"
        for name, value in module.variables.items()
    )
    tell(f"{module.name} {module.version}: looking for its modules")
    for broken_off in built.parent.glob(f"{module.name}-*.part-*"):
        shutil.rmtree(broken_off, ignore_errors=True)
    listed = _run([toolchain, "list", "-deps", module.package], module, environment)
    with tempfile.TemporaryDirectory(prefix=f"{built.name}.part-", dir=built.parent) as folder:
        made = Path(folder) / "made"
        made.mkdir()
        command = [
            toolchain,
            "build",
            "-v",
            "-ldflags",
            f"-s -w {flags}",
            "-o",
            str(made / module.name),
            module.package,
        ]
        _run(command, module, environment, tell=tell, packages=len(listed))
        for name in module.also:
            (made / name).symlink_to(module.name)
        made.rename(built)
    tell(f"{module.name} {module.version}: built, kept in {built}")


def _run(
    command: Sequence[str],
    module: Module,
    environment: Mapping[str, str],
    *,
    tell: Tell | None = None,
    packages: int = 0,
) -> list[str]:
    """The lines that it wrote. Raises StartupError with the last ones when it fails."""
    lines: list[str] = []
    told_at = time.monotonic()
    waiting = os.getpid()
    with subprocess.Popen(
        ["nice", *command],
        preexec_fn=lambda: die_with(waiting),  # noqa: PLW1509 — it calls the C library alone
        cwd=module.folder, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                if tell is not None and time.monotonic() >= told_at + TELL_SECONDS:
                    told_at = time.monotonic()
                    tell(f"{module.name} {module.version}: {len(lines)} of at most {packages} packages compiled")
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        raise StartupError(
            f"{' '.join(command[:2])} of {module.name} {module.version} failed:\n" + "\n".join(lines[-10:])
        )
    return lines


def go() -> str:
    """The path of a Go toolchain. Raises StartupError with what to install."""
    wanted = ".".join(map(str, MIN_GO))
    found = shutil.which("go")
    if found is None:
        raise StartupError(
            f"Kubernetes is built with Go {wanted} or newer and there is no go on the PATH; see go.dev/dl"
        )
    done = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False, cwd="/")
    if _numbers(done.stdout)[:2] < MIN_GO:
        raise StartupError(f"Kubernetes is built with Go {wanted} or newer and {found} is {done.stdout.strip()}")
    return found


def _numbers(version: str) -> tuple[int, ...]:
    """go1.26.8 and v1.26.8 are (1, 26, 8)."""
    found = re.search(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


@contextlib.contextmanager
def _locked(path: Path, module: Module, tell: Tell | None) -> Iterator[None]:
    """Held by one process at a time; let go when it ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if tell is not None:
                tell(f"{module.name} {module.version}: another process is building it, waiting")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
