"""How a command fails: one sentence that says what to do next."""


class Failure(Exception):
    """Ends the command. `status`: 1 failure, 2 wrong usage."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
