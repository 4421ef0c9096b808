"""The control plane and Helm are built from pinned modules, once, into a cache."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.cluster import programs
from tests.support.cluster.programs import HELM, KUBERNETES, Module

from logstream.errors import StartupError

GO_MOD = """\
module example.com/program

go 1.24

require example.com/library v1.2.3

replace example.com/library => ./library
"""
MAIN = """\
package main

import "example.com/library"

func main() { println(library.Version) }
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("LOGSTREAM_CACHE", str(folder))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "program"
    (folder / "library").mkdir(parents=True)
    (folder / "go.mod").write_text(GO_MOD)
    (folder / "main.go").write_text(MAIN)
    (folder / "library" / "go.mod").write_text("module example.com/library\n\ngo 1.24\n")
    (folder / "library" / "library.go").write_text("package library\n\nvar Version string\n")
    return folder


def _module(source: Path) -> Module:
    variables = {"example.com/library.Version": "{version} {major} {minor}".replace(" ", "/")}
    return Module("program", source, "example.com/library", ".", variables, also=("alias",))


@pytest.fixture
def go() -> None:
    try:
        programs.go()
    except StartupError as error:
        pytest.skip(f"NOT TESTED: {error.message}")


@pytest.mark.usefixtures("go")
def test_it_is_built_once_and_kept(source: Path) -> None:
    told: list[str] = []

    first = programs.build(_module(source), told.append)
    again = programs.build(_module(source), told.append)

    assert first == again
    assert [line for line in told if "built" in line] == [f"program v1.2.3: built, kept in {first}"]
    said = subprocess.run([first / "alias"], capture_output=True, text=True, check=True)
    assert said.stderr.strip() == "v1.2.3/1/2"


@pytest.mark.usefixtures("go")
def test_a_changed_source_is_another_program(source: Path) -> None:
    first = programs.build(_module(source), None)
    (source / "main.go").write_text(MAIN.replace("println(", 'println("changed", '))

    second = programs.build(_module(source), None)

    assert first != second
    assert "changed" in subprocess.run([second / "program"], capture_output=True, text=True, check=True).stderr


@pytest.mark.usefixtures("go")
def test_two_processes_at_once_build_it_once(source: Path, cache: Path) -> None:
    own = (
        "from pathlib import Path; from tests.support.cluster import programs\n"
        f"module = programs.Module('program', Path({str(source)!r}), 'example.com/library', '.', {{}})\n"
        "programs.build(module, lambda line: print(line, flush=True))\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", own], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120)[0] for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert sum("built" in text for text in told) == 1
    assert sorted(path.name for path in cache.iterdir() if path.is_dir()) == [_module(source).built.name]


@pytest.mark.usefixtures("go")
def test_what_does_not_build_is_told_and_not_kept(source: Path, cache: Path) -> None:
    (source / "main.go").write_text(MAIN.replace("library.Version", "library.Missing"))

    with pytest.raises(StartupError, match=r"undefined: library\.Missing"):
        programs.build(_module(source), None)
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_without_go_it_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(StartupError, match=r"Go 1\.24 or newer and there is no go on the PATH"):
        programs.control_plane()


def test_a_go_that_is_too_old_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "go").write_text("#!/bin/sh\necho go1.23.4\n")
    (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(StartupError, match=r"Go 1\.24 or newer and .*/go is go1\.23\.4"):
        programs.control_plane()


def test_given_programs_are_used_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl"):
        (tmp_path / name).touch()
    (tmp_path / "helm").write_text("#!/bin/sh\necho v3.99.0+gabc\n")
    (tmp_path / "helm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    assert programs.control_plane() == tmp_path
    assert programs.helm() == tmp_path / "helm"


def test_every_part_of_kubernetes_is_of_one_version() -> None:
    text = (KUBERNETES.folder / "go.mod").read_text()
    staging = re.findall(r"^\s*(k8s\.io/\S+) => (\S+) (v\S+)$", text, re.MULTILINE)

    assert len(staging) == 31
    assert {version for _, _, version in staging} == {KUBERNETES.version.replace("v1.", "v0.")}
    assert all(name == target for name, target, _ in staging)
    assert HELM.version.startswith("v3.")
