"""nginx and postgres in their own formats."""

from datetime import UTC, datetime

from logstream.demo.shop import BROWSERS, Region, product, user_id
from logstream.demo.sink import Minute, Request

_ASSETS = ("/static/app.3f2a91.js", "/static/vendor.77b0c4.js", "/static/shop.d41d8c.css", "/static/logo.svg",
           "/static/fonts/inter.woff2")  # fmt: skip
_PROBES = ("/wp-login.php", "/.env", "/xmlrpc.php", "/phpmyadmin/index.php", "/.git/config", "/admin/config.php",
           "/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php")  # fmt: skip
_BOTS = ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "python-requests/2.32.3",
         "Mozilla/5.0 zgrab/0.x", "Go-http-client/1.1")  # fmt: skip
_STATEMENTS = (
    "SELECT id, name, price FROM products WHERE category = $1 ORDER BY popularity DESC LIMIT 48",
    "SELECT o.id, sum(i.price) FROM orders o JOIN items i ON i.order_id = o.id WHERE o.user_id = $1 GROUP BY o.id",
    "UPDATE stock SET available = available - $1 WHERE sku = $2 AND warehouse = $3",
    "DELETE FROM sessions WHERE expires_at < now()",
)


def assets(r: Request) -> None:
    """A static file, in nginx's combined format."""
    path, browser = r.rng.choice(_ASSETS), r.rng.choice(BROWSERS)
    _access(r.minute, r.region, r.at, r.client, request=f"GET {path} HTTP/2.0",
            status=304 if r.rng.random() < 0.3 else 200, size=r.rng.randint(400, 90_000), agent=browser,
            referrer="https://shop.example/")  # fmt: skip


def bots(minute: Minute, region: Region) -> None:
    """Somebody who looks for holes, several requests in a row, and now and then a search engine."""
    rng = minute.rng
    at = minute.moment()
    client = f"198.18.{rng.randint(200, 255)}.{rng.randint(1, 254)}"
    if rng.random() < 0.4:
        _access(minute, region, at, client, request=f"GET /product/{product(rng)} HTTP/1.1",
                status=200, size=rng.randint(9_000, 60_000), agent=_BOTS[0])  # fmt: skip
        return
    for path in rng.sample(_PROBES, rng.randint(1, 4)):
        at += rng.randrange(10**8, 10**9)
        _access(minute, region, at, client, request=f"GET {path} HTTP/1.1", status=404, size=153,
                agent=rng.choice(_BOTS[1:]))  # fmt: skip
    if rng.random() < 0.2:
        when = datetime.fromtimestamp(at // 10**9, UTC)
        minute.write(
            at, "nginx", region, "error",
            f"{when:%Y/%m/%d %H:%M:%S} [error] 29#29: *{rng.randint(10**4, 10**6)} open() "
            f'"/usr/share/nginx/html{path}" failed (2: No such file or directory), client: {client}, '
            f'server: shop.example, request: "GET {path} HTTP/1.1", host: "shop.example"', client_ip=client,
        )  # fmt: skip


def _access(
    minute: Minute, region: Region, at: int, client: str, *, request: str, status: int, size: int, agent: str,
    referrer: str = "-",
) -> None:  # fmt: skip
    when = datetime.fromtimestamp(at // 10**9, UTC)
    minute.write(
        at, "nginx", region, "info",
        f'{client} - - [{when:%d/%b/%Y:%H:%M:%S} +0000] "{request}" {status} {size} "{referrer}" "{agent}"',
        client_ip=client, status=str(status), bytes=str(size), method="GET",
    )  # fmt: skip


def slow_query(minute: Minute, region: Region) -> None:
    """A statement beyond log_min_duration_statement."""
    took = 1_000 * minute.rng.lognormvariate(0.4, 0.5) + 500
    statement = minute.rng.choice(_STATEMENTS)
    _postgres(minute, region, "warn", "LOG", f"duration: {took:.3f} ms  execute <unnamed>: {statement}",
              duration=f"{took:.3f}ms")  # fmt: skip


def database_error(minute: Minute, region: Region) -> None:
    """What the application does to a database."""
    rng = minute.rng
    kind = rng.random()
    if kind < 0.4:
        text = (
            f"deadlock detected\nDETAIL:  Process {rng.randint(100, 999)} waits for ShareLock on transaction "
            f"{rng.randint(10**6, 10**7)}; blocked by process {rng.randint(100, 999)}.\n"
            "HINT:  See server log for query details."
        )
    elif kind < 0.8:
        text = (
            'duplicate key value violates unique constraint "users_email_key"\n'
            f"DETAIL:  Key (email)=({user_id(rng)}@mail.example) already exists."
        )
    else:
        text = "canceling statement due to statement timeout"
    _postgres(minute, region, "error", "ERROR", text)


def checkpoint(minute: Minute, region: Region) -> None:
    """Every fifteen minutes."""
    rng = minute.rng
    _postgres(minute, region, "info", "LOG", "checkpoint starting: time")
    count = rng.randint(300, 4_000)
    _postgres(minute, region, "info", "LOG", f"checkpoint complete: wrote {count} buffers ({count / 163.84:.1f}%); "
              f"0 WAL file(s) added, 0 removed, {rng.randint(0, 3)} recycled; write={rng.uniform(20, 260):.3f} s, "
              f"sync={rng.uniform(0.002, 0.4):.3f} s, total={rng.uniform(21, 262):.3f} s")  # fmt: skip


def vacuum(minute: Minute, region: Region) -> None:
    """Autovacuum of a table."""
    rng = minute.rng
    table = rng.choice(("orders", "sessions", "stock", "carts"))
    _postgres(minute, region, "info", "LOG", f'automatic vacuum of table "shop.public.{table}": index scans: 1\n'
              f"\tpages: 0 removed, {rng.randint(900, 90_000)} remain\n"
              f"\ttuples: {rng.randint(100, 9_000)} removed, {rng.randint(10**4, 10**6)} remain")  # fmt: skip


def _postgres(minute: Minute, region: Region, level: str, severity: str, text: str, **metadata: str) -> None:
    at = minute.moment()
    when = datetime.fromtimestamp(at // 10**9, UTC)
    prefix = f"{when:%Y-%m-%d %H:%M:%S}.{at // 10**6 % 1000:03d} UTC [{minute.rng.randint(60, 900)}] shop@shop"
    minute.write(at, "postgres", region, level, f"{prefix} {severity}:  {text}", given=metadata)
