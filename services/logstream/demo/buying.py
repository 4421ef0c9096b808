"""Checkout, over cart, inventory, payment, shipping and notification: what breaks in the incident."""

from dataclasses import dataclass

from logstream.demo.plan import Incident
from logstream.demo.shop import CARDS, CARRIERS, WAREHOUSES, Region, product
from logstream.demo.sink import Minute, Request

POOL_TIMEOUT = 3_000
"""Milliseconds that `payment` waits for a connection of its pool."""
ATTEMPTS = 3
_DECLINED = ("insufficient_funds", "expired_card", "do_not_honor", "3ds_not_completed")
_TRACE = """\
PoolTimeoutError: no connection of pool payment-db within 3000 ms
  File "/app/payment/charges.py", line 118, in authorize
    async with self.pool.acquire(timeout=3.0) as connection:
  File "/usr/lib/python3.13/site-packages/dbclient/pool.py", line 231, in acquire
    raise PoolTimeoutError(self.name, timeout)"""


@dataclass(slots=True)
class _Order:
    """What is bought. clock: ms from the request's beginning."""

    number: str
    amount: str
    items: int
    clock: float = 0.0


def check_out(r: Request, severity: float) -> bool:
    """Buy; whether it came to an end. severity: of the incident, 0 to 1, in this region at this time."""
    rng = r.rng
    items = rng.choice((1, 1, 2, 2, 3, 5))
    order = _Order(f"A{rng.randrange(10**6, 10**7)}", f"{rng.lognormvariate(3.9, 0.7):.2f} EUR", items)
    r.write(4, "checkout", "info", f"Checkout of order {order.number} started: {items} items, {order.amount}",
            order_id=order.number)  # fmt: skip
    r.write(9, "cart", "info", f"Locked cart of user {r.user} for order {order.number}", order_id=order.number)
    order.clock = 14.0
    for _ in range(min(items, 2)):
        order.clock += r.took(8)
        r.write(order.clock, "inventory", "info", f"Reserved {product(rng)} in {rng.choice(WAREHOUSES[r.region])} "
                f"for order {order.number}", order_id=order.number)  # fmt: skip
    paid = _pay(r, order, severity)
    if paid is None:
        _fail(r, order)
        return False
    if not paid:
        r.answer(order.clock + 8, "POST", "/checkout", "/checkout", 402, order_id=order.number)
        return True
    _confirm(r, order)
    return True


def _pay(r: Request, order: _Order, severity: float) -> bool | None:
    """Whether the card was accepted; None when payment did not answer. In the incident, connections of the pool are
    waited for: the longer, the worse it is, and in vain when it takes longer than POOL_TIMEOUT."""
    rng = r.rng
    for attempt in range(1, ATTEMPTS + 1):
        began = order.clock
        wait = severity * POOL_TIMEOUT * rng.lognormvariate(0.5, 0.6) if severity else 0.0
        if wait < POOL_TIMEOUT:
            return _charge(r, order, wait)
        order.clock += POOL_TIMEOUT + r.took(4)
        waiting = int(3 + 30 * severity * rng.random())
        message = (
            f"No connection of pool payment-db within {POOL_TIMEOUT} ms (max_size=4, in use=4, waiting={waiting}): "
            f"order {order.number}"
        )
        r.write(order.clock, "payment", "error", _TRACE if rng.random() < 0.08 else message,
                error="PoolTimeoutError", pool="payment-db", order_id=order.number,
                latency_ms=f"{order.clock - began:.1f}", status="503")  # fmt: skip
        order.clock += 2
        if attempt < ATTEMPTS:
            r.write(order.clock, "checkout", "warn", f"Payment of order {order.number} answered 503, attempt "
                    f"{attempt} of {ATTEMPTS}; next in {200 * attempt} ms", upstream="payment",
                    order_id=order.number)  # fmt: skip
            order.clock += 200 * attempt
    return None


def _charge(r: Request, order: _Order, wait: float) -> bool:
    rng = r.rng
    took = wait + r.took(190, 0.35)
    card = rng.choice(CARDS)
    if wait > POOL_TIMEOUT / 3:
        r.write(order.clock + wait, "payment", "warn", f"Waited {wait:.0f} ms for a connection of pool payment-db",
                pool="payment-db", order_id=order.number, latency_ms=f"{wait:.1f}")  # fmt: skip
    order.clock += took
    if rng.random() < 0.05:
        reason = rng.choice(_DECLINED)
        r.write(order.clock, "payment", "warn", f"Card declined for order {order.number}: {reason}", reason=reason,
                card=card, order_id=order.number, latency_ms=f"{took:.1f}", status="402")  # fmt: skip
        r.write(order.clock + 4, "checkout", "info", f"Order {order.number} was not paid, asking for another card",
                order_id=order.number)  # fmt: skip
        return False
    r.write(order.clock, "payment", "info", f"Authorized {order.amount} by {card} for order {order.number} in "
            f"{took:.0f} ms, charge ch_{rng.getrandbits(40):010x}", card=card, order_id=order.number,
            latency_ms=f"{took:.1f}", status="200")  # fmt: skip
    return True


def _fail(r: Request, order: _Order) -> None:
    clock = order.clock
    r.write(clock + 3, "checkout", "error", f"Order {order.number} failed: payment did not answer after {ATTEMPTS} "
            "attempts", error="UpstreamError", upstream="payment", order_id=order.number, status="502",
            latency_ms=f"{clock:.1f}")  # fmt: skip
    r.write(clock + 5, "inventory", "info", f"Released reservation of order {order.number}", order_id=order.number)
    r.answer(clock + 8, "POST", "/checkout", "/checkout", 502, upstream="checkout", order_id=order.number)


def _confirm(r: Request, order: _Order) -> None:
    clock, carrier = order.clock, r.rng.choice(CARRIERS)
    r.write(clock + 6, "checkout", "info", f"Order {order.number} confirmed, {order.amount}", order_id=order.number,
            latency_ms=f"{clock + 2:.1f}")  # fmt: skip
    r.answer(clock + 11, "POST", "/checkout", "/checkout", 201, order_id=order.number)
    later = clock + r.took(400)
    r.write(later, "shipping", "info", f"Created shipment of order {order.number}, {order.items} parcels",
            carrier=carrier, order_id=order.number)  # fmt: skip
    r.write(later + r.took(900), "notification", "info", f"Sent e-mail order_confirmation to user {r.user}",
            template="order_confirmation", order_id=order.number)  # fmt: skip


def pool_gauge(minute: Minute, region: Region, trouble: Incident | None) -> None:
    """The state of payment's connection pool, as it is logged every five minutes."""
    rng = minute.rng
    bad = trouble is not None and trouble.region == region.name and trouble.start <= minute.start < trouble.end
    severity = trouble.severity(minute.start) if trouble is not None and bad else 0.0
    size = 4 if bad else 40
    used = min(size, rng.randint(3, 12))
    waiting = int(30 * severity * rng.random() + 10 * severity)
    minute.write(
        minute.moment(), "payment", region, "warn" if waiting > 3 else "info",
        f"Pool payment-db: {used} of {size} connections in use, {waiting} requests waiting",
        pool="payment-db", pool_size=str(size), pool_used=str(used), pool_waiting=str(waiting),
    )  # fmt: skip
