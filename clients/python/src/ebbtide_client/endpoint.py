"""The server as a client sees it: one address, two ways in, and a token for both."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import msgpack  # type: ignore[import-untyped]

from ebbtide_client.errors import AccessDenied, Refused, ServerBusy, UnexpectedAnswer, Unreachable
from ebbtide_client.settings import Settings

TokenSource = str | Callable[[], str | Awaitable[str]] | None

_MSGPACK = "application/msgpack"


class Endpoint:
    """Speaks HTTP and opens sockets. `close` releases the connections.

    A token source that can be called is asked at first need, and again after the server refused its last answer.
    """

    def __init__(self, url: str, token: TokenSource, settings: Settings) -> None:
        self._url = url.rstrip("/")
        self._source = token
        self._token: str | None = None
        self._settings = settings
        self._http = aiohttp.ClientSession()

    async def close(self) -> None:
        """Release the connections. No call may follow."""
        await self._http.close()

    async def sync(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """`POST /api/v1/sync`. Raises `Unreachable`, `ServerBusy`, `AccessDenied`, `Refused` or `UnexpectedAnswer`."""
        body = msgpack.packb(request)
        try:
            return await self._post(body)
        except AccessDenied:
            if not callable(self._source):
                raise
            return await self._post(body)

    async def _post(self, body: bytes) -> dict[str, Any]:
        headers = {**await self._authorization(), "Content-Type": _MSGPACK, "Accept": _MSGPACK}
        timeout = aiohttp.ClientTimeout(total=self._settings.request_timeout)
        try:
            async with self._http.post(f"{self._url}/api/v1/sync", data=body, headers=headers, timeout=timeout) as answer:
                content = await answer.read()
                if answer.status != 200:
                    self._raise_for(answer.status, answer.headers, content)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(error) from error
        try:
            decoded = msgpack.unpackb(content)
        except (ValueError, msgpack.UnpackException) as error:
            raise UnexpectedAnswer("the answer to a push is not MessagePack") from error
        if not isinstance(decoded, dict):
            raise UnexpectedAnswer("the answer to a push is not an object")
        return decoded

    @asynccontextmanager
    async def socket(self, document: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """An open WebSocket on the document. Raises `Unreachable`, `ServerBusy`, `AccessDenied` or `Refused`."""
        headers = await self._authorization()
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                socket = await self._http.ws_connect(
                    f"{self._url}/ws/{quote(document, safe='')}",
                    headers=headers,
                    heartbeat=self._settings.heartbeat,
                    max_msg_size=self._settings.max_message_bytes,
                )
        except aiohttp.WSServerHandshakeError as error:
            self._raise_for(error.status, error.headers or {}, b"")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(error) from error
        async with socket:
            yield socket

    def forget_token(self) -> None:
        """The server does not take it any more: ask the source again."""
        self._token = None

    async def _authorization(self) -> dict[str, str]:
        if self._source is None:
            return {}
        if self._token is None:
            try:
                token = self._source() if callable(self._source) else self._source
                self._token = await token if inspect.isawaitable(token) else token
            except Exception as error:
                raise AccessDenied(f"the token source failed: {error!r}") from error
        return {"Authorization": f"Bearer {self._token}"}

    def _raise_for(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        code, reason = _problem(content)
        reason = reason or f"the server answered with HTTP status {status}"
        if status in (401, 403):
            self.forget_token()
            raise AccessDenied(reason)
        if status in (429, 502, 503, 504):
            raise ServerBusy(reason, _seconds(headers.get("Retry-After", "")))
        raise Refused(reason, status, code)


def _unreachable(error: Exception) -> Unreachable:
    return Unreachable(f"the server cannot be reached: {str(error) or type(error).__name__}")


def _problem(content: bytes) -> tuple[str, str]:
    """Code and reason of an `application/problem+json` body (RFC 9457); empty where it is none."""
    try:
        problem = json.loads(content)
    except ValueError:
        return "", ""
    if not isinstance(problem, dict):
        return "", ""
    return str(problem.get("code", "")), str(problem.get("detail") or problem.get("title") or "")


def _seconds(retry_after: str) -> float:
    # The header may hold a date (RFC 9110, section 10.2.3); the back-off alone is good enough then.
    return float(retry_after) if retry_after.isdecimal() else 0.0
