"""One reconcile, measured and told: what the workers do with a key from the queue."""

import time

from logstream.errors import LogStreamError
from logstream.logs import get_logger
from logstream_operator import metrics
from logstream_operator.cluster.errors import Outdated
from logstream_operator.queue import Forgotten
from logstream_operator.reconcile.context import Context, Key
from logstream_operator.reconcile.deletion import StillThere
from logstream_operator.reconcile.keys import KeyUnfinished, reconcile_key
from logstream_operator.reconcile.stream import Unfinished, reconcile_stream

AGAIN_SECONDS = 0.1
"""After somebody else wrote what we were about to write: it has to be read again, and nothing is wrong."""

_log = get_logger("operator")


async def reconcile(context: Context, key: Key) -> float | None:
    """Seconds until the key is to be looked at again, None for the resync. Raises when it failed, Forgotten when the
    resource is gone."""
    began = time.perf_counter()
    outcome = "failed"
    try:
        next_look = await (reconcile_stream if key.kind == "LogStream" else reconcile_key)(context, key)
        outcome = "settled"
        return next_look
    except Forgotten:
        outcome = "gone"
        raise
    except Outdated as error:
        outcome = "outdated"
        _log.debug("read_again", kind=key.kind, namespace=key.namespace, name=key.name, reason=error.message)
        return AGAIN_SECONDS
    except (Unfinished, KeyUnfinished, StillThere):
        # The resource's status says why.
        outcome = "unfinished"
        raise
    except LogStreamError as error:
        _log.warning("not_reconciled", kind=key.kind, namespace=key.namespace, name=key.name, reason=error.message)
        raise
    except Exception:
        _log.exception("reconcile_failed", kind=key.kind, namespace=key.namespace, name=key.name)
        raise
    finally:
        metrics.RECONCILES.labels(key.kind, outcome).inc()
        metrics.RECONCILE_SECONDS.labels(key.kind).observe(time.perf_counter() - began)
