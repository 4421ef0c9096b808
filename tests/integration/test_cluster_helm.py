"""Helm on the cluster of the tests."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.cluster import Cluster, CommandError

CHART = "apiVersion: v2\nname: small\nversion: 1.0.0\n"
SCHEMA = {"type": "object", "properties": {"greeting": {"type": "string"}}}
TEMPLATE = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
data:
  greeting: {{ .Values.greeting | quote }}
"""


@pytest.fixture
def chart(tmp_path: Path) -> str:
    folder = tmp_path / "small"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text(CHART)
    (folder / "values.yaml").write_text("greeting: hello\n")
    (folder / "values.schema.json").write_text(json.dumps(SCHEMA))
    (folder / "templates" / "greeting.yaml").write_text(TEMPLATE)
    return str(folder)


def test_a_chart_is_installed_upgraded_rolled_back_and_uninstalled(
    cluster: Cluster, namespace: str, helm: Callable[..., str], chart: str
) -> None:
    def greeting() -> str:
        return cluster.get("configmap", "it", namespace=namespace)["data"]["greeting"]

    helm("install", "it", chart, "--namespace", namespace)
    assert greeting() == "hello"

    helm("upgrade", "it", chart, "--namespace", namespace, "--set", "greeting=good evening")
    assert greeting() == "good evening"

    helm("rollback", "it", "1", "--namespace", namespace)
    assert greeting() == "hello"

    helm("uninstall", "it", "--namespace", namespace)
    with pytest.raises(CommandError, match="NotFound"):
        greeting()


def test_values_are_held_to_their_schema(namespace: str, helm: Callable[..., str], chart: str) -> None:
    with pytest.raises(CommandError, match="greeting"):
        helm("install", "it", chart, "--namespace", namespace, "--set", "greeting=3")
