"""Configuration of the evaluation's servers: what the chart writes, the real Kafka starts with."""

import base64
import hashlib
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from tests.support import chart
from tests.support.ports import free_ports

from logstream.errors import StartupError
from logstream.standalone.full import fetch, keeper
from logstream.standalone.full.process import ServerProcess

NAME = "logstream-evaluation"
VALUES = chart.GOLDEN / "evaluation.values.yaml"


@pytest.mark.timeout(300)
def test_kafka_formats_its_disk_and_starts(tmp_path: Path) -> None:
    try:
        java, libs = fetch.java(), fetch.kafka_libs()
    except StartupError as error:
        pytest.skip(f"NOT TESTED: no Kafka on this machine: {error.message}")
    rendered = chart.render(VALUES)
    text = chart.one(rendered, "ConfigMap", f"{NAME}-kafka")["data"]["server.properties"]
    broker, controller = free_ports(2)
    text = text.replace(":9092", f":{broker}").replace(":9093", f":{controller}")
    text = text.replace(f"PLAINTEXT://:{broker}", f"PLAINTEXT://127.0.0.1:{broker}")
    text = re.sub(r"/var/lib/kafka/data", str(tmp_path), text)
    # The Service's name is not known here.
    text = re.sub(r"(advertised.listeners=PLAINTEXT://)[^:]+", r"\g<1>127.0.0.1", text)
    properties = tmp_path / "server.properties"
    properties.write_text(text)
    command = chart.pod_spec(chart.one(rendered, "StatefulSet", f"{NAME}-kafka"))["containers"][0]["command"]
    script = command[-1]
    cluster = re.search(r"--cluster-id (\S+)", script)
    assert cluster is not None
    # 16 bytes, as Kafka makes them.
    assert len(base64.urlsafe_b64decode(cluster[1] + "==")) == 16
    arguments = re.search(r"kafka-storage\.sh (.*)", script)
    assert arguments is not None
    words = arguments[1].replace("/etc/logstream/server.properties", str(properties)).split()

    for _ in range(2):
        # The second time as after a restart: nothing is formatted again, and it is no error.
        done = subprocess.run(
            [java, "-Xmx256m", "-cp", f"{libs}/*", "kafka.tools.StorageTool", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    process = ServerProcess(
        "Kafka",
        keeper.command([java, "-Xmx256m", "-cp", f"{libs}/*", "kafka.Kafka", str(properties)], grace=20.0),
        tmp_path / "broker.log",
        lambda: _metadata(f"127.0.0.1:{broker}"),
    )
    try:
        process.start(90.0)
    finally:
        process.kill()


def _metadata(address: str) -> bool:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        found = AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=5)
    except KafkaException:
        return False
    return bool(found.brokers)


def test_clickhouse_is_told_the_hash_of_the_password() -> None:
    rendered = chart.render(VALUES)
    files = chart.one(rendered, "Secret", f"{NAME}-clickhouse-config")["stringData"]
    user = ET.fromstring(files["users.xml"]).find("users/default")

    assert user is not None
    assert user.findtext("password_sha256_hex") == hashlib.sha256(b"golden-clickhouse").hexdigest()
    assert ET.fromstring(files["server.xml"]).findtext("listen_host") == "0.0.0.0"
    assert "golden-clickhouse" not in "".join(files.values())


@pytest.mark.parametrize("server", ["kafka", "clickhouse", "postgres"])
def test_every_object_is_marked(server: str) -> None:
    rendered = chart.render(VALUES)
    named = [obj for obj in rendered if obj["metadata"]["name"].startswith(f"{NAME}-{server}")]

    assert {"StatefulSet", "Service", "Secret", "NetworkPolicy"} <= {obj["kind"] for obj in named}
    assert all("logstream.dev/not-for-production" in obj["metadata"]["annotations"] for obj in named)


@pytest.mark.parametrize("server", ["kafka", "clickhouse", "postgres"])
def test_only_pods_of_logstream_are_let_in(server: str) -> None:
    from logstream_operator.objects.meta import selector

    rendered = chart.render(VALUES)
    policy = chart.one(rendered, "NetworkPolicy", f"{NAME}-{server}")
    operator = chart.one(rendered, "Deployment", "logstream-operator")["spec"]["template"]["metadata"]["labels"]
    (rule,) = policy["spec"]["ingress"]
    anywhere, beside = (peer["podSelector"]["matchLabels"] for peer in rule["from"])

    assert anywhere.items() <= selector("any", "collector").items()
    assert beside.items() <= operator.items()
    assert not anywhere.items() <= operator.items()
