"""What goes wrong on an ordinary day, and what only looks so."""

from collections.abc import Callable
from itertools import accumulate

from logstream.demo import infrastructure
from logstream.demo.plan import Incident
from logstream.demo.shop import CARRIERS, Region, product
from logstream.demo.sink import Minute, Request

EVENTS = 0.11
"""Events for each request, on average."""


def misfortune(minute: Minute, region: Region) -> None:
    """One event, as often as its weight says."""
    minute.rng.choices(_CHOICES, cum_weights=_WEIGHTS)[0](minute, region)


def deprecated(r: Request, trouble: Incident | None) -> None:
    """Noisy and harmless: catalog warns since the version that came shortly before the incident."""
    if trouble is not None and r.at >= trouble.innocent and r.rng.random() < 0.25:
        r.write(5, "catalog", "warn", "Field price_cents is deprecated, client storefront should use price.amount",
                client="storefront")  # fmt: skip


def _slow(minute: Minute, region: Region) -> None:
    infrastructure.slow_query(minute, region)


def _mail_retry(minute: Minute, region: Region) -> None:
    rng, r = minute.rng, Request(minute, region, minute.moment())
    r.write(0, "notification", "warn", f"SMTP server answered 421, trying again in 30 s (attempt {rng.randint(1, 3)})")
    if rng.random() < 0.25:
        r.write(30_000, "notification", "error", f"Gave up on e-mail to user {r.user}: 550 mailbox unavailable",
                error="MailboxUnavailable")  # fmt: skip
    else:
        r.write(30_000, "notification", "info", f"Sent e-mail after {rng.randint(1, 3)} retries")


def _carrier_away(minute: Minute, region: Region) -> None:
    rng, r = minute.rng, Request(minute, region, minute.moment())
    carrier = rng.choice(CARRIERS)
    r.write(0, "shipping", "warn", f"Carrier {carrier} answered 503, trying again", carrier=carrier)
    if rng.random() < 0.35:
        r.write(900, "shipping", "error", "java.net.SocketTimeoutException: Read timed out\n"
                "\tat java.base/sun.nio.ch.NioSocketImpl.timedRead(NioSocketImpl.java:278)\n"
                "\tat example.shop.shipping.CarrierClient.fetch(CarrierClient.java:87)\n"
                "\tat example.shop.shipping.TrackingService.refresh(TrackingService.java:142)\n"
                "Caused by: java.io.IOException: connection reset\n\t... 12 more",
                error="SocketTimeoutException", carrier=carrier)  # fmt: skip


def _render_failed(minute: Minute, region: Region) -> None:
    r = Request(minute, region, minute.moment())
    sku = product(minute.rng)
    r.write(20, "storefront", "error", "TypeError: Cannot read properties of undefined (reading 'dimensions')\n"
            "    at SizeTable (/app/dist/product.js:412:31)\n    at renderWithHooks (/app/node_modules/react-dom/"
            "server.js:5724:16)\n    at async render (/app/dist/server.js:88:20)",
            error="TypeError", route="/product/{id}", product_id=sku)  # fmt: skip
    r.answer(26, "GET", "/product/{id}", f"/product/{sku}", 500)


def _shard_slow(minute: Minute, region: Region) -> None:
    rng, r = minute.rng, Request(minute, region, minute.moment())
    shard, late = rng.randint(0, 5), rng.randint(210, 900)
    r.write(late, "search", "warn", f"Shard {shard} answered after {late} ms, results may be incomplete",
            latency_ms=str(late))  # fmt: skip
    if rng.random() < 0.3:
        r.write(late + 2, "search", "error", f"Query failed: {rng.randint(2, 5)} of 6 shards timed out",
                error="ShardTimeout")  # fmt: skip
        r.answer(late + 9, "GET", "/search", "/search", 504)


def _acquirer_away(minute: Minute, region: Region) -> None:
    rng, r = minute.rng, Request(minute, region, minute.moment())
    r.write(5_000, "payment", "error", f"Acquirer answered 504, charge ch_{rng.getrandbits(40):010x} is pending",
            error="AcquirerTimeout", status="504", latency_ms="5000.0")  # fmt: skip
    r.write(15_000, "payment", "info", f"Charge ch_{rng.getrandbits(40):010x} settled after asking again")


def _bad_token(minute: Minute, region: Region) -> None:
    r = Request(minute, region, minute.moment())
    r.write(2, "identity", "error", "Token rejected: signature does not match key "
            f"k{minute.rng.randint(1, 4)}", error="InvalidSignature")  # fmt: skip
    r.answer(4, "GET", "/orders/{id}", "/orders", 401)


def _cache_gone(minute: Minute, region: Region) -> None:
    r = Request(minute, region, minute.moment())
    r.write(1, "cart", "error", "redis.ConnectionError: connection reset by peer, reading from postgres",
            error="ConnectionError")  # fmt: skip
    r.write(1, "redis", "warn", f"Client id={minute.rng.randint(10**3, 10**6)} closed for overcoming output buffer "
            "limits")  # fmt: skip


def _oversold(minute: Minute, region: Region) -> None:
    r = Request(minute, region, minute.moment())
    r.write(6, "inventory", "warn", f"Stock of {product(minute.rng)} below zero, ordering again")


def _limited(minute: Minute, region: Region) -> None:
    r = Request(minute, region, minute.moment())
    r.write(1, "gateway", "warn", f"Rate limit of client {r.client} exceeded, {minute.rng.randint(61, 300)} requests "
            "a minute")  # fmt: skip
    r.answer(2, "GET", "/search", "/search", 429)


def _flags(minute: Minute, region: Region) -> None:
    minute.write(minute.moment(), "storefront", region, "warn", "Feature flags not refreshed, using those of "
                 f"{minute.rng.randint(31, 180)} s ago")  # fmt: skip


def _memory(minute: Minute, region: Region) -> None:
    minute.write(minute.moment(), "recommendation", region, "warn", f"Garbage collection took "
                 f"{minute.rng.randint(300, 1_800)} ms, heap at {minute.rng.randint(71, 93)}%")  # fmt: skip


def _lag(minute: Minute, region: Region) -> None:
    minute.write(minute.moment(), "postgres", region, "warn", f"Replica lags {minute.rng.uniform(1, 9):.1f} s behind")


def _out_of_memory(minute: Minute, region: Region) -> None:
    rng = minute.rng
    at = minute.moment()
    minute.write(at, "recommendation", region, "fatal", "MemoryError: cannot allocate "
                 f"{rng.randint(200, 900)} MiB for scores\nTraceback (most recent call last):\n"
                 '  File "/app/recommend/model.py", line 66, in score\n    return users @ items.T\nMemoryError',
                 error="MemoryError")  # fmt: skip
    minute.write(at + 4 * 10**9, "recommendation", region, "info", "Restarted by kubelet, reason OOMKilled")


_EVENTS: tuple[tuple[float, Callable[[Minute, Region], None]], ...] = (
    (20, infrastructure.bots), (10, _slow), (7, _mail_retry), (8, _carrier_away), (7, _render_failed),
    (7, _shard_slow), (0.7, _acquirer_away), (6, _bad_token), (5, _cache_gone), (6, _oversold), (6, _limited),
    (5, _flags), (5, _memory), (4, _lag), (3, infrastructure.database_error), (0.1, _out_of_memory),
)  # fmt: skip
_CHOICES = [event for _, event in _EVENTS]
_WEIGHTS = list(accumulate(weight for weight, _ in _EVENTS))
