"""Presence on the wire: gathered, sent once, and gone with its socket or its time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crdt.errors import MalformedPresence
from crdt.presence import PresenceBudget
from server.bus.local import LocalBus
from sync.protocol.lib0 import write_var_string, write_var_uint
from sync.protocol.messages import Awareness
from sync.rooms.attendance import Attendance
from sync.rooms.audience import Audience
from sync.rooms.catch_ups import CatchUps
from sync.rooms.limits import RoomLimits
from sync.rooms.peer import Peer
from sync.rooms.ports import NewPresence
from tests.sync.rooms.kit import PATIENCE, QUICK, YWS, Client, RecordingOutlet, node

MIB = 1 << 20


def state(client: int, clock: int, text: str) -> bytes:
    """An awareness update with one state (y-protocols, `awareness.js`)."""
    return b"\x01" + write_var_uint(client) + write_var_uint(clock) + write_var_string(text)


def room(
    count: int, budget: PresenceBudget | None = None, catch_ups: CatchUps | None = None
) -> tuple[Attendance, list[RecordingOutlet], list[Peer]]:
    audience = Audience(1 << 20)
    outlets = [RecordingOutlet() for _ in range(count)]
    peers = [Peer(outlet, YWS, "d", can_write=True) for outlet in outlets]
    for peer in peers:
        audience.add(peer)
        peer.silent = False
    attendance = Attendance(
        audience,
        RoomLimits(presence_timeout=30.0),
        asyncio.get_running_loop(),
        lambda _: None,
        budget or PresenceBudget(MIB),
        catch_ups or CatchUps(MIB),
    )
    return attendance, outlets, peers


async def test_changes_of_several_people_travel_in_one_shared_frame() -> None:
    attendance, outlets, peers = room(3)
    for index, peer in enumerate(peers):
        attendance.receive(peer, state(index, 1, '{"n":%d}' % index))
    await asyncio.gather(*[outlet.until(lambda outlet: outlet.writes) for outlet in outlets])
    assert [len(outlet.writes) for outlet in outlets] == [1, 1, 1]
    assert outlets[0].writes[0] is outlets[2].writes[0]
    (told,) = outlets[0].of(Awareness)
    assert told.update[0] == 3


async def test_a_peer_speaks_only_for_the_ids_it_introduced() -> None:
    attendance, outlets, (ada, eve) = room(2)
    attendance.receive(ada, state(1, 1, '"ada"'))
    await outlets[1].until(lambda outlet: outlet.writes)
    attendance.receive(eve, state(1, 9, "null"))
    attendance.receive(eve, state(2, 1, '"eve"'))
    await outlets[0].until(lambda outlet: len(outlet.writes) == 2)
    assert len(attendance) == 2
    assert b"ada" not in outlets[0].of(Awareness)[1].update


async def test_states_go_with_their_peer_and_the_others_are_told() -> None:
    attendance, outlets, (ada, bob) = room(2)
    attendance.receive(ada, state(1, 1, '"ada"'))
    await outlets[1].until(lambda outlet: outlet.writes)
    attendance.leave(ada)
    await outlets[1].until(lambda outlet: len(outlet.writes) == 2)
    assert b"null" in outlets[1].of(Awareness)[1].update
    assert len(attendance) == 0
    attendance.leave(bob)


async def test_who_asks_is_shown_everybody_and_nothing_when_nobody_is_there() -> None:
    attendance, outlets, (ada, bob) = room(2)
    attendance.show(bob)
    assert outlets[1].writes == []
    attendance.receive(ada, state(1, 1, '"ada"'))
    attendance.show(bob)
    assert b"ada" in outlets[1].of(Awareness)[0].update
    outlets[1].stuck = RoomLimits().backlog_bytes + 1
    attendance.show(bob)
    assert len(outlets[1].writes) == 1, "who does not read is shown nothing more"
    attendance.close()


async def test_who_joins_one_after_the_other_is_shown_the_same_bytes_until_anything_changes() -> None:
    attendance, outlets, (ada, bob, eve) = room(3)
    attendance.receive(ada, state(1, 1, '"ada"'))
    attendance.show(bob)
    attendance.show(eve)
    assert outlets[1].writes[0] is outlets[2].writes[0]
    attendance.receive(ada, state(1, 2, '"ada is back"'))
    attendance.show(bob)
    assert b"ada is back" in outlets[1].of(Awareness)[1].update
    attendance.close()


async def test_large_frames_of_presence_count_with_all_that_is_on_its_way() -> None:
    catch_ups = CatchUps(300_000)
    first, second = room(2, PresenceBudget(MIB), catch_ups), room(2, PresenceBudget(MIB), catch_ups)
    for attendance, _, (ada, _) in (first, second):
        for client in range(4):
            attendance.receive(ada, state(client, 1, '"%s"' % ("x" * 60_000)))
    slow, late = first[1][1], second[1][1]
    slow.stuck = 1
    first[0].show(first[2][1])
    second[0].show(second[2][1])
    assert [len(slow.writes), len(late.writes)] == [1, 0]
    slow.stuck = 0
    catch_ups.prune()
    second[0].show(second[2][1])
    assert len(late.writes) == 1
    first[0].close()
    second[0].close()


async def test_the_rooms_of_a_node_share_one_budget_and_a_room_that_closes_gives_its_part_back(tmp_path: Path) -> None:
    async with node(tmp_path, QUICK._replace(presence_bytes=4 << 10, idle_after=0.0)) as here:
        clients = [await here.client(f"d{number}") for number in range(4)]
        for number, client in enumerate(clients):
            client.room.awareness(client.peer, state(1, 1, '"%s"' % ("x" * (number * 500))))
        sizes = [len(client.room.attendance) for client in clients if client.room.attendance is not None]
        assert sizes == [1, 1, 1, 0], "the fourth is large, for which there is half of the room"
        assert here.rooms.presence.passed_over == 1
        assert [told.update for told in clients[3].outlet.of(Awareness)] == [b"\x00"], "a sign of life, in place of its echo"
        for client in clients:
            client.room.leave(client.peer)
        async with asyncio.timeout(PATIENCE):
            while len(here.rooms):
                await asyncio.sleep(0.02)
        assert here.rooms.presence.held == 0


async def test_malformed_presence_is_refused_and_changes_nothing() -> None:
    attendance, outlets, (ada,) = room(1)
    with pytest.raises(MalformedPresence):
        attendance.receive(ada, b"\x01\x01")
    assert len(attendance) == 0
    assert outlets[0].writes == []


async def test_states_that_nobody_renews_expire(tmp_path: Path) -> None:
    async with node(tmp_path, QUICK._replace(presence_timeout=0.0)) as here:
        client = await here.client()
        room = here.rooms.open("d")
        room.awareness(client.peer, state(1, 1, '"ada"'))
        await client.outlet.until(lambda outlet: any(b"null" in told.update for told in outlet.of(Awareness)))
        assert room.attendance is not None
        assert len(room.attendance) == 0


async def test_who_joins_is_shown_who_is_there_and_a_leaving_socket_takes_its_states_along(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        ada = await here.client()
        room = here.rooms.open("d")
        room.awareness(ada.peer, state(1, 1, '"ada"'))
        bob: Client = await here.client()
        assert b"ada" in bob.outlet.of(Awareness)[0].update
        room.leave(ada.peer)
        async with asyncio.timeout(PATIENCE):
            await bob.outlet.until(lambda outlet: any(b"null" in told.update for told in outlet.of(Awareness)))


async def test_people_on_two_nodes_see_each_other_and_speak_for_themselves(tmp_path: Path) -> None:
    hub = LocalBus()
    async with node(tmp_path, bus=hub.connect()) as here, node(tmp_path, bus=hub.connect()) as there:
        ada = await here.client()
        ada.room.awareness(ada.peer, state(1, 1, '{"name":"ada"}'))
        await ada.outlet.until(lambda outlet: outlet.of(Awareness))
        bob = await there.client()
        await bob.outlet.until(lambda outlet: state(1, 1, '{"name":"ada"}') in [each.update for each in outlet.of(Awareness)])
        bob.room.awareness(bob.peer, state(1, 9, '{"name":"not ada"}'))
        bob.room.awareness(bob.peer, state(2, 1, '{"name":"bob"}'))
        await ada.outlet.until(lambda outlet: state(2, 1, '{"name":"bob"}') in [each.update for each in outlet.of(Awareness)])
        assert all(b"not ada" not in each.update for each in ada.outlet.of(Awareness))
        ada.room.leave(ada.peer)
        await bob.outlet.until(lambda outlet: state(1, 1, "null") in [each.update for each in outlet.of(Awareness)])


async def test_the_states_of_a_node_that_died_expire(tmp_path: Path) -> None:
    hub = LocalBus()
    limits = RoomLimits(presence_timeout=0.5)
    async with node(tmp_path, limits, hub.connect()) as there:
        bob = await there.client()
        dead = hub.connect()
        dead.publish("d", NewPresence(state(1, 1, '{"name":"ada"}')))
        dead.publish("d", NewPresence(b"no presence"))
        await bob.outlet.until(lambda outlet: state(1, 1, '{"name":"ada"}') in [each.update for each in outlet.of(Awareness)])
        await bob.outlet.until(lambda outlet: state(1, 1, "null") in [each.update for each in outlet.of(Awareness)])
