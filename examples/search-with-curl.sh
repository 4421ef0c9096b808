#!/bin/sh
# Read logs with nothing but curl. Needs LOGSTREAM_API_KEY; LOGSTREAM_API_URL where it is not this machine.
set -eu
: "${LOGSTREAM_API_KEY:?set it to an API key with the scope read}"
url="${LOGSTREAM_API_URL:-http://127.0.0.1:8081}"

# The newest ten errors and warnings of the last hour that contain "batch".
curl -sSfG "$url/logs" -H "Authorization: Bearer $LOGSTREAM_API_KEY" \
  --data-urlencode 'search=batch' -d 'level=error,warn' -d 'limit=10'
echo

# How many there were in each minute.
curl -sSfG "$url/stats" -H "Authorization: Bearer $LOGSTREAM_API_KEY" --data-urlencode 'search=batch'
echo

# What happens now, as Server-Sent Events, for two seconds.
curl -sSN --max-time 2 "$url/api/v1/tail" -H "Authorization: Bearer $LOGSTREAM_API_KEY" \
  -H 'Accept: text/event-stream' || test $? -eq 28
