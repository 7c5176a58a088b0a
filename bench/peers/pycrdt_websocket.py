"""pycrdt-websocket as its documentation starts it, under Hypercorn; documents live in memory."""

from __future__ import annotations

import asyncio
import os

from hypercorn import Config  # type: ignore[import-not-found]
from hypercorn.asyncio import serve  # type: ignore[import-not-found]
from pycrdt.websocket import ASGIServer, WebsocketServer


async def main() -> None:
    """Serve on `$PORT` until a signal ends the process."""
    config = Config()
    config.bind = [f"127.0.0.1:{os.environ['PORT']}"]
    async with WebsocketServer() as websocket_server:
        await serve(ASGIServer(websocket_server), config, mode="asgi")


asyncio.run(main())
