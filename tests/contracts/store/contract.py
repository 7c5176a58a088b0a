"""The promises of `sync.rooms.ports.Store`, attacked: a file for each subject, and one class of them all."""

from __future__ import annotations

from tests.contracts.store.adoption import Adoptions
from tests.contracts.store.appends import Appends
from tests.contracts.store.changes import Changes
from tests.contracts.store.damage import Damage
from tests.contracts.store.processes import Processes
from tests.contracts.store.snapshots import Snapshots


class StoreContract(Appends, Snapshots, Changes, Damage, Adoptions, Processes):
    """Derive from this, name the class `Test...`, and provide the fixture `backend`."""
