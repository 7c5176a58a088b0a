"""Rooms, a real store and unreliable clients, in any order: everybody converges, and what was acknowledged is kept."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pycrdt
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from crdt.document import Verdict
from server.bus.local import LocalBus
from server.stores.sqlite import open_sqlite
from sync.protocol.messages import SyncStep1, SyncStep2, SyncUpdate
from sync.rooms.errors import RoomError, StoreUnavailable
from sync.rooms.limits import RoomLimits
from sync.rooms.peer import Peer
from sync.rooms.registry import Rooms
from tests.sync.rooms.kit import YWS, Interruptible, RecordingOutlet, frames

CLIENTS = 3
NODES = 2
DOCUMENT = "d"
PATIENCE = 10.0
LIMITS = RoomLimits(poll_interval=0.005, idle_after=0.0, backlog_bytes=64, snapshot_entries=4, keep_entries=2)

ORDERS = ["straight", "reversed", "doubled", "first lost"]
"""What a wire does with the updates of one sending."""

T = TypeVar("T")


class Machine(RuleBasedStateMachine):
    """Two nodes on one file; clients whose wires lose, double, reorder and stall, and who come back."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.hub = LocalBus()
        self.stores: list[Interruptible] = []
        self.rooms: list[Rooms] = []
        for _ in range(NODES):
            store, rooms = self.run(self.start())
            self.stores.append(store)
            self.rooms.append(rooms)
        # Looked at on a loop of its own, so that the rooms stand still meanwhile.
        self.other_loop = asyncio.new_event_loop()
        self.witness = self.other_loop.run_until_complete(open_sqlite(self.folder / "store.sqlite"))
        self.acknowledged: set[str] = set()
        self.clients = [Person(f"c{index}", self.acknowledged) for index in range(CLIENTS)]
        self.run(self.everybody_joins())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, PATIENCE))

    async def start(self) -> tuple[Interruptible, Rooms]:
        store = Interruptible(await open_sqlite(self.folder / "store.sqlite"))
        return store, Rooms(store, self.hub.connect(), LIMITS)

    async def turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def everybody_joins(self) -> None:
        for index, person in enumerate(self.clients):
            person.connect(self.rooms[index % NODES])
            await person.outlet.until(lambda outlet: outlet.of(SyncStep2))

    client = st.integers(0, CLIENTS - 1)
    node = st.integers(0, NODES - 1)

    @rule(client=client, count=st.integers(0, 3), order=st.sampled_from(ORDERS), turns=st.integers(0, 10))
    def write(self, client: int, count: int, order: str, turns: int) -> None:
        """Edit, and send what was not sent before; the loop goes on so far that the room may have told the others."""
        for _ in range(count):
            self.clients[client].edit()
        self.clients[client].send(order)
        self.run(self.turns(turns))

    @rule(client=client, count=st.integers(1, 3))
    def edit_offline(self, client: int, count: int) -> None:
        for _ in range(count):
            self.clients[client].edit()

    @rule(client=client, node=node)
    def connect(self, client: int, node: int) -> None:
        async def enter() -> None:
            self.clients[client].connect(self.rooms[node])

        self.run(enter())

    @rule(client=client)
    def disconnect(self, client: int) -> None:
        self.clients[client].disconnect()

    @rule(client=client, stalled=st.booleans())
    def stall(self, client: int, stalled: bool) -> None:
        self.clients[client].stall(stalled)

    @rule(client=client)
    def read(self, client: int) -> None:
        self.clients[client].read()

    @rule(client=client, node=node)
    def push(self, client: int, node: int) -> None:
        """The offline queue: everything unsent, in one request."""
        person = self.clients[client]
        if self.stores[node].away or not person.made:
            return

        async def queue() -> None:
            made = list(person.made.items())
            try:
                room = self.rooms[node].open(DOCUMENT)
                outcomes, _ = await room.push([u for _, u in made], person.name, "q", [None] * len(made))
            except RoomError:
                return  # the room failed to load while the store was away
            for (mark, _), outcome in zip(made, outcomes, strict=True):
                if isinstance(outcome, Verdict):
                    self.acknowledged.add(mark)

        self.run(queue())

    @rule(node=node, away=st.booleans())
    def switch_store(self, node: int, away: bool) -> None:
        self.stores[node].away = away

    @rule(node=node)
    def lose_an_answer(self, node: int) -> None:
        self.stores[node].lose_answers = 1

    @rule(count=st.integers(1, 30))
    def go_on(self, count: int) -> None:
        self.run(self.turns(count))

    @rule(milliseconds=st.integers(1, 8))
    def wait(self, milliseconds: int) -> None:
        self.run(asyncio.sleep(milliseconds / 1000))

    @rule(node=node)
    def leave_memory(self, node: int) -> None:
        for room in self.rooms[node]:
            room.unload(float("inf"))

    @rule(node=node)
    def crash(self, node: int) -> None:
        """The process is gone, and another takes its place on the same file."""

        async def fall() -> None:
            await abandon(self.rooms[node])
            await self.stores[node].close()
            self.stores[node], self.rooms[node] = await self.start()

        for person in self.clients:
            if person.rooms is self.rooms[node]:
                person.cut()
        self.run(fall())

    @invariant()
    def acknowledged_is_durable(self) -> None:
        for person in self.clients:
            person.note_acknowledgements()
        assert self.acknowledged <= self.stored(), "acknowledged, and not in the store"

    @invariant()
    def only_the_store_fails(self) -> None:
        for person in self.clients:
            assert all(isinstance(error, StoreUnavailable) for error in person.outlet.errors), person.outlet.errors

    def stored(self) -> set[str]:
        """The marks that a fresh load gives now."""
        stored = self.other_loop.run_until_complete(self.witness.load(DOCUMENT))
        doc: pycrdt.Doc[Any] = pycrdt.Doc()
        for state in [*([] if stored.snapshot is None else [stored.snapshot]), *[e.update for e in stored.entries]]:
            doc.apply_update(state)
        return set(doc.get("marks", type=pycrdt.Map).keys())

    def teardown(self) -> None:
        try:
            self.run(self.converge())
            assert self.stored() == self.clients[0].marks
        finally:
            self.run(self.stop())
            self.loop.run_until_complete(self.rest())
            self.other_loop.run_until_complete(self.witness.close())
            self.other_loop.close()
            self.loop.close()
            shutil.rmtree(self.folder)

    async def rest(self) -> None:
        """Let what was cancelled on the way notice it."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def converge(self) -> None:
        """Everything works again: all clients come back, and in the end all hold the same, which is what is stored."""
        for store in self.stores:
            store.away, store.lose_answers = False, 0
        everything = set().union(*[person.marks for person in self.clients])
        for index, person in enumerate(self.clients):
            person.disconnect()
            person.stall(False)
            person.connect(self.rooms[index % NODES])
        while not all(person.marks == everything for person in self.clients):
            for index, person in enumerate(self.clients):
                if person.outlet.errors:
                    person.connect(self.rooms[index % NODES])
                person.read()
                person.note_acknowledgements()
            await asyncio.sleep(0.002)
        for rooms in self.rooms:
            await rooms.settle()

    async def stop(self) -> None:
        for rooms, store in zip(self.rooms, self.stores, strict=True):
            await abandon(rooms)
            await store.close()


class Person:
    """A client: a replica, what it has made, and its wire."""

    def __init__(self, name: str, acknowledged: set[str]) -> None:
        self.name = name
        self.doc: pycrdt.Doc[Any] = pycrdt.Doc()
        self.made: dict[str, bytes] = {}
        self.unsent: list[bytes] = []
        self.outlet = RecordingOutlet()
        self.rooms: Rooms | None = None
        self._peer: Peer | None = None
        self._room: Any = None
        self._acknowledged = acknowledged
        self._arrived = 0
        self._seen = 0

    @property
    def marks(self) -> set[str]:
        return set(self.doc.get("marks", type=pycrdt.Map).keys())

    def edit(self) -> None:
        before = self.doc.get_state()
        mark = f"{self.name}:{len(self.made)}"
        self.doc.get("marks", type=pycrdt.Map)[mark] = 1
        self.made[mark] = self.doc.get_update(before)
        self.unsent.append(self.made[mark])

    def connect(self, rooms: Rooms) -> None:
        """A new socket: greet, and say what is here."""
        self.disconnect()
        self.outlet = RecordingOutlet()
        self._arrived = self._seen = 0
        self.rooms, self._room = rooms, rooms.open(DOCUMENT)
        self._peer = Peer(self.outlet, YWS, DOCUMENT, author=self.name, can_write=True)
        self._room.join(self._peer)
        self._room.sync_step1(self._peer, self.doc.get_state())

    def disconnect(self) -> None:
        if self._peer is not None:
            self._room.leave(self._peer)
        self.cut()

    def cut(self) -> None:
        self.rooms = self._room = self._peer = None

    def stall(self, stalled: bool) -> None:
        self.outlet.stuck = 1 << 20 if stalled else 0

    def send(self, order: str) -> None:
        if self._peer is None or self.outlet.errors:
            return
        updates, self.unsent = self.unsent, []
        if order == "reversed":
            updates.reverse()
        elif order == "doubled":
            updates += updates
        elif order == "first lost":
            updates = updates[1:]
        for update in updates:
            self._room.receive(self._peer, update)

    def read(self) -> None:
        """Take what has arrived, unless the wire is stalled; answer questions."""
        if self.outlet.stuck or self._peer is None:
            return
        arrived, self._arrived = self.outlet.writes[self._arrived :], len(self.outlet.writes)
        for payload in [payload for data in arrived for payload in frames(data)]:
            message = YWS.decode(payload, DOCUMENT)
            if isinstance(message, SyncStep2 | SyncUpdate):
                self.doc.apply_update(message.update)
            elif isinstance(message, SyncStep1):
                missing = self.doc.get_update(message.state_vector)
                self._room.receive(self._peer, missing, whole=True)

    def note_acknowledgements(self) -> None:
        """An edit of its own that came back is acknowledged, whether the client has looked or not."""
        mine = {update: mark for mark, update in self.made.items()}
        fresh, self._seen = self.outlet.writes[self._seen :], len(self.outlet.writes)
        for payload in [payload for data in fresh for payload in frames(data)]:
            message = YWS.decode(payload, DOCUMENT)
            if isinstance(message, SyncUpdate) and message.update in mine:
                self._acknowledged.add(mine[message.update])


async def abandon(rooms: Rooms) -> None:
    """Let nothing of these rooms run any more, as when their process dies: no commit, no goodbye."""
    mine = {rooms.committer.task, *rooms._tasks}
    for room in rooms:
        mine |= {task for task in (room._loading._task, room.log._reading) if task is not None}
    for task in mine:
        task.cancel()
    await asyncio.gather(*mine, return_exceptions=True)


TestRooms = Machine.TestCase
TestRooms.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
