"""`make cluster`: the tests' control plane for somebody to look at, until Ctrl-C."""

import signal
import sys
import tempfile
from pathlib import Path

from logstream.errors import StartupError
from tests.support.cluster.own import Cluster


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="logstream-cluster-") as folder:
        try:
            cluster = Cluster(Path(folder), tell=lambda line: print(line, flush=True))
        except StartupError as error:
            print(error.message, file=sys.stderr)
            return 1
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: sys.exit(0))
        try:
            cluster.start()
            tools = Path(cluster.environment["PATH"].partition(":")[0])
            print(f"\nexport KUBECONFIG={cluster.kubeconfig}\n{tools / 'kubectl'} get namespaces", flush=True)
            print("It has no nodes: pods stay pending. Ctrl-C ends it, and nothing is kept.", flush=True)
            signal.pause()
        finally:
            cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
