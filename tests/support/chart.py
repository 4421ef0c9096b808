"""The chart: rendered by the real Helm, its golden files, its copies of the CRDs.

`python -m tests.support.chart` writes the copies and the golden files again.
"""

import functools
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.cluster import programs

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "logstream"
CRDS = ROOT / "crds"
COPIES = CHART / "files" / "crds"
GOLDEN = ROOT / "tests" / "golden" / "chart"
EXAMPLES = ROOT / "examples"
NAMESPACE = "platform"
KUBE_VERSION = "1.34.4"
"""Helm takes the version of a cluster from it; `helm template` has none to ask."""

Object = dict[str, Any]


class HelmRefused(Exception):
    """Helm's own words."""


@functools.cache
def helm() -> Path:
    """Raises StartupError where there is none and none can be built."""
    return programs.helm()


def run(*arguments: str) -> str:
    """Standard output of Helm. Raises HelmRefused."""
    done = subprocess.run([str(helm()), *arguments], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise HelmRefused(done.stderr + done.stdout)
    return done.stdout


def template(values: Mapping[str, Any] | Path | None = None, *, release: str = "logstream") -> str:
    """What `helm template` writes for these values. Raises HelmRefused."""
    command = ["template", release, str(CHART), "--namespace", NAMESPACE, "--kube-version", KUBE_VERSION]
    if isinstance(values, Path):
        return _once(*command, "--values", str(values))
    sets = [f"{name}={json.dumps(value)}" for name, value in (values or {}).items()]
    return run(*command, *(word for pair in sets for word in ("--set-json", pair)))


_once = functools.cache(run)
"""A case is looked at by several tests, and Helm takes its time."""


def objects(text: str) -> list[Object]:
    """The documents of a YAML text, empty ones left out."""
    return [obj for obj in yaml.safe_load_all(text) if obj]


def render(values: Mapping[str, Any] | Path | None = None, *, release: str = "logstream") -> list[Object]:
    """As objects. values: a file, or by dotted name. Raises HelmRefused."""
    return objects(template(values, release=release))


def one(rendered: Sequence[Object], kind: str, name: str) -> Object:
    found = [obj for obj in rendered if obj["kind"] == kind and obj["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def pod_spec(obj: Object) -> dict[str, Any]:
    found: dict[str, Any] = obj["spec"] if obj["kind"] == "Pod" else obj["spec"]["template"]["spec"]
    return found


def environment(rendered: list[Object], folder: Path, release: str = "logstream") -> dict[str, str]:
    """Of the operator's container, as the kubelet makes it: Secrets of the chart are files in `folder`."""
    deployment = one(rendered, "Deployment", f"{release}-operator")
    spec = pod_spec(deployment)
    for volume in spec["volumes"]:
        if (secret := volume.get("secret")) is None:
            continue
        found = [obj for obj in rendered if obj["kind"] == "Secret" and obj["metadata"]["name"] == secret["secretName"]]
        data = found[0]["stringData"] if found else {item["key"]: item["key"] for item in secret["items"]}
        for item in secret["items"]:
            path = folder / volume["name"] / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(data[item["key"]])
    fields = {"metadata.namespace": NAMESPACE, "metadata.name": f"{release}-operator-0"}
    variables = {}
    for variable in spec["containers"][0]["env"]:
        source = variable.get("valueFrom")
        value = variable["value"] if source is None else fields[source["fieldRef"]["fieldPath"]]
        variables[variable["name"]] = value.replace("/etc/logstream/", f"{folder}/")
    return variables


def cases() -> list[Path]:
    """Files of values, one a golden file."""
    return sorted(GOLDEN.glob("*.values.yaml"))


def golden(case: Path) -> Path:
    return case.with_name(case.name.replace(".values.yaml", ".yaml"))


def without_crds(text: str) -> str:
    """They are long, and have a test of their own."""
    documents = ("\n" + text).split("\n---\n")
    kept = [part for part in documents if part.strip() and "\nkind: CustomResourceDefinition\n" not in f"\n{part}"]
    return "---\n" + "\n---\n".join(part.strip("\n") for part in kept) + "\n"


def write_copies() -> None:
    COPIES.mkdir(parents=True, exist_ok=True)
    for old in COPIES.glob("*.yaml"):
        old.unlink()
    for crd in sorted(CRDS.glob("*.yaml")):
        shutil.copyfile(crd, COPIES / crd.name)


if __name__ == "__main__":
    write_copies()
    for path in cases():
        golden(path).write_text(without_crds(template(path)))
