"""The examples for Kubernetes on a real API server, and what the guide says against what is there."""

import re
from pathlib import Path

import pytest
import yaml
from tests.support import chart
from tests.support.cluster import Cluster, CommandError

from logstream_operator.spec import LogStream, LogStreamAPIKey

EXAMPLES = sorted(chart.EXAMPLES.glob("[0-9][0-9]-*.yaml"))
GUIDE = chart.ROOT / "docs" / "kubernetes.md"
CRDS = ("logstreams.logstream.dev", "logstreamapikeys.logstream.dev")
PARSERS = {"LogStream": LogStream, "LogStreamAPIKey": LogStreamAPIKey}


@pytest.fixture(autouse=True)
def crds(cluster: Cluster) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(chart.CRDS))
    cluster.kubectl("wait", "--for=condition=Established", *(f"crd/{name}" for name in CRDS), "--timeout=60s")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_taken(cluster: Cluster, namespace: str, path: Path) -> None:
    """With strict fields, by schema and CEL; and what the server made of it, with its defaults, by the operator."""
    cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "--namespace", namespace, "-f", str(path))
    cluster.kubectl("apply", "--validate=strict", "--namespace", namespace, "-f", str(path))

    for obj in chart.objects(path.read_text()):
        if (parser := PARSERS.get(obj["kind"])) is not None:
            stored = cluster.get(f"{obj['kind'].lower()}s", obj["metadata"]["name"], namespace=namespace)
            assert parser.parse(stored).name == obj["metadata"]["name"]


def test_the_smallest_one_can_be_looked_at_by_every_name(cluster: Cluster, namespace: str) -> None:
    """As comments, notes and the guide have it."""
    cluster.kubectl("apply", "--namespace", namespace, "-f", str(EXAMPLES[0]))

    for kind in ("logstream", "logstreams", "lgs"):
        assert "logs" in cluster.kubectl("get", kind, "logs", "--namespace", namespace)
    assert "logs" in cluster.kubectl("get", "logstreams", "--namespace", namespace)
    assert "Retention" in cluster.kubectl("describe", "logstreams", "logs", "--namespace", namespace)
    assert "retention" in cluster.kubectl("explain", "logstream.spec", "--recursive")


def test_a_misspelt_field_of_an_example_would_be_refused(cluster: Cluster, namespace: str) -> None:
    text = EXAMPLES[0].read_text().replace("spec: {}", "spec: {retension: {days: 3}}")

    with pytest.raises(CommandError, match="retension"):
        cluster.kubectl("apply", "--validate=strict", "--namespace", namespace, "-f", "-", given=text)


def test_the_guide_names_files_and_values_that_are_there() -> None:
    text = GUIDE.read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (GUIDE.parent / link).exists(), link
    for name in re.findall(r"(?<![\w/-])(?:examples|charts|tests)/[\w./-]+", text):
        assert (chart.ROOT / name).exists(), name
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    for name in re.findall(r"--set ([\w.]+)=", text):
        found = values
        for step in name.split("."):
            found = found[step]


def test_the_values_of_the_guide_are_taken(tmp_path: Path) -> None:
    (block,) = (
        block for block in re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL) if "values.yaml" in block
    )
    indented = [line.removeprefix("   ") for line in block.replace("sha256:…", "sha256:" + "0" * 64).splitlines()]
    path = tmp_path / "values.yaml"
    path.write_text("\n".join(indented))

    assert chart.one(chart.render(path), "Deployment", "logstream-operator")["spec"]["replicas"] == 2


def test_the_files_of_examples_are_all_in_the_guide() -> None:
    text = GUIDE.read_text()

    assert all(f"../examples/{path.name})" in text for path in EXAMPLES)
