"""From a client's message to what its room does with it."""

from __future__ import annotations

from sync.protocol.messages import Awareness, AwarenessQuery, Message, SyncStep1, SyncStep2, SyncUpdate
from sync.rooms.peer import Peer
from sync.rooms.room import Room


def deliver(room: Room, peer: Peer, message: Message) -> None:
    """Hand a message of a peer to its room. Messages that concern no document's content are passed over.

    Raises `MalformedPresence`.
    """
    kind = type(message)
    if kind is SyncUpdate:
        room.receive(peer, message.update)  # type: ignore[union-attr]
    elif isinstance(message, SyncStep2):
        room.receive(peer, message.update, whole=True)
    elif isinstance(message, SyncStep1):
        room.sync_step1(peer, message.state_vector)
    elif isinstance(message, Awareness):
        room.awareness(peer, message.update)
    elif isinstance(message, AwarenessQuery):
        room.awareness_query(peer)
