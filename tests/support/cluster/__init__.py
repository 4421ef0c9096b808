"""A real Kubernetes API server for tests, benchmarks and contributors."""

from tests.support.cluster.access import Access, CommandError
from tests.support.cluster.foreign import ForeignCluster
from tests.support.cluster.own import Cluster
from tests.support.cluster.usage import Usage, Use

__all__ = ["Access", "Cluster", "CommandError", "ForeignCluster", "Usage", "Use"]
