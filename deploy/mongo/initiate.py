"""Make the members one replica set with its two accounts. Run it as often as you like: what is done already stays.

    initiate.py SECRETS MEMBER...     SECRETS is a folder with the files mongo_admin_password and mongo_password

Run it beside the first member: before there is an account, mongod takes orders from its own loopback address alone. A
changed mongo_password becomes the account's password.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

REPLICA_SET = "rs0"
DATABASE = USER = "ebbtide"
ADMIN = "admin"
SECONDS = 60
AUTHENTICATION_FAILED = 18

Client = MongoClient[dict[str, Any]]


def initiate(local: Client, members: list[str]) -> None:
    """Make them a replica set unless they are. The first is preferred as primary, so that accounts can be made on it."""
    if "setName" in local.admin.command("hello"):
        return
    rows = [{"_id": number, "host": host, "priority": 1 if number else 2} for number, host in enumerate(members)]
    local.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": rows})


def administrator(local: Client, members: list[str], password: str) -> Client:
    """A client with all rights. Makes its account, for which `local` has to become the primary, where there is none.

    Raises `TimeoutError` when it does not.
    """
    deadline = time.monotonic() + SECONDS
    while True:
        client: Client = MongoClient(members, replicaSet=REPLICA_SET, username=ADMIN, password=password)
        try:
            client.admin.command("ping")
        except OperationFailure as error:
            client.close()
            if error.code != AUTHENTICATION_FAILED:
                raise
        else:
            return client
        if local.admin.command("hello")["isWritablePrimary"]:
            local.admin.command("createUser", ADMIN, pwd=password, roles=["root"])
        elif time.monotonic() > deadline:
            raise TimeoutError(f"{members[0]} did not become the primary, and mongo_admin_password opens no account")
        else:
            time.sleep(0.2)


def account(database: Any, password: str) -> None:
    """The account of the nodes: it reads and writes one database."""
    known = database.command("usersInfo", USER)["users"]
    database.command("updateUser" if known else "createUser", USER, pwd=password, roles=["readWrite"])


def main(secrets: Path, members: list[str]) -> None:
    port = int(members[0].rpartition(":")[2])
    with MongoClient[dict[str, Any]]("127.0.0.1", port, directConnection=True) as local:
        initiate(local, members)
        with administrator(local, members, (secrets / "mongo_admin_password").read_text().strip()) as client:
            account(client[DATABASE], (secrets / "mongo_password").read_text().strip())
    print(f"replica set {REPLICA_SET} is ready, with the account {USER}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
