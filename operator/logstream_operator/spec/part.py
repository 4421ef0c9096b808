"""What every part of a resource has in common, and what is raised for one that cannot be used."""

from typing import Any, ClassVar, NoReturn

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from logstream.errors import InvalidValue

Rules = list[dict[str, Any]]
"""CEL rules in the form of x-kubernetes-validations."""


class InvalidSpec(InvalidValue):
    """A resource that cannot be used as it is. field: where, as `spec.topic.partitions`; reason: of the condition."""

    code = "invalid_spec"

    def __init__(self, message: str, *, field: str, reason: str = "InvalidSpec") -> None:
        super().__init__(message, field=field)
        self.reason = reason


class Part(BaseModel):
    """An object of a resource: camelCase outside, as Kubernetes has it.

    Fields that this release does not know are passed over: the API server drops those that no version has, and
    those of a newer version must not stop a stream while the operator is being upgraded.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)
    rules: ClassVar[Rules] = []
    """What the schema's keywords cannot say. The models hold the same in `_check` methods."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        if cls.rules:
            handler.resolve_ref_schema(found)["x-kubernetes-validations"] = cls.rules
        return found


def rule(expression: str, message: str, *, field: str = "") -> dict[str, Any]:
    """One CEL rule. message: names the field and what to do. field: the path that is blamed, from the object that has
    the rule."""
    found: dict[str, Any] = {"rule": expression, "message": message}
    return {**found, "fieldPath": field} if field else found


def refuse(error: ValidationError) -> NoReturn:
    """Raises InvalidSpec for the first thing that is wrong; the others are counted."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    first = found[0]
    path = ""
    for step in first["loc"]:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    path = path.removeprefix(".")
    raise InvalidSpec(f"{path}: {first['msg'].removeprefix('Value error, ')}{more}", field=path) from error
