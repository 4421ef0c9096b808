"""HTTP with sentences: what the API answers, or a Failure that says what to do next."""

import json
from collections.abc import Mapping
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from logstream import __version__
from logstream.cli.caret import point
from logstream.cli.failure import Failure
from logstream.cli.options import api_target

if TYPE_CHECKING:
    import httpx

    from logstream.cli.config import Target

USER_AGENT = f"logstream-cli/{__version__}"
_PASSWORDS = ("/api/v1/login", "/api/v1/password")
"""Where 401 is about the password that was typed, not about who is calling."""


def open_http(url: str, *, timeout: float = 30.0) -> "httpx.Client":
    """A client for `url`. Proxies of the environment are not asked for an address on this machine."""
    import httpx

    host = urlsplit(url).hostname or ""
    local = host in {"localhost", "::1"} or host.startswith("127.")
    return httpx.Client(
        base_url=url,
        timeout=httpx.Timeout(timeout, connect=10.0),
        trust_env=not local,
        # Compressing costs more than it saves where nothing travels.
        headers={"User-Agent": USER_AGENT, **({"Accept-Encoding": "identity"} if local else {})},
    )


def sentence(response: "httpx.Response", what: str) -> str:
    """What an error answer means and what to do; `what` names the service."""
    try:
        error = response.json()["error"]
        said = str(error["message"])
    except (ValueError, KeyError, TypeError):
        said = response.text.strip()[:200] or response.reason_phrase
    match response.status_code:
        case 401 if response.request.url.path in _PASSWORDS:
            return said
        case 401:
            return f"{said}; log in with `logstream login`, or give a key with --api-key or LOGSTREAM_API_KEY"
        case 403:
            return f"{said}; use a key or a login that may do this"
        case 404 if "error" not in response.text or "'/" in said or said.startswith("there is nothing at"):
            return f"{response.request.url} is not there; check the address of the {what}"
        case 429 | 503:
            wait = response.headers.get("Retry-After")
            return f"{said}; try again" + (f" in {wait} s" if wait else " later")
    return said if response.status_code < 500 else f"the {what} failed with {response.status_code}: {said}"


def refusal(response: "httpx.Response", what: str) -> Failure:
    """The failure that an error answer is; `what` names the service. Of a query it shows where it is wrong."""
    said = sentence(response, what)
    try:
        error = response.json()["error"]
        code, field, limit = str(error["code"]), error.get("field"), error.get("limit")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Failure(said)
    if code != "query_syntax" or not isinstance(error.get("column"), int):
        # What a read asks for is what was typed.
        usage = response.status_code == 400 and response.request.method == "GET"
        return Failure(said, status=2 if usage else 1, code=code, field=field, limit=limit)
    query = _query_of(response.request)
    if not query:
        return Failure(said, status=2, code=code, field=field, limit=limit)
    expected = [str(word) for word in error.get("expected") or ()]
    said = said.removesuffix(f" (column {error['column']})").partition(": expected ")[0]
    detail = point(query, error["column"], expected, width=get_terminal_size((100, 24)).columns)
    return Failure(said, status=2, detail=detail, code=code, field=field, limit=limit)


def _query_of(request: "httpx.Request") -> str:
    """The query that was asked, in the address or in a JSON body; empty where there is none."""
    if request.method == "GET":
        return str(request.url.params.get("query", ""))
    try:
        return str(json.loads(request.content)["query"])
    except (ValueError, KeyError, TypeError):
        return ""


class Api:
    """The query and administration API. Use as a context manager."""

    def __init__(self, target: "Target", *, person: bool = False, timeout: float = 60.0) -> None:
        self.target = target
        self._credential = target.credential(person=person)
        self.http = open_http(target.api_url, timeout=timeout)

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._credential}"} if self._credential else {}

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Any:
        return self.request("GET", path, params=params)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The decoded JSON answer, None for an empty one. Raises Failure."""
        import httpx

        try:
            response = self.http.request(
                method, path, params=params, headers={**self.headers, **(headers or {})}, json=body
            )
        except httpx.TransportError as error:
            raise Failure(unreachable("API", self.target.api_url, error)) from error
        if response.is_success:
            try:
                return response.json() if response.content else None
            except ValueError as error:
                raise Failure(f"{response.request.url} did not answer in JSON; is this the LogStream API?") from error
        raise refusal(response, "API")


def person(context: str | None, api_key: str | None, api_url: str | None) -> Api:
    """The API for administration: as whoever logged in, where there is a login."""
    return Api(api_target(context, api_key, api_url), person=True)


def rows_of(answer: object, name: str | None = None) -> list[dict[str, Any]]:
    """The list that an answer is, or that it has under `name`. Raises Failure for another answer."""
    found = answer if name is None else answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise Failure("the API answered with something else than a list; is this the LogStream API?")
    return found


def unreachable(what: str, url: str, error: Exception) -> str:
    """The sentence for a server that does not answer."""
    option = "--ingest-url" if what == "collector" else "--api-url"
    reason = str(error) or type(error).__name__
    return f"cannot reach the {what} at {url} ({reason}); start it with `logstream up`, or give another {option}"
