"""The clocks of two nodes are an hour apart: nobody notices."""

from __future__ import annotations

from tests.faults.cluster import Cluster
from tests.faults.people import People, judge
from tests.harness.observed import Observe
from tests.harness.program import PARTS, PartMissing

HOUR_MS = 3_600_000


def an_hour_ahead() -> dict[str, str]:
    """The environment of a program whose clock is. Time that only measures durations stays as it is."""
    library = PARTS / "libfaketime" / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    if not library.is_file():
        raise PartMissing("there is no libfaketime: `make parts` installs one")
    return {"LD_PRELOAD": str(library), "FAKETIME": "+1h", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1"}


async def test_clocks_are_an_hour_apart(cluster: Cluster, observe: Observe) -> None:
    with cluster.node("ahead", environ=an_hour_ahead()) as ahead:
        cluster.nodes = [ahead, cluster.nodes[1]]
        async with People(cluster.urls) as people:
            await people.progress(30)
            await people.exchange()
            observe(f"Clocks are an hour apart: {await judge(people, cluster.urls, cluster.store)}")
            assert not people.errors(), "somebody noticed it"
        store = await cluster.store()
        times = [entry.time for entry in await store.read("one", 0, 10_000)]
        await store.close()
        assert max(times) - min(times) > HOUR_MS * 0.9, "the clocks were not apart"
        cluster.check_nodes()
