#!/bin/sh
# Send logs with nothing but curl. Needs LOGSTREAM_API_KEY; LOGSTREAM_INGEST_URL where it is not this machine.
set -eu
: "${LOGSTREAM_API_KEY:?set it to an API key with the scope ingest}"
url="${LOGSTREAM_INGEST_URL:-http://127.0.0.1:8080}/ingest"

# One record. Only the message is needed.
curl -sSf "$url" -H "Authorization: Bearer $LOGSTREAM_API_KEY" \
  -d '{"service": "example", "level": "info", "message": "one record", "metadata": {"user_id": "42"}}'
echo

# Many records, one JSON object a line, compressed. The Idempotency-Key makes it safe to run this line again
# when the answer was lost: the records are taken once.
printf '%s\n' \
  '{"service": "example", "level": "warn", "message": "first of a batch"}' \
  '{"service": "example", "level": "error", "message": "second of a batch"}' |
  gzip |
  curl -sSf "$url" -H "Authorization: Bearer $LOGSTREAM_API_KEY" -H 'Content-Type: application/x-ndjson' \
    -H 'Content-Encoding: gzip' -H "Idempotency-Key: example-$(date +%Y%m%d%H%M%S)-$$" --data-binary @-
echo
