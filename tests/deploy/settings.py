"""What a deployment tells `ebbtide serve`, read by the server's own reader."""

from __future__ import annotations

from collections.abc import Mapping

from server.commands.serve import CLOSE_SECONDS
from server.config import Config, parse
from tests.deploy.dockerfile import stages


def told(environ: Mapping[str, str]) -> Config:
    """The configuration of a container of the image with these variables. Raises `ConfigError`."""
    image = stages()[-1]
    command = image.words("ENTRYPOINT") + image.words("CMD")
    assert command == ["ebbtide", "serve"]
    return parse(command[2:], {**image.pairs("ENV"), **environ})


def stop_seconds(config: Config) -> float:
    """How long a node takes at most from SIGTERM to its end."""
    return config.limits.drain_notice_seconds + config.limits.drain_seconds + CLOSE_SECONDS
