"""Two buses at once: what either brings is heard, and what is published goes over both."""

from __future__ import annotations

import asyncio

from server.bus.both import BothBuses
from server.bus.local import LocalBus
from sync.rooms.ports import News, PresenceWanted


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
