"""What lies beside the chart agrees with it: copies of the CRDs, the image's Dockerfile, Skaffold, the examples."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support import chart
from tests.support.chart import ROOT

from logstream import __version__
from logstream.redact.detectors import DETECTORS
from logstream_operator.objects.meta import SERVED, component_name
from logstream_operator.spec import InvalidSpec, LogStream, LogStreamAPIKey

EXAMPLES = sorted(chart.EXAMPLES.glob("[0-9][0-9]-*.yaml"))
PARSERS = {"LogStream": LogStream, "LogStreamAPIKey": LogStreamAPIKey}


def as_stored(obj: dict[str, Any]) -> dict[str, Any]:
    """With what the API server adds."""
    return {**obj, "metadata": {"namespace": "team", "uid": "0d3b4d4e-7f4e-4f0e-9d0c-3d6a4a8a7a11", **obj["metadata"]}}


def test_the_chart_has_the_crds_of_the_repository() -> None:
    """Otherwise: `python -m tests.support.chart`."""
    assert {path.name: path.read_bytes() for path in chart.COPIES.iterdir()} == {
        path.name: path.read_bytes() for path in chart.CRDS.glob("*.yaml")
    }


def test_the_chart_is_of_this_version() -> None:
    about = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())

    assert about["appVersion"] == __version__


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_operator_takes_every_example(path: Path) -> None:
    ours = [obj for obj in chart.objects(path.read_text()) if obj["kind"] in PARSERS]

    assert any(obj["kind"] == "LogStream" for obj in ours) or path.stem == "02-keys"
    for obj in ours:
        parsed = PARSERS[obj["kind"]].parse(as_stored(obj))
        if isinstance(parsed, LogStream):
            assert parsed.stream().name == obj["metadata"]["name"]
        # Fields that nobody knows are passed over by the parser: they must not be there.
        known(obj["spec"], crd_schema(obj["kind"])["properties"]["spec"], obj["kind"])


def crd_schema(kind: str) -> dict[str, Any]:
    crds = [crd for path in chart.CRDS.glob("*.yaml") for crd in chart.objects(path.read_text())]
    crd = next(crd for crd in crds if crd["spec"]["names"]["kind"] == kind)
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def known(given: object, schema: dict[str, Any], path: str) -> None:
    if isinstance(given, dict) and "properties" in schema:
        assert given.keys() <= schema["properties"].keys(), path
        for name, value in given.items():
            known(value, schema["properties"][name], f"{path}.{name}")
    if isinstance(given, list) and "items" in schema:
        for item in given:
            known(item, schema["items"], f"{path}[]")


def test_examples_refer_to_what_is_there() -> None:
    """Streams of keys and data planes, Secrets of connections: in the same file, or in the first one."""
    first = chart.objects(EXAMPLES[0].read_text())
    for path in EXAMPLES:
        objects = chart.objects(path.read_text())
        names = {(obj["kind"], obj["metadata"]["name"]) for obj in (*first, *objects)}
        assert len({(obj["kind"], obj["metadata"]["name"]) for obj in objects}) == len(objects)
        for obj in objects:
            spec = obj.get("spec", {})
            wanted = [("LogStream", spec[field]["name"]) for field in ("logStreamRef", "dataPlaneRef") if field in spec]
            wanted += [("Secret", one["secretRef"]["name"]) for one in spec.get("connections", {}).values()]
            assert set(wanted) <= names, path.name


def test_examples_use_known_detectors() -> None:
    for path in EXAMPLES:
        for obj in chart.objects(path.read_text()):
            assert set(obj.get("spec", {}).get("redaction", {}).get("detectors", ())) <= {"all", *DETECTORS}


def test_an_example_with_a_mistake_would_be_found() -> None:
    wrong = {"kind": "LogStream", "metadata": {"name": "logs"}, "spec": {"retention": {"days": 0}}}

    with pytest.raises(InvalidSpec, match=r"retention\.days"):
        LogStream.parse(as_stored(wrong))
    with pytest.raises(AssertionError):
        known({"retension": {}}, crd_schema("LogStream")["properties"]["spec"], "LogStream")


def instructions(stage: int) -> list[tuple[str, str]]:
    """Of a stage of the Dockerfile: (instruction, arguments), continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages: list[list[tuple[str, str]]] = []
    for line in lines:
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            stages.append([])
        if stages:
            stages[-1].append((name, arguments.strip()))
    return stages[stage]


def test_the_image_is_not_root_and_takes_any_base() -> None:
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    for stage in (0, 1):
        assert instructions(stage)[0][1].startswith("${BASE}")
    (user,) = (arguments for name, arguments in instructions(1) if name == "USER")

    security = values["podSecurityContext"]
    assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert security["runAsUser"] > 10_000


def test_the_image_is_made_of_what_is_there_and_what_the_build_sees() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name, arguments in instructions(0):
        if name != "COPY":
            continue
        *sources, _ = arguments.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in kept, source
    for name in kept:
        assert (ROOT / name).exists(), name


def test_the_image_has_every_package_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = " ".join(arguments for name, arguments in instructions(0) if name == "COPY").split()

    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert package.split("/")[0] in copied, package
    assert "logstream" in project["project"]["scripts"]


def test_skaffold_names_files_that_are_there() -> None:
    config = yaml.safe_load((ROOT / "skaffold.yaml").read_text())

    (artifact,) = config["build"]["artifacts"]
    assert (ROOT / artifact["docker"]["dockerfile"]).is_file()
    assert (ROOT / artifact.get("context", ".")).is_dir()
    (release,) = config["deploy"]["helm"]["releases"]
    assert ROOT / release["chartPath"] == chart.CHART
    for hook in config["deploy"]["helm"]["hooks"]["after"]:
        command = hook["host"]["command"]
        assert (ROOT / command[command.index("-f") + 1]).is_file()
        assert command[command.index("--namespace") + 1] == release["namespace"]


def test_skaffold_sets_values_that_the_chart_has() -> None:
    config = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    (release,) = config["deploy"]["helm"]["releases"]

    for name in (*release["setValues"], *release["setValueTemplates"]):
        found = values
        for step in name.split("."):
            assert step in found, name
            found = found[step]
    # What is built is what the chart runs.
    assert config["build"]["artifacts"][0]["image"] == values["image"]["repository"]


def test_skaffold_forwards_ports_of_services_that_will_be_there() -> None:
    config = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
    (release,) = config["deploy"]["helm"]["releases"]
    (stream,) = (obj for obj in chart.objects(EXAMPLES[0].read_text()) if obj["kind"] == "LogStream")
    ports = {component_name(stream["metadata"]["name"], component): port for component, port in SERVED.items()}
    ports[f"{release['name']}-operator"] = 8080

    assert {one["resourceName"]: one["port"] for one in config["portForward"]} == ports
    assert len({one["localPort"] for one in config["portForward"]}) == len(ports)
