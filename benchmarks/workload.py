"""The rows of every benchmark: 12 services, 6 message shapes with random ids, 3 metadata keys of which one is
unique in every row, about 237 bytes of JSON each. The same seed and start give the same rows.

A batch is made from its number alone, so that several processes can make parts of one workload, and checks can
say what a batch held without keeping it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from logstream.record import LEVEL_LABELS, Batch, Level

SERVICES = (
    "gateway", "checkout", "payment", "inventory", "catalog", "search",
    "recommendation", "notification", "identity", "shipping", "billing", "audit",
)  # fmt: skip
_SERVICE_WEIGHTS = (30, 14, 10, 9, 9, 8, 6, 5, 4, 2, 2, 1)
_LEVELS = (Level.DEBUG, Level.INFO, Level.WARN, Level.ERROR, Level.FATAL)
_LEVEL_WEIGHTS = (120, 780, 60, 39, 1)
_REGIONS = ("eu-west-1", "eu-north-1", "us-east-1", "us-west-2", "ap-south-1")
_NS = 1_000_000_000
_DEFAULT_START = 1_790_000_000 * _NS
STEP_NS = 1_000_000
"""Mean distance of two rows: 5 M rows span 83 minutes."""


def _request(bits: int) -> str:
    return f"GET /api/v1/orders/{bits & 0xFFFFFF} 200 {bits >> 24 & 0xFFFF} bytes in {bits >> 40 & 0x3FF} ms"


def _login(bits: int) -> str:
    return f"user u-{bits & 0xFFFFF} logged in from 10.{bits >> 20 & 0xFF}.{bits >> 28 & 0xFF}.{bits >> 36 & 0xFF}"


def _payment(bits: int) -> str:
    return f"payment pay_{bits & 0xFFFFFFFF:08x} authorised amount={bits >> 32 & 0xFFFF} currency=EUR"


def _cache(bits: int) -> str:
    return f"cache miss for key session:{bits & 0xFFFFFFFF:08x}, loaded in {bits >> 32 & 0xFF}ms"


def _timeout(bits: int) -> str:
    return f"request timed out after {bits & 0x1FFF}ms calling node-{bits >> 13 & 0x7F}, attempt {bits >> 20 & 3}"


def _job(bits: int) -> str:
    return f"job {bits & 0xFFFFFFF} finished: {bits >> 28 & 0xFFFF} records in {bits >> 44 & 0xFFF} ms"


_SHAPES: tuple[Callable[[int], str], ...] = (_request, _login, _payment, _cache, _timeout, _job)
_SHAPE_WEIGHTS = (40, 12, 10, 18, 5, 15)


@dataclass(frozen=True, slots=True)
class Workload:
    """`rows` rows in batches of `batch_rows`, the first at `start_ns` (ns since the epoch)."""

    rows: int
    batch_rows: int = 1_000
    seed: int = 1
    start_ns: int = _DEFAULT_START

    @property
    def batches(self) -> int:
        return -(-self.rows // self.batch_rows)

    def batch(self, number: int) -> Batch:
        """Batch `number`, from 0; the last one may be shorter."""
        first = number * self.batch_rows
        n = min(self.batch_rows, self.rows - first)
        if n <= 0:
            raise IndexError(number)
        random = Random(self.seed * 1_000_003 + number)
        choices, bits = random.choices, random.getrandbits
        begin = self.start_ns + first * STEP_NS
        ids = random.randbytes(16 * n).hex()
        return Batch(
            # Microseconds, as most loggers write them, and not quite in order, as most arrive.
            timestamps=[begin + i * STEP_NS + (bits(20) - (1 << 19)) * 1_000 for i in range(n)],
            services=choices(SERVICES, _SERVICE_WEIGHTS, k=n),
            levels=choices(_LEVELS, _LEVEL_WEIGHTS, k=n),
            messages=[shape(bits(60)) for shape in choices(_SHAPES, _SHAPE_WEIGHTS, k=n)],
            metadata=[
                {"request": ids[i : i + 32], "region": region, "host": f"n-{bits(6)}"}
                for i, region in zip(range(0, 32 * n, 32), choices(_REGIONS, k=n), strict=True)
            ],
            trace_ids=[""] * n,
            span_ids=[""] * n,
        )

    def ndjson(self, number: int) -> bytes:
        """Batch `number` as the body of a POST, one JSON object a line."""
        return to_ndjson(self.batch(number))

    def bodies(self) -> Iterator[bytes]:
        """All batches as NDJSON, in order."""
        return map(self.ndjson, range(self.batches))


def to_ndjson(batch: Batch) -> bytes:
    """`batch` as NDJSON with RFC 3339 timestamps of microseconds. Its values need no escaping in JSON."""
    lines: list[str] = []
    second, text = None, ""
    for record in batch:
        whole, fraction = divmod(record.timestamp, _NS)
        if whole != second:
            second, text = whole, datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        metadata = ",".join(f'"{key}":"{value}"' for key, value in record.metadata.items())
        lines.append(
            f'{{"timestamp":"{text}.{fraction // 1000:06d}Z","service":"{record.service}",'
            f'"level":"{LEVEL_LABELS[record.level - 1]}","message":"{record.message}","metadata":{{{metadata}}}}}'
        )
    lines.append("")
    return "\n".join(lines).encode()
