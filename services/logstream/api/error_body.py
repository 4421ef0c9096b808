"""The error answers of a route, for OpenAPI."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_MEANING = {
    400: "A field or parameter is wrong",
    401: "No credential, or an unknown, revoked or expired one",
    403: "The caller has no right to this",
    404: "There is no such thing",
    408: "The body came too slowly",
    409: "It exists already, its state forbids it, or the read was cancelled",
    412: "If-Match names another state than the present one",
    413: "The request is too large",
    415: "The content type or encoding is not known",
    422: "The Idempotency-Key came before with another body, or a read exceeds a limit of time, rows, bytes or memory",
    429: "Too many attempts; wait as long as Retry-After says",
    503: "Temporarily unavailable; wait as long as Retry-After says",
}


class ErrorDetail(BaseModel):
    code: str = Field(description="Stable, snake_case.")
    message: str = Field(description="A sentence for a person.")
    field: str | None = Field(None, description="What of the request is wrong.")
    limit: int | float | str | None = Field(None, description="The limit that was exceeded.")


class ErrorBody(BaseModel):
    """How every error is answered."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "error": {
                    "code": "invalid_value",
                    "message": "retention_days must be 1 to 10950: 0",
                    "field": "retention_days",
                    "limit": 10950,
                }
            }
        }
    )

    error: ErrorDetail


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these statuses."""
    return {status: {"model": ErrorBody, "description": _MEANING[status]} for status in statuses}
