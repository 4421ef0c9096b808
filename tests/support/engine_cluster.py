"""`python -m tests.support.engine_cluster`: the engine as the only server of a cluster, `CLUSTER`.

There is no Keeper, so nothing is replicated; Distributed tables and cluster functions are real, and find the one
server itself. Never for use: the engine's guard against other machines is off.
"""

import sys

from logstream.settings import EngineSettings
from logstream.standalone.engine import config
from logstream.standalone.engine.__main__ import main
from tests.support.engine import EngineProcess

CLUSTER = "only"
# A server finds itself among the replicas by host and port; nothing listens there.
_SERVERS = (
    "<tcp_port>9000</tcp_port><remote_servers><{name}><shard><internal_replication>true</internal_replication>"
    "<replica><host>localhost</host><port>9000</port></replica></shard></{name}></remote_servers>"
)


class ClusterEngine(EngineProcess):
    """The engine as a cluster of one."""

    module = "tests.support.engine_cluster"


def arm() -> None:
    made = config.server_config

    def with_cluster(settings: EngineSettings, **more) -> str:  # type: ignore[no-untyped-def]
        xml = made(settings, **more)
        return xml.replace("</clickhouse>", _SERVERS.format(name=CLUSTER) + "</clickhouse>")

    config.server_config = with_cluster
    config.GRANTS = ("GRANT ALL ON *.*",)  # type: ignore[assignment]


if __name__ == "__main__":
    arm()
    sys.exit(main())
