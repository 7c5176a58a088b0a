"""The server as a client sees it: one address, two ways in, and a token for both."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import msgpack  # type: ignore[import-untyped]

from ebbtide_client.errors import AccessDenied, Refused, ServerBusy, TokenRefused, UnexpectedAnswer, Unreachable, WrongAddress
from ebbtide_client.settings import Settings

TokenSource = str | Callable[[], str | Awaitable[str]] | None

LONGEST_WAIT = 300.0
"""Seconds: a server that asks for more, by an error perhaps, is asked again by then."""

_MSGPACK = "application/msgpack"
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


def base_url(url: str) -> str:
    """The address that paths are appended to. Raises `ValueError` when `url` is not that of an HTTP server."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.scheme in _SCHEMES and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise ValueError(f"the URL {url!r} cannot be read: {error}") from None
    if not usable:
        raise ValueError(f"the URL has to be like http://127.0.0.1:8080 or https://example.org, this is {url!r}")
    if parts.query or parts.fragment:
        raise ValueError(f"the URL has to end with the host or a path; a token goes into token=... ({url!r})")
    return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{parts.path}".rstrip("/")


class Endpoint:
    """Speaks HTTP and opens sockets. `url` is a `base_url`. `close` releases the connections.

    A token source that can be called is asked at first need, and again after the server refused its last answer.
    """

    def __init__(self, url: str, token: TokenSource, settings: Settings) -> None:
        self._url = url
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
        address = f"{self._url}/api/v1/sync"
        try:
            async with self._http.post(address, data=body, headers=headers, timeout=timeout) as answer:
                content = await self._content(answer)
                if answer.status != 200:
                    self._raise_for(address, answer.status, answer.headers, content)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(error) from error
        try:
            decoded = msgpack.unpackb(content)
        except (ValueError, msgpack.UnpackException) as error:
            raise UnexpectedAnswer(f"is {address} an Ebbtide server? It answers, but not with MessagePack") from error
        if not isinstance(decoded, dict):
            raise UnexpectedAnswer("the answer to a push is not an object")
        return decoded

    async def _content(self, answer: aiohttp.ClientResponse) -> bytes:
        content = bytearray()
        async for chunk in answer.content.iter_any():
            content += chunk
            if len(content) > self._settings.max_answer_bytes:
                raise UnexpectedAnswer(f"the server's answer has more than {self._settings.max_answer_bytes} bytes")
        return bytes(content)

    @asynccontextmanager
    async def socket(self, document: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """An open WebSocket on the document. Raises `Unreachable`, `ServerBusy`, `AccessDenied` or `Refused`."""
        headers = await self._authorization()
        address = f"{self._url}/ws/{quote(document, safe='')}"
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                socket = await self._http.ws_connect(
                    address,
                    headers=headers,
                    heartbeat=self._settings.heartbeat,
                    max_msg_size=self._settings.max_message_bytes,
                )
        except aiohttp.WSServerHandshakeError as error:
            self._raise_for(address, error.status, error.headers or {}, b"")
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

    def _raise_for(self, address: str, status: int, headers: Mapping[str, str], content: bytes) -> None:
        code, reason = _problem(content)
        reason = reason or f"the server answered with HTTP status {status}"
        if status in (401, 403):
            self.forget_token()
            if status == 401 and code.startswith("token-") and code != "token-not-yet" and not callable(self._source):
                given = "no token" if self._source is None else "this token and no callable"
                raise TokenRefused(f"{reason} (the client was given {given})")
            raise AccessDenied(reason)
        if status in (404, 405):
            raise WrongAddress(
                f"{address} is not there (HTTP status {status}): check the URL given to the client, which is the server's own, "
                "like http://127.0.0.1:8080, without /ws or /api",
                status,
                code,
            )
        if status in (429, 502, 503, 504):
            raise ServerBusy(reason, _seconds(headers.get("Retry-After", "")))
        raise Refused(reason, status, code)


def _unreachable(error: Exception) -> Unreachable:
    reason = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError):
        # Its own text speaks of TLS ("ssl:default") even where there is none.
        reason = f"{error.host}:{error.port}: {error.os_error.strerror or error.os_error}"
    return Unreachable(f"the server cannot be reached: {reason}")


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
    return min(float(retry_after), LONGEST_WAIT) if retry_after.isdecimal() else 0.0
