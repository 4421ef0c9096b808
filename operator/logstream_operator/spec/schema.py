"""Structural OpenAPI schemas, as CRDs need them, from the models: inlined, without what Kubernetes does not know."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, TypeAdapter

from logstream_operator.spec import duration

Schema = dict[str, Any]
_KEPT = (
    "description", "type", "format", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems",
    "maxItems", "minProperties", "maxProperties", "required", "x-kubernetes-validations", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields",
)  # fmt: skip


class Undescribed(ValueError):
    """A field without a description: `kubectl explain` would say nothing."""


def structural(model: type[BaseModel]) -> Schema:
    """Raises Undescribed."""
    whole = model.model_json_schema(by_alias=True)
    return _convert(whole, whole.get("$defs", {}), model.__name__)


def without_defaults(schema: Schema) -> Schema:
    """For a status, which is written whole: what the API server adds would look like a change."""
    return {
        key: {name: without_defaults(field) for name, field in value.items()}
        if key == "properties"
        else without_defaults(value)
        if isinstance(value, dict)
        else value
        for key, value in schema.items()
        if key != "default"
    }


def _convert(node: Mapping[str, Any], known: Mapping[str, Any], path: str) -> Schema:
    node = _resolved(node, known)
    found: Schema = {key: node[key] for key in _KEPT if node.get(key) is not None}
    if "const" in node:
        found["enum"] = [node["const"]]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        # OpenAPI 3.0's form: the bound, and whether it is meant without itself.
        if exclusive in node:
            found |= {bound: node[exclusive], exclusive: True}
    if node.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    if "properties" in node:
        found["properties"] = {}
        for name, field in node["properties"].items():
            converted = _convert(field, known, f"{path}.{name}")
            if not converted.get("description"):
                raise Undescribed(f"{path}.{name} has no description")
            found["properties"][name] = converted
    if isinstance(items := node.get("items"), dict):
        found["items"] = _convert(items, known, f"{path}[]")
    if isinstance(values := node.get("additionalProperties"), dict):
        found["additionalProperties"] = _convert(values, known, f"{path}.*")
    # An empty text or list says no more than nothing at all, which is shorter to read.
    if (default := node.get("default")) is not None and default not in ("", []):
        found["default"] = _default(default, found)
    return found


def _resolved(node: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Without references and without the choice of null, which a field that is left out says as well."""
    flat = dict(node)
    choices = [one for one in flat.pop("anyOf", []) if one.get("type") != "null"]
    if len(choices) == 1:
        flat = {**_resolved(choices[0], known), **flat}
    elif choices and not flat.get("x-kubernetes-int-or-string"):
        # A choice of which only one has the keywords, as those of int-or-string.
        for one in choices:
            flat = {**_resolved(one, known), **flat}
    if (reference := flat.pop("$ref", None)) is not None:
        flat = {**_resolved(known[reference.rpartition("/")[2]], known), **flat}
    return flat


def _default(value: Any, schema: Schema) -> Any:
    """An object's is empty: its fields have their own."""
    if schema.get("type") == "object":
        return {}
    if schema.get("pattern") == duration.PATTERN:
        return duration.format_duration(TypeAdapter(timedelta).validate_python(value))
    return value
