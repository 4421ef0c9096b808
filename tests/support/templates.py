"""Lines of several invented programs with the template each was made from: labelled samples that are always there."""

import random

_USERS = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory", "oscar")
_HOSTS = ("db.internal.example", "cache.internal.example", "queue.prod.example", "edge.prod.example", "10.2.0.17")
_TABLES = ("orders", "customers", "invoices", "stock", "parcels", "returns", "vouchers")
_POOLS = ("web-7d9c5b6f4-x2x9q", "worker-5f6d8b9c7-kk2lp", "cron-28491230-zzq8w", "api-6b8f9c5d4-9pqrs")
_FILES = ("/var/lib/app/data.db", "/etc/app/app.yaml", "/tmp/upload/part", "/srv/www/index.html")
_EXCEPTIONS = ("java.io.IOException", "java.net.SocketTimeoutException", "com.example.pay.CardRefused")

_PROGRAMS: dict[str, tuple[str, ...]] = {
    "database": (
        'duplicate key value violates unique constraint "{table}_pkey"',
        "checkpoint complete: wrote {n} buffers ({f}%); {n} WAL file(s) added, {n} removed; sync={f} s, total={f} s",
        'relation "{table}" does not exist at character {n}',
        "connection authorized: user={user} database={table} application_name=psql",
        "connection received: host={host} port={n}",
        "automatic vacuum of table {table}: index scans: {n}",
        "automatic analyze of table {table} took {f} s",
        "could not receive data from client: Connection reset by peer",
        "database system is ready to accept connections",
        "database system is shut down",
    ),
    "cluster": (
        "Successfully assigned default/{pod} to node-{n}",
        'Pulling image "registry.example/{table}:v{n}"',
        "Back-off restarting failed container in pod {pod}",
        "Liveness probe failed: Get http://{ip}:{n}/healthz: context deadline exceeded",
        "Readiness probe failed: HTTP probe failed with statuscode: {n}",
        "Pod {pod} moved from Pending to Running",
        "Pod {pod} moved from Running to Succeeded",
        "Pod {pod} moved from Running to Failed",
        "Scaled up replica set {pod} to {n}",
        "Scaled down replica set {pod} to {n}",
        "node-{n} status is now: NodeNotReady",
    ),
    "shop": (
        "User {user} logged in from {ip}",
        "User {user} logged out after {n} minutes",
        "Password of user {user} was changed",
        "Order {uuid} placed by {user}: {n} items, {f} EUR",
        "Order {uuid} cancelled by {user}",
        "Mail to {user}@mail.example could not be delivered: mailbox full",
        "Retrying payment {hex} in {n}ms, attempt {n} of 5",
        "Payment {hex} failed with {exception}: timed out after {n}ms",
        "Reading configuration from {file}",
        "Worker started",
        "Worker stopped",
        "cache hit ratio={f} size={n} evictions={n} enabled={bool}",
        "session opened since {date} for {user}",
    ),
}


def labelled(program: str, lines: int, seed: int = 7) -> list[tuple[str, str]]:
    """`lines` pairs of a message and the template it was made from."""
    dice = random.Random(seed)
    templates = _PROGRAMS[program]
    return [(_filled(template, dice), template) for template in dice.choices(templates, k=lines)]


PROGRAMS = tuple(_PROGRAMS)


def _filled(template: str, dice: random.Random) -> str:
    values = {
        "user": lambda: dice.choice(_USERS),
        "host": lambda: dice.choice(_HOSTS),
        "table": lambda: dice.choice(_TABLES),
        "pod": lambda: dice.choice(_POOLS),
        "file": lambda: dice.choice(_FILES),
        "exception": lambda: dice.choice(_EXCEPTIONS),
        "bool": lambda: dice.choice(("true", "false")),
        "n": lambda: str(dice.randrange(100_000)),
        "f": lambda: f"{dice.uniform(0, 500):.3f}",
        "ip": lambda: ".".join(str(dice.randrange(256)) for _ in range(4)),
        "hex": lambda: f"{dice.getrandbits(48):012x}",
        "uuid": lambda: "-".join(f"{dice.getrandbits(4 * k):0{k}x}" for k in (8, 4, 4, 4, 12)),
        "date": lambda: f"Tue Mar {dice.randrange(1, 29):2d} {dice.randrange(24):02d}:12:09 2024",
    }
    text = template
    for name, value in values.items():
        while (slot := f"{{{name}}}") in text:
            text = text.replace(slot, value(), 1)
    return text
