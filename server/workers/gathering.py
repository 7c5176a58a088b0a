"""What all workers of a machine count: whichever of them is asked answers for all."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

ANSWER_SECONDS = 1.0
"""How long a sibling may take to tell its numbers; one that does not is shown as not answering."""

_LENGTH = struct.Struct(">I")


class Gathering:
    """One worker's part: it tells its own metrics on a Unix socket named for its number, and asks the others for theirs.

    `folder` is one that only these workers may enter, `count` how many they are, `exposition` what gives this worker's own
    metrics in the Prometheus text format.
    """

    def __init__(self, folder: Path, number: int, count: int, exposition: Callable[[], bytes]) -> None:
        self._folder = folder
        self._number = number
        self._count = count
        self._exposition = exposition
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to answer. Raises `OSError` when the folder cannot be used."""
        path = self._folder / str(self._number)
        path.unlink(missing_ok=True)  # of one that was killed
        self._server = await asyncio.start_unix_server(self._tell, path=str(path))

    async def close(self) -> None:
        """Answer no more. Idempotent."""
        if self._server is not None:
            self._server.close()

    async def exposition(self) -> bytes:
        """The metrics of all workers that answer, each with its number in the label `worker`."""
        others = [number for number in range(self._count) if number != self._number]
        told = dict(zip(others, await asyncio.gather(*map(self._ask, others)), strict=True))
        return merged({self._number: self._exposition(), **told})

    async def _tell(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            exposition = self._exposition()
            writer.write(_LENGTH.pack(len(exposition)) + exposition)
            await writer.drain()
        except ConnectionError:
            log.info("metrics were asked for and not read")
        finally:
            writer.close()

    async def _ask(self, number: int) -> bytes | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(str(self._folder / str(number)))
                try:
                    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                    return await reader.readexactly(length)
                finally:
                    writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.warning("metrics of a worker not had", extra={"of": number, "reason": str(error) or "no answer"})
            return None


def merged(told: Mapping[int, bytes | None]) -> bytes:
    """One exposition from those of several workers, by number; None for one that did not answer."""
    up = GaugeMetricFamily("ebbtide_worker_up", "Whether a worker told its metrics (1) or not (0).", labels=["worker"])
    families: dict[str, Metric] = {}
    for number, exposition in told.items():
        up.add_metric([str(number)], float(exposition is not None))
        for family in text_string_to_metric_families((exposition or b"").decode()):
            whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            whole.samples += [sample._replace(labels={"worker": str(number), **sample.labels}) for sample in family.samples]
    registry = CollectorRegistry()
    registry.register(_Families([up, *families.values()]))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        return iter(self._families)
