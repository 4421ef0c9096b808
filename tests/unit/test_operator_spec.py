"""The resources as Python has them."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.support.resources import CASES, Case, api_key, log_stream, merged

from logstream import settings
from logstream.auth.principal import Scope
from logstream_operator.spec import (
    InvalidSpec,
    LogStream,
    LogStreamAPIKey,
    child_name,
    crd,
    format_duration,
    parse_duration,
)
from logstream_operator.spec.ingest import Ingest
from logstream_operator.spec.part import Part
from logstream_operator.spec.quantity import amount
from logstream_operator.spec.schema import Undescribed, structural

ROOT = Path(__file__).parents[2]
META = {"namespace": "shop", "uid": "u-1"}


def parse(obj: dict[str, Any]) -> LogStream | LogStreamAPIKey:
    kind = LogStream if obj["kind"] == "LogStream" else LogStreamAPIKey
    return kind.parse(merged(obj, {"metadata": META}))


def test_the_files_are_what_the_models_make() -> None:
    assert crd.main(["--check", str(ROOT / "crds"), str(ROOT / "charts/logstream/files/crds")]) == 0


def test_a_stale_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main([str(tmp_path)]) == 0
    (tmp_path / "logstreams.yaml").write_text("changed")
    assert crd.main(["--check", str(tmp_path)]) == 1
    assert "logstreams.yaml is not what the models make" in capsys.readouterr().err


@pytest.mark.parametrize("case", [case for case in CASES if case.python], ids=lambda case: case.name)
def test_the_models_refuse_what_the_api_server_refuses(case: Case) -> None:
    """An object may be there that was stored by another version of the schema."""
    parse(merged(case.base, case.good))
    with pytest.raises(InvalidSpec) as refusal:
        parse(merged(case.base, case.bad))
    assert refusal.value.field.startswith("spec") or refusal.value.field == ""


def test_a_refusal_names_the_field() -> None:
    with pytest.raises(InvalidSpec) as refusal:
        parse(
            log_stream(redaction={"rules": [{"detector": "email"}, {"pattern": "x", "action": "eat"}]}, paused="what")
        )
    assert refusal.value.field == "spec.redaction.rules[1].action"
    assert "(and 1 more)" in refusal.value.message


def test_fields_of_a_newer_version_stop_nothing() -> None:
    assert isinstance(parse(log_stream(tomorrow={"a": 1}, topic={"compaction": True})), LogStream)


def test_limits_are_those_of_the_services() -> None:
    """Names, defaults and lower bounds, so that a resource can say whatever a setting can."""
    ours, theirs = Ingest.model_fields, settings.IngestLimits.model_fields
    assert ours.keys() == theirs.keys()
    assert Ingest().values() == {name: info.default for name, info in theirs.items()}
    for name, info in theirs.items():
        assert set(info.metadata) <= set(ours[name].metadata)
        assert ours[name].description == info.description


def test_a_redaction_rule_has_the_fields_of_the_services() -> None:
    spec = LogStream.parse(
        merged(
            log_stream(redaction={"rules": [{"pattern": "a", "name": "b", "fields": ["service"]}]}), {"metadata": META}
        )
    ).spec
    (rule,) = spec.redaction.values()["rules"]
    assert settings.RedactionRule(**rule).fields == ("service",)
    assert settings.RedactionRule.model_fields.keys() == rule.keys() | {"detector"}


@pytest.mark.parametrize("key", ["a b", "/a", "A.b/c", "a/b/c", "", "a" * 64, "-a", "x" * 254 + "/a"])
def test_keys_that_no_label_can_have(key: str) -> None:
    for spec in (
        {"api": {"podTemplate": {"metadata": {"labels": {key: "a"}}}}},
        {"api": {"podTemplate": {"metadata": {"annotations": {key: "a"}}}}},
        {"api": {"podTemplate": {"spec": {"nodeSelector": {key: "a"}}}}},
        {"ingress": {"host": "a.example.com", "annotations": {key: "a"}}},
    ):
        with pytest.raises(InvalidSpec, match="is no key"):
            parse(log_stream(**spec))


@pytest.mark.parametrize("key", ["a", "A_b.c-d", "a.example.com/b", "x" * 63, "x" * 63 + ".com/" + "b" * 63])
def test_keys_of_labels(key: str) -> None:
    parse(log_stream(api={"podTemplate": {"metadata": {"labels": {key: ""}}}}))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (2, "2"),
        ("250m", "0.25"),
        ("1Gi", "1073741824"),
        ("1.5k", "1500"),
        ("1e3", "1000"),
        (".5", "0.5"),
        ("1E", "1e18"),
    ],
)
def test_quantities(text: str | int, value: str) -> None:
    assert amount(text) == Decimal(value)


@pytest.mark.parametrize(
    ("redaction", "words"),
    [
        ({"rules": [{"pattern": "a"}, {"name": "b", "pattern": "(unclosed"}]}, "rules.0"),
        ({"rules": [{"name": "b", "pattern": "(unclosed"}]}, "rules.0.pattern"),
        ({"detectors": ["nothing"]}, "nothing"),
        ({"rules": [{"name": "a", "pattern": "a"}, {"name": "a", "pattern": "b"}]}, "two rules with the name 'a'"),
    ],
)
def test_redaction_that_would_keep_collectors_from_starting(redaction: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        parse(log_stream(redaction=redaction))
    assert refusal.value.field == "spec.redaction"
    assert words in refusal.value.message


def test_scopes_are_those_of_keys() -> None:
    for scope in Scope:
        key = LogStreamAPIKey.parse(merged(api_key(scopes=[scope.value]), {"metadata": META}))
        assert key.scopes == {scope}
    schema = crd.api_keys()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert set(schema["scopes"]["items"]["enum"]) == set(Scope)


def test_identity() -> None:
    stream = LogStream.parse(merged(log_stream("web"), {"metadata": META}))
    assert stream.stream().topic.startswith("logstream.shop-web-")
    assert stream.is_data_plane
    assert stream.data_plane == "web"
    sharer = LogStream.parse(merged(log_stream("other", dataPlaneRef={"name": "web"}), {"metadata": META}))
    assert not sharer.is_data_plane
    assert sharer.data_plane == "web"


@pytest.mark.parametrize("metadata", [{"name": "1a"}, {"name": "a" * 51}, {"namespace": "n" * 51}, {"namespace": "1n"}])
def test_a_name_that_cannot_be_used(metadata: dict[str, str]) -> None:
    obj = merged(log_stream(), {"metadata": {**META, **metadata}})
    with pytest.raises(InvalidSpec) as refusal:
        LogStream.parse(obj).stream()
    assert refusal.value.reason == "InvalidName"
    assert refusal.value.field == f"metadata.{next(iter(metadata))}"


def test_name_of_the_secret() -> None:
    assert LogStreamAPIKey.parse(merged(api_key("a"), {"metadata": META})).secret_name == "a"
    assert LogStreamAPIKey.parse(merged(api_key("a", secretName="b"), {"metadata": META})).secret_name == "b"


@pytest.mark.parametrize(
    ("text", "seconds"), [("720h", 2_592_000), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400), ("500ms", 0.5), ("0s", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "1d", "h", "-1h", "1h ", "1 h", "9" * 33 + "h", "9999999999999999999999h", "１h"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@given(st.integers(0, 10**9))
def test_durations_come_back(seconds: int) -> None:
    value = timedelta(seconds=seconds)
    assert parse_duration(format_duration(value)) == value


NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,251}[a-z0-9])?", fullmatch=True)


@given(NAMES, st.sampled_from([("collector",), ("collector", "config", "0a1b2c3d"), ()]))
def test_names_of_children_are_valid(owner: str, parts: tuple[str, ...]) -> None:
    name = child_name(owner, *parts)
    assert len(name) <= 63
    assert name[0].isalpha()
    assert name[-1] != "-"
    assert name.endswith("-".join(parts))


@given(NAMES, NAMES)
def test_two_owners_have_no_child_in_common(one: str, other: str) -> None:
    if one != other:
        assert child_name(one, "collector") != child_name(other, "collector")


def test_owners_that_begin_alike_stay_apart() -> None:
    assert child_name("a" * 60 + "1", "api") != child_name("a" * 60 + "2", "api")


def test_a_field_without_a_description_is_found() -> None:
    class Silent(Part):
        field: int = 1

    with pytest.raises(Undescribed, match=r"Silent\.field"):
        structural(Silent)


def every(schema: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)]
    for name, field in schema.get("properties", {}).items():
        found += every(field, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found += every(schema[key], f"{path}[]")
    return found


@pytest.mark.parametrize("name", ["logstreams.yaml", "logstreamapikeys.yaml"])
def test_everything_is_bounded(name: str) -> None:
    """Without bounds the API server refuses rules for what they might cost, and takes objects of any size."""
    definition = yaml.safe_load((ROOT / "crds" / name).read_text())
    (version,) = definition["spec"]["versions"]
    root = version["schema"]["openAPIV3Schema"]["properties"]
    for path, schema in every(root["spec"], "spec"):
        kind = schema.get("type")
        if kind == "array":
            assert "maxItems" in schema, path
        elif kind == "string" and "enum" not in schema and "format" not in schema:
            assert "maxLength" in schema, path
        elif kind in ("integer", "number"):
            assert {"minimum", "maximum"} <= schema.keys(), path
        elif kind == "object" and "properties" not in schema:
            assert "maxProperties" in schema, path
