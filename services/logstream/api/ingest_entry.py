"""The entry of `POST /ingest` in the OpenAPI document. The collector serves it, another port, as raw ASGI."""

from typing import Any

from logstream.api.error_body import errors

_RECORD = {
    "type": "object",
    "description": "Only `message` is needed. Other names that people send (`ts`, `msg`, `severity`, …) are known, "
    "other fields become metadata, nested metadata is flattened with dots: see docs/ingest.md.",
    "properties": {
        "message": {"type": "string", "examples": ["card declined"]},
        "timestamp": {
            "anyOf": [{"type": "string"}, {"type": "number"}],
            "description": "RFC 3339, or the epoch in s, ms, µs or ns. Default: when it is received.",
            "examples": ["2026-01-31T12:00:00.123456789Z"],
        },
        "service": {"type": "string", "default": "unknown", "examples": ["payment"]},
        "level": {"type": "string", "default": "info", "examples": ["error"]},
        "metadata": {"type": "object", "additionalProperties": True, "examples": [{"user_id": "42"}]},
        "trace_id": {"type": "string"},
        "span_id": {"type": "string"},
    },
    "required": ["message"],
    "additionalProperties": True,
}

_REJECTION = {
    "type": "object",
    "properties": {
        "index": {"type": "integer", "description": "The record's place in the request, from 0."},
        "code": {"type": "string", "examples": ["missing_message"]},
        "reason": {"type": "string"},
    },
    "required": ["index", "code", "reason"],
}

_ACCEPTED = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "const": "accepted"},
        "accepted": {"type": "integer", "description": "Records that are durable in the log now."},
        "rejected": {
            "type": "array",
            "description": "The first 100.",
            "items": {"$ref": "#/components/schemas/Rejection"},
        },
        "rejected_count": {"type": "integer", "description": "How many there were, where there were any."},
    },
    "required": ["status", "accepted", "rejected"],
    "example": {"status": "accepted", "accepted": 1, "rejected": []},
}

SCHEMAS = {"IngestRecord": _RECORD, "Rejection": _REJECTION, "IngestAnswer": _ACCEPTED}

_ONE = {"service": "payment", "level": "error", "message": "card declined", "metadata": {"user_id": "42"}}
_RECORD_REF = {"$ref": "#/components/schemas/IngestRecord"}


def path_item(ingest_url: str) -> dict[str, Any]:
    """What stands under `paths["/ingest"]`. ingest_url: the collector's address."""
    responses: dict[str, Any] = {
        "202": {
            "description": "Durable in the log; searchable within a second.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/IngestAnswer"}}},
        }
    }
    for status, answer in errors(400, 401, 403, 404, 408, 413, 415, 422, 429, 503).items():
        responses[str(status)] = {
            "description": answer["description"],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
        }
    return {
        "servers": [
            {
                "url": "{collector}",
                "description": "The collector",
                "variables": {"collector": {"default": ingest_url, "description": "Its address"}},
            }
        ],
        "post": {
            "tags": ["ingest"],
            "operationId": "ingest",
            "summary": "Send logs (to the collector, another port)",
            "description": "One object, an array of objects, or one object a line (NDJSON); plain, gzip, zstd or "
            "deflate. 202 once every accepted record is durable; a rejected one is named with its index and reason, "
            "and the others are accepted.",
            "security": [{"bearer": []}],
            "parameters": [
                {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "required": False,
                    "description": "Makes a repeat of this request a no-op: 1 to 256 printable ASCII characters.",
                    # Not an example of the parameter: that would be sent by everybody who tries the page out.
                    "schema": {"type": "string", "minLength": 1, "maxLength": 256, "examples": ["batch-0001"]},
                },
                {
                    "name": "stream",
                    "in": "query",
                    "required": False,
                    "description": "Where to, with a key for all streams; any other key belongs to one.",
                    "schema": {"type": "string", "maxLength": 50, "examples": ["default"]},
                },
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"anyOf": [_RECORD_REF, {"type": "array", "items": _RECORD_REF}]},
                        "examples": {
                            "one": {"summary": "One record", "value": _ONE},
                            "several": {"summary": "An array", "value": [_ONE, {"message": "only a message"}]},
                        },
                    },
                    "application/x-ndjson": {
                        "schema": {"type": "string"},
                        "example": '{"message": "first"}\n{"message": "second"}\n',
                    },
                },
            },
            "responses": responses,
        },
    }
