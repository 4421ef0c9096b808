"""What Kubernetes says about a resource."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from logstream_operator.spec.part import Rules, refuse

GROUP = "logstream.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Metadata(BaseModel):
    """The parts of metadata that matter here."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    name: Annotated[str, Field(min_length=1)]
    namespace: Annotated[str, Field(min_length=1)]
    uid: Annotated[str, Field(min_length=1)]
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()


class Resource(BaseModel):
    """status: as the API server has it, empty where there is none yet."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    rules: ClassVar[Rules] = []

    metadata: Metadata
    status: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def parse(cls, obj: dict[str, Any]) -> Self:
        """A resource as the API server gives it. Raises InvalidSpec with the field that is wrong."""
        try:
            return cls.model_validate(obj)
        except ValidationError as error:
            refuse(error)

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def uid(self) -> str:
        return self.metadata.uid

    @property
    def is_deleted(self) -> bool:
        """Deletion was asked for; finalizers may still hold it."""
        return self.metadata.deletion_timestamp is not None
