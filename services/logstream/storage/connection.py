"""Clients of one server: certificates, credentials, timeouts."""

import asyncio
import ssl

import aiohttp
from clickhouse_connect.driver import create_async_client
from clickhouse_connect.driver.asyncclient import AsyncClient

from logstream.errors import InvalidValue
from logstream.settings import StoreSettings
from logstream.storage.endpoints import Endpoint

CONNECT_SECONDS = 5
_NO_TIMEOUT = 10 * 365 * 86_400
"""Seconds. The client's library cannot do without a number."""


def check_files(settings: StoreSettings) -> None:
    """Whether the certificates can be used at all. Raises InvalidValue; never shows a key."""
    if settings.key_file is not None and settings.cert_file is None:
        raise InvalidValue("store.key_file needs store.cert_file", field="store.key_file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if settings.ca_file is not None:
            context.load_verify_locations(settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidValue(
            f"store.ca_file {settings.ca_file} cannot be read: {error}", field="store.ca_file"
        ) from error
    try:
        if settings.cert_file is not None:
            # An empty passphrase instead of a question on the terminal.
            context.load_cert_chain(settings.cert_file, settings.key_file, password="")
    except (OSError, ssl.SSLError) as error:
        raise InvalidValue(
            f"store.cert_file {settings.cert_file} and its key cannot be read: {error}", field="store.cert_file"
        ) from error


class Connections:
    """The clients of one server, opened when first asked for. Safe for concurrent calls."""

    def __init__(self, settings: StoreSettings, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._settings = settings
        self._client: AsyncClient | None = None
        self._streaming: AsyncClient | None = None
        self._opening = asyncio.Lock()

    async def statements(self) -> AsyncClient:
        """For statements with an answer as a whole. Raises ClickHouseError, OSError."""
        if self._client is None:
            async with self._opening:
                if self._client is None:
                    longest = max(self._settings.insert_timeout_seconds, self._settings.query_timeout_seconds)
                    self._client = await self._open(longest)
        return self._client

    async def streams(self) -> AsyncClient:
        """For answers that are read in pieces, however slowly. Raises ClickHouseError, OSError."""
        if self._streaming is None:
            async with self._opening:
                if self._streaming is None:
                    self._streaming = await self._open(_NO_TIMEOUT)
        return self._streaming

    async def _open(self, silence_seconds: float) -> AsyncClient:
        """silence_seconds: how long the server may send nothing."""
        settings, address = self._settings, self.endpoint.address
        password = settings.password.get_secret_value()
        try:
            return await create_async_client(
                interface=address.scheme,
                host=address.host,
                port=address.port,
                proxy_path=address.path,
                username=settings.username,
                password=password,
                database="default",
                # Blocks travel uncompressed: the engine is near, LZ4 costs more CPU a row than the copy it saves.
                compress=False,
                connect_timeout=CONNECT_SECONDS,
                send_receive_timeout=silence_seconds,
                client_name="logstream",
                query_retries=0,
                autogenerate_query_id=False,
                verify=not settings.tls_insecure,
                ca_cert=None if settings.ca_file is None else str(settings.ca_file),
                client_cert=None if settings.cert_file is None else str(settings.cert_file),
                client_cert_key=None if settings.key_file is None else str(settings.key_file),
                # With a password the certificate proves the machine and the password the user.
                tls_mode=None if settings.cert_file is None else "strict" if password else "mutual",
            )
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from error

    async def close(self) -> None:
        """Idempotent."""
        clients = (self._client, self._streaming)
        self._client = self._streaming = None
        for client in clients:
            if client is not None:
                await client.close()
