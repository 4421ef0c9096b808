"""The collector's HTTP interface, raw ASGI: `POST /ingest`, health and metrics."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from email.utils import formatdate
from urllib.parse import parse_qsl

from logstream.auth.gate import Gate
from logstream.auth.principal import Principal
from logstream.auth.principal import Scope as KeyScope
from logstream.auth.quota import QuotaLimiter
from logstream.auth.streams import StreamInfo
from logstream.bus.protocol import Bus, Claim
from logstream.clock import NS_PER_SECOND, Clock
from logstream.collector import body as bodies
from logstream.collector.answer import Answer, accepted, refused
from logstream.collector.budget import Budget, Hold
from logstream.collector.decode.json_body import PIECE_BYTES, JsonDecoder
from logstream.collector.publisher import Publisher
from logstream.errors import (
    BadRequest,
    Forbidden,
    InvalidValue,
    LogStreamError,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    StartupError,
    TooLarge,
    Unavailable,
    UnsupportedEncoding,
)
from logstream.logs import get_logger
from logstream.metrics import (
    INGEST_ACCEPTED,
    INGEST_BYTES,
    INGEST_REDACTED,
    INGEST_REJECTED,
    INGEST_REQUESTS,
    INGEST_SECONDS,
    INGEST_TRUNCATED,
    exposition,
)
from logstream.record import Batch, Decoded, Rejection
from logstream.redact import Redactor, RuleError, redactor_for
from logstream.settings import MIB, CollectorSettings
from logstream.storage import block
from logstream.stream import Stream
from logstream.web import Cors, Receive, Scope, Send, error_headers, json_bytes, respond

_log = get_logger("collector")

MAX_LISTED_REJECTIONS = 100
"""Rejections named in one answer; `rejected_count` says how many there were."""
MAX_BLOCK_BYTES = 56 * MIB
"""One request as a block. Flattened names repeat what they lie in, so that a body may grow thirtyfold; and with
the columns added later, a block must be within what the engine takes as one body (64 MiB)."""
_MAX_IDEMPOTENCY_KEY = 256
_MAX_PARAMETERS = 100
_HASH_INLINE = 256 * 1024
_READY_SECONDS = 3.0

_MEDIA_TYPES = frozenset(
    {
        "", "application/json", "application/x-ndjson", "application/ndjson", "application/jsonl",
        "application/jsonlines", "application/x-jsonlines", "application/json-lines", "application/octet-stream",
        # What curl -d sends unless told otherwise.
        "application/x-www-form-urlencoded",
    }
)  # fmt: skip


class _Outcome:
    """What the pieces of one body came to."""

    __slots__ = (
        "by_code", "high", "listed", "low", "redacted", "rejected", "rejected_indexes", "rows", "seen", "truncated",
    )  # fmt: skip

    def __init__(self) -> None:
        self.rows = 0
        self.low = 0
        self.high = 0
        self.rejected = 0
        self.listed: list[Rejection] = []
        # Made when first needed: most requests are a single sound record.
        self.by_code: Counter[str] | None = None
        self.rejected_indexes: hashlib.blake2b | None = None
        self.truncated = 0
        self.seen = 0
        self.redacted: Counter[str] | None = None

    def take(self, decoded: Decoded, redactor: Redactor) -> Batch:
        """The rows that may be kept of one piece, as they may be kept."""
        first = self.seen
        self.seen += len(decoded.batch) + len(decoded.rejections)
        if redactor:
            redacted = redactor.redact(decoded, first)
            decoded = redacted.decoded
            if redacted.found:
                self.redacted = self.redacted or Counter()
                self.redacted.update(redacted.found)
        self._note(decoded.rejections, decoded.truncated)
        return decoded.batch

    def _note(self, rejections: Sequence[Rejection], truncated: int) -> None:
        self.truncated += truncated
        if rejections:
            self.rejected += len(rejections)
            self.listed.extend(rejections[: MAX_LISTED_REJECTIONS - len(self.listed)])
            if self.rejected_indexes is None or self.by_code is None:
                self.rejected_indexes, self.by_code = hashlib.blake2b(digest_size=16), Counter()
            self.rejected_indexes.update(b"".join(r.index.to_bytes(8, "little") for r in rejections))
            self.by_code.update(r.code for r in rejections)

    def count_rejected(self) -> None:
        """To be called with the answer that names them: a request refused as a whole comes again."""
        for code, count in (self.by_code or {}).items():
            INGEST_REJECTED.labels(code).inc(count)

    def count_redacted(self, stream: str) -> None:
        for rule, count in (self.redacted or {}).items():
            INGEST_REDACTED.labels(stream, rule).inc(count)


class _Counters:
    """The labelled metrics of one stream, looked up once."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream.name
        self.accepted = INGEST_ACCEPTED.labels(stream.name)
        self.body_bytes = INGEST_BYTES.labels(stream.name)
        self.truncated = INGEST_TRUNCATED.labels(stream.name)


class Collector:
    """One ASGI application. `close` publishes what waits."""

    def __init__(self, settings: CollectorSettings, bus: Bus, gate: Gate, quota: QuotaLimiter, clock: Clock) -> None:
        self._settings = settings
        self._limits = settings.limits
        self._bus = bus
        self._gate = gate
        self._quota = quota
        self._clock = clock
        self._decoder = JsonDecoder(settings.limits)
        self._budget = Budget(settings.limits.max_pending_bytes)
        self._targets: dict[str, tuple[Publisher, _Counters, Redactor]] = {}
        try:
            redactor_for(settings.redaction, "default")
        except RuleError as error:
            raise StartupError(f"redaction ({error.field}): {error.message}", field=error.field) from error
        self._statuses = {202: INGEST_REQUESTS.labels("202")}
        self._cors = Cors(
            settings.cors_origins,
            methods=("GET", "POST"),
            headers=("Authorization", "Content-Type", "Content-Encoding", "Idempotency-Key"),
            exposed=("Idempotent-Replay", "Retry-After"),
        )
        self._routes: Mapping[str, Mapping[str, Callable[[], Awaitable[Answer]]]] = {
            "/ingest": {"POST": self._never},
            **{
                path: {"GET": handler, "HEAD": handler}
                for path, handler in (
                    ("/health", self._health),
                    ("/livez", self._livez),
                    ("/readyz", self._readyz),
                    ("/metrics", self._metrics),
                )
            },
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        ingest = scope["path"] == "/ingest" and scope["method"] == "POST"
        try:
            answer = await (self._ingest(scope, headers, receive) if ingest else self._route(scope, headers))
        except bodies.ClientGone:
            return
        except LogStreamError as error:
            answer = self._error(error)
        except Exception:
            _log.exception("request failed", path=scope["path"])
            answer = self._error(LogStreamError("an unexpected error; the collector's log has it"))
        if ingest:
            self._count(answer.status)
        extra = answer.headers
        if (origin := headers.get(b"origin")) is not None:
            extra = (*extra, *self._cors.headers(origin))
        await respond(send, answer.status, answer.body, extra, content_type=answer.content_type)

    async def close(self) -> None:
        """Publish what waits, then refuse."""
        await asyncio.gather(*(publisher.close() for publisher, _, _ in self._targets.values()))

    def _error(self, error: LogStreamError) -> Answer:
        headers = error_headers(error)
        if isinstance(error, (RequestTimeout, TooLarge)):
            # The rest of the body is not wanted.
            headers = [*headers, (b"connection", b"close")]
        return Answer(error.status, json_bytes(error.body()), tuple(headers))

    def _count(self, status: int) -> None:
        counter = self._statuses.get(status)
        if counter is None:
            counter = self._statuses[status] = INGEST_REQUESTS.labels(str(status))
        counter.inc()

    # Everything but /ingest

    async def _route(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Answer:
        methods = self._routes.get(scope["path"])
        if methods is None:
            raise NotFound(f"there is no {scope['path'][:100]!a} here; logs go to POST /ingest")
        method = scope["method"]
        allowed = ", ".join((*methods, "OPTIONS"))
        if method == "OPTIONS":
            extra = self._cors.preflight() if b"access-control-request-method" in headers else []
            return Answer(204, b"", ((b"allow", allowed.encode()), *extra))
        handler = methods.get(method)
        if handler is None:
            answer = self._error(MethodNotAllowed(f"use {allowed}"))
            return Answer(answer.status, answer.body, ((b"allow", allowed.encode()),))
        return await handler()

    async def _never(self) -> Answer:
        raise AssertionError("POST /ingest does not come here")

    async def _health(self) -> Answer:
        # The only answer with a Date: `logstream doctor` compares clocks by it.
        now = formatdate(self._clock.now_ns() // NS_PER_SECOND, usegmt=True)
        return Answer(200, b'{"status":"ok"}', ((b"date", now.encode()),))

    async def _livez(self) -> Answer:
        return Answer(200, b'{"status":"ok"}')

    async def _readyz(self) -> Answer:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._bus.check()
        except TimeoutError:
            raise Unavailable(f"the log did not answer within {_READY_SECONDS:g} seconds") from None
        if self._gate.away:
            raise Unavailable("the accounts database is away: new keys cannot be checked")
        return Answer(200, b'{"status":"ready"}')

    async def _metrics(self) -> Answer:
        return Answer(200, exposition(), content_type=b"text/plain; version=0.0.4; charset=utf-8")

    # /ingest

    async def _ingest(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> Answer:
        principal = self._gate.authenticate(headers.get(b"authorization"))
        principal.require(KeyScope.INGEST)
        info = self._stream(principal, scope["query_string"])
        publisher, counters, redactor = self._target(info.stream)
        key = _idempotency_key(headers.get(b"idempotency-key"))
        _check_media_type(headers.get(b"content-type"))
        hold = Hold(self._budget)
        try:
            body = await bodies.read(receive, _content_length(headers), hold, self._limits)
            started = time.perf_counter()
            counters.body_bytes.inc(len(body))
            if b"content-encoding" in headers:
                encodings = b",".join(value for name, value in scope["headers"] if name == b"content-encoding")
                body = await bodies.decompress(body, encodings, hold, self._limits)
            answer = await self._accept(body, principal, publisher, counters, redactor, info=info, key=key, hold=hold)
            INGEST_SECONDS.observe(time.perf_counter() - started)
            return answer
        finally:
            hold.release()

    def _stream(self, principal: Principal, query: bytes) -> StreamInfo:
        """The key's own stream; a key of all streams names one with ?stream=NAME.

        Raises Forbidden, InvalidValue, NotFound, Unavailable.
        """
        if principal.kind != "key":
            raise Forbidden("logs are sent with an API key, which belongs to a stream", field="Authorization")
        name = principal.stream
        if query:
            try:
                parameters = dict(parse_qsl(query, max_num_fields=_MAX_PARAMETERS))
            except ValueError:
                raise BadRequest(f"more than {_MAX_PARAMETERS} parameters", limit=_MAX_PARAMETERS) from None
            if (named := parameters.get(b"stream")) is not None:
                name = named.decode("utf-8", "replace")[:64]
                principal.require(KeyScope.INGEST, stream=name)
        if name is None:
            raise InvalidValue("this key is for all streams: name one with ?stream=NAME", field="stream")
        return self._gate.stream(name)

    def _target(self, stream: Stream) -> tuple[Publisher, _Counters, Redactor]:
        target = self._targets.get(stream.topic)
        if target is None:
            publisher = Publisher(
                self._bus,
                stream.topic,
                self._clock,
                flush_rows=self._settings.flush_rows,
                flush_seconds=self._settings.flush_seconds,
                timeout_seconds=self._settings.publish_timeout_seconds,
            )
            redactor = redactor_for(self._settings.redaction, stream.name, self._limits)
            target = self._targets[stream.topic] = (publisher, _Counters(stream), redactor)
        return target

    async def _accept(
        self,
        body: bodies.Body,
        principal: Principal,
        publisher: Publisher,
        counters: _Counters,
        redactor: Redactor,
        *,
        info: StreamInfo,
        key: bytes | None,
        hold: Hold,
    ) -> Answer:
        now = self._clock.now_ns()
        outcome = _Outcome()
        batch: Batch | None = None
        encoded = b""
        if len(body) <= PIECE_BYTES:
            decoded = self._decoder.decode(body, now=now)
            batch = outcome.take(decoded, redactor)
            outcome.rows = len(batch)
        else:
            encoded = await self._encode_in_pieces(body, now, outcome, redactor, hold)
        if not outcome.rows:
            outcome.count_rejected()
            outcome.count_redacted(counters.stream)
            return refused(outcome.rejected, outcome.listed) if outcome.rejected else accepted(0, 0, ())
        size = len(body)
        self._quota.charge(principal, records=outcome.rows, bytes_=size, stream=info)
        duplicate = False
        try:
            if batch is not None and key is None and publisher.is_small(outcome.rows):
                failure = await publisher.join(batch, principal.id)
                if failure is not None:
                    try:
                        raise failure.with_traceback(None)
                    finally:
                        # Its traceback holds this frame, with the rows: see `publisher`.
                        del failure
            else:
                if batch is not None:
                    outcome.low, outcome.high = block.extent(batch)
                    encoded = block.encode(batch)
                claim = await self._claim(publisher.topic, principal, key, body, outcome) if key is not None else None
                published = await publisher.publish(
                    encoded,
                    rows=outcome.rows,
                    low=outcome.low,
                    high=outcome.high,
                    key_id=principal.id,
                    received_at=now,
                    claim=claim,
                )
                duplicate = published.duplicate
        except Unavailable:
            self._quota.refund(principal, records=outcome.rows, bytes_=size, stream=info)
            raise
        if not duplicate:
            counters.accepted.inc(outcome.rows)
            outcome.count_redacted(counters.stream)
        outcome.count_rejected()
        if outcome.truncated:
            counters.truncated.inc(outcome.truncated)
        return accepted(outcome.rows, outcome.rejected, outcome.listed, replay=duplicate)

    async def _encode_in_pieces(
        self, body: bodies.Body, now: int, outcome: _Outcome, redactor: Redactor, hold: Hold
    ) -> bytes:
        """Decode and encode a long body a piece at a time, letting others run in between.

        Raises TooLarge, Unavailable (budget: what the block has over the size of the body counts too).
        """
        builder = block.Builder()
        held = len(body)
        for decoded in self._decoder.pieces(body, now=now):
            builder.add(outcome.take(decoded, redactor))
            if builder.size > held:
                if builder.size > MAX_BLOCK_BYTES:
                    raise TooLarge(
                        f"the records take more than {MAX_BLOCK_BYTES} bytes, nested names written out: "
                        "send several requests",
                        field="records",
                        limit=MAX_BLOCK_BYTES,
                    )
                hold.grow(builder.size - held)
                held = builder.size
            await asyncio.sleep(0)
        outcome.rows, outcome.low, outcome.high = builder.rows, builder.low, builder.high
        return builder.body()

    async def _claim(self, topic: str, principal: Principal, key: bytes, body: bodies.Body, outcome: _Outcome) -> Claim:
        """What identifies sender and key, and what identifies the body.

        The indexes of rejected records are part of the fingerprint: a repeat whose records would be judged
        otherwise (the clock has moved, a limit was changed) must not be told that they were accepted.
        """
        identity = hashlib.sha256(b"\0".join((topic.encode(), principal.id.encode(), key))).digest()[:16]
        digest = hashlib.blake2b(digest_size=16)
        if len(body) > _HASH_INLINE:
            await asyncio.to_thread(digest.update, body)
        else:
            digest.update(body)
        if outcome.rejected_indexes is not None:
            digest.update(outcome.rejected_indexes.digest())
        return Claim(key=identity, fingerprint=digest.digest())


def _idempotency_key(value: bytes | None) -> bytes | None:
    if value is None:
        return None
    value = value.strip(b" \t")
    if not 1 <= len(value) <= _MAX_IDEMPOTENCY_KEY or not all(0x20 <= byte < 0x7F for byte in value):
        raise InvalidValue(
            f"Idempotency-Key must be 1 to {_MAX_IDEMPOTENCY_KEY} printable ASCII characters",
            field="Idempotency-Key",
            limit=_MAX_IDEMPOTENCY_KEY,
        )
    return value


def _content_length(headers: Mapping[bytes, bytes]) -> int | None:
    value = headers.get(b"content-length")
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        raise BadRequest("Content-Length is not a number", field="Content-Length") from None


def _check_media_type(value: bytes | None) -> None:
    """Raises UnsupportedEncoding for what is certainly something else than JSON in UTF-8."""
    if value is None or value in (b"application/json", b"application/x-ndjson"):
        return
    media_type, _, parameters = value.decode("latin-1").lower().partition(";")
    media_type = media_type.strip()
    if media_type not in _MEDIA_TYPES and not media_type.startswith("text/") and not media_type.endswith("+json"):
        raise UnsupportedEncoding(
            f"Content-Type {media_type[:64]!a} is not taken here: send application/json or application/x-ndjson",
            field="Content-Type",
        )
    for parameter in parameters.split(";"):
        name, _, charset = parameter.partition("=")
        if name.strip() == "charset" and charset.strip(' \t"') not in ("utf-8", "utf8", "us-ascii"):
            raise UnsupportedEncoding("JSON is sent in UTF-8", field="Content-Type")


def create_app(settings: CollectorSettings, *, bus: Bus, gate: Gate, quota: QuotaLimiter, clock: Clock) -> Collector:
    """The collector as an ASGI application."""
    return Collector(settings, bus, gate, quota, clock)
