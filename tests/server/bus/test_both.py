"""Two buses at once: what either brings is heard, and what is published goes over both."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from server.bus.both import BothBuses
from server.bus.local import LocalBus
from server.bus.siblings import LARGEST_FRAME, open_siblings
from sync.rooms.ports import NewPresence, News, PresenceWanted


async def test_news_travel_over_either_and_end_with_the_subscription() -> None:
    near, far = LocalBus(), LocalBus()
    both = BothBuses(near.connect(), far.connect())
    one, other = near.connect(), far.connect()
    heard: list[tuple[str, str, News]] = []
    subscriptions = {
        name: (lambda document, news, name=name: heard.append((name, document, news))) for name in ("both", "one", "other")
    }
    for bus, name in ((both, "both"), (one, "one"), (other, "other")):
        bus.subscribe("d", subscriptions[name])
    both.publish("d", PresenceWanted())
    one.publish("d", PresenceWanted())
    other.publish("d", PresenceWanted())
    await asyncio.sleep(0)
    assert sorted(name for name, _, _ in heard) == ["both", "both", "one", "other"]
    both.unsubscribe("d", subscriptions["both"])
    heard.clear()
    one.publish("d", PresenceWanted())
    other.publish("d", PresenceWanted())
    await asyncio.sleep(0)
    assert heard == []
    for bus in (both, one, other):
        await bus.close()


async def test_its_figures_are_those_of_both() -> None:
    # Not pytest's own folder: a socket's path has to be short.
    with TemporaryDirectory(prefix="ebbtide-") as folder:
        sibling = await open_siblings(Path(folder))
        both = BothBuses(LocalBus().connect(), await open_siblings(Path(folder)))
        figures = {figure.name: figure.read for figure in both.figures()}
        assert {name: read() for name, read in figures.items()} == {"bus_siblings": 1, "bus_dropped": 0}
        both.publish("d", NewPresence(bytes(LARGEST_FRAME)))
        assert figures["bus_dropped"]() == 1
        await both.close()
        await sibling.close()
