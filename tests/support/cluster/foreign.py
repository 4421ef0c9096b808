"""A cluster that somebody gave to the tests by LOGSTREAM_TEST_KUBECONFIG."""

import shutil
from pathlib import Path

from logstream.errors import StartupError
from tests.support.cluster import programs
from tests.support.cluster.access import Access


class ForeignCluster(Access):
    """It is not ours to stop, it may have nodes, and nobody wrote down what ServiceAccounts asked for."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        if not kubeconfig.is_file():
            raise StartupError(f"LOGSTREAM_TEST_KUBECONFIG names {kubeconfig}, which is not a file")
        kubectl = shutil.which("kubectl")
        super().__init__(
            kubeconfig.absolute(), Path(kubectl) if kubectl else programs.control_plane() / "kubectl", folder
        )

    def ensure_running(self) -> None: ...
