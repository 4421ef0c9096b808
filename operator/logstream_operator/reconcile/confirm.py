"""Whether a collector knows a key already: asked by a request that cannot store anything."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp

from logstream_operator.cluster.kinds import DEPLOYMENT
from logstream_operator.objects.meta import COLLECTOR, component_name, endpoints
from logstream_operator.reconcile.context import Context

CONFIRM_SECONDS = 3.0
_UNREADABLE = "application/x-logstream-key-check"

Ask = Callable[[str, str], Awaitable[bool]]
"""Takes an ingest address and a key."""


async def is_live(context: Context, namespace: str, plane: str, key: str, ask: Ask | None = None) -> bool:
    """Whether the collectors of the data plane let the key in. With none that is ready there is nobody who could
    refuse it: True, and those that come up know it from the database."""
    fields = f"metadata.name={component_name(plane, COLLECTOR)}"
    found = await context.cluster.list(DEPLOYMENT, namespace, fields=fields)
    if not any((deployment.get("status") or {}).get("readyReplicas") for deployment in found):
        return True
    return await (ask or knows)(endpoints(plane, namespace)["ingest"], key)


async def knows(address: str, key: str) -> bool:
    """Asks the collector at `address` to take a body of a type that it never takes: who the sender is comes first.

    401: it does not know the key. 415, 403 (a key that may only read), 429: it does. False when it cannot be told.
    """
    headers = {"Authorization": f"Bearer {key}", "Content-Type": _UNREADABLE}
    try:
        async with (
            asyncio.timeout(CONFIRM_SECONDS),
            # Environment variables for proxies are not for addresses in the cluster.
            aiohttp.ClientSession(trust_env=False) as session,
            session.post(f"{address}/ingest", data=b"", headers=headers, allow_redirects=False) as answer,
        ):
            return answer.status in (403, 415, 429)
    except (TimeoutError, aiohttp.ClientError, OSError):
        return False
