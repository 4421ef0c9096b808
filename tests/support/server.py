"""What the real Kafka and the real Postgres of the tests have in common."""

from abc import ABC, abstractmethod
from typing import Self

from logstream.standalone.full.process import ServerProcess


class OwnServer(ABC):
    """A server that tests may stop, kill and freeze."""

    @property
    @abstractmethod
    def process(self) -> ServerProcess: ...

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self) -> Self:
        self.process.start()
        return self

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        self.process.kill()

    def restart(self) -> None:
        """Start it again; stops it first when it runs."""
        self.process.stop()
        self.process.start()

    def pause(self) -> None:
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    def log(self) -> str:
        """The end of what the server said."""
        return self.process.log_tail(200)

    def ensure_running(self) -> None:
        """After a test that left it dead or frozen."""
        if self.process.is_running:
            self.process.resume()
        else:
            self.process.start()
