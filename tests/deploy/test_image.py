"""The Dockerfile: linted, and its steps executed on this machine's own programs, since no engine is to be counted on."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.request import Request, urlopen

import jwt
import pycrdt
import pytest

from tests.deploy import container, programs
from tests.deploy.dockerfile import Stage, stages
from tests.harness.mongod import ReplicaSet
from tests.harness.program import free_port
from tests.harness.server_process import LISTENING, REPOSITORY

BUILD, FINAL = stages()
WHEELS = REPOSITORY / ".stamps" / "wheels"
LOCKS = REPOSITORY / "deploy" / "image"
SECRET = "0123456789abcdef" * 2
USER = int(FINAL.texts("USER")[0].split(":")[0])


def pins(lock: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Package -> version and hashes."""
    blocks = re.findall(r"^([\w.-]+)==(\S+)[^\n]*\n((?: +--hash=\S+(?: \\)?\n)+)", lock.read_text(), re.MULTILINE)
    return {name: (version, frozenset(re.findall(r"--hash=(\S+)", hashes))) for name, version, hashes in blocks}


def test_the_linter_has_nothing_to_say() -> None:
    assert programs.run("hadolint", "Dockerfile") == ""


def test_both_stages_are_the_same_python_which_the_project_supports() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    base = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-[a-z]+", BUILD.base)
    assert base is not None
    assert BUILD.base == FINAL.base
    assert f"Programming Language :: Python :: {base[1]}" in project["classifiers"]
    assert FINAL.pairs("LABEL")["org.opencontainers.image.version"] == project["version"]


def test_the_user_that_runs_owns_the_data() -> None:
    (made,) = FINAL.texts("RUN")
    numbers = re.findall(r"--(?:gid|uid|owner|group)[ =](\d+)", made)
    assert len(numbers) == 5
    assert {*numbers, *FINAL.texts("USER")[0].split(":")} == {str(USER)}
    (volume,) = FINAL.texts("VOLUME")
    assert made.split()[-1] == volume == FINAL.pairs("ENV")["EBBTIDE_DATA"]


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    first, *rest = [line for line in lines if not line.startswith("#")]
    copied = {source.rstrip("/") for text in BUILD.texts("COPY") for source in text.split()[:-1]}
    assert first == "*"
    assert {line.removeprefix("!") for line in rest if line.startswith("!")} == copied


@pytest.mark.parametrize("lock", sorted(LOCKS.glob("*.lock")), ids=lambda path: path.name)
def test_the_image_installs_the_versions_that_the_tests_run_with(lock: Path) -> None:
    tested, here = pins(REPOSITORY / "requirements.lock"), pins(lock)
    assert here, "no pin was found"
    if lock.name == "runtime.lock":
        assert here.items() <= tested.items()
    else:
        assert all(tested.get(name, pin) == pin for name, pin in here.items())


def copy(text: str, root: Path, cwd: str) -> None:
    *sources, target = text.split()
    for source in sources:
        path, to = REPOSITORY / source, root / cwd.lstrip("/") / target
        if path.is_dir():
            shutil.copytree(path, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, to)


def replay(stage: Stage, root: Path, environ: dict[str, str]) -> None:
    """Do in `root` what the stage says, instruction by instruction."""
    environ, cwd = environ | stage.pairs("ENV"), "/"
    for instruction, text in stage.steps:
        match instruction:
            case "WORKDIR":
                cwd = text
                (root / cwd.lstrip("/")).mkdir(parents=True)
            case "COPY":
                copy(text, root, cwd)
            case "RUN":
                run(root, ["sh", "-ec", text], environ, cwd)
            case _:
                assert instruction == "ENV", f"this test knows no {instruction}"


def run(root: Path, words: list[str], environ: dict[str, str], cwd: str = "/", user: int = 0, **where: Any) -> str:
    """What the command prints. Fails when its status is not 0."""
    process = container.start(
        root, words, environ, user=user, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **where
    )
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, f"{words}: {said}"
    return said


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The build stage's root after its last step, with `/data` as the last stage makes it."""
    container.require_root()
    assert any(WHEELS.glob("*.whl")), f"no packages in {WHEELS}: `make test` fetches them"
    root = tmp_path_factory.mktemp("image")
    root.chmod(0o755)
    (root / "tmp").mkdir()
    shutil.copytree(WHEELS, root / "wheels")
    # The base image's own Python, to which the steps may install.
    run(root, [f"{sys.base_prefix}/bin/python3", "-m", "venv", "/image"], {"PATH": "/usr/bin:/bin"})
    replay(BUILD, root, {"PATH": "/image/bin:/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"})
    (root / "data").mkdir(mode=0o700)
    os.chown(root / "data", USER, USER)
    yield root
    # pytest keeps the folders of three runs, and this is a whole installation.
    shutil.rmtree(root)


def environment(port: int) -> dict[str, str]:
    """The last stage's, with a free port on loopback and a source of tokens."""
    environ = FINAL.pairs("ENV")
    assert environ["EBBTIDE_HOST"] == "0.0.0.0"
    path = environ["PATH"].replace("$PATH", "/usr/bin:/bin")
    return environ | {
        "PATH": path, "EBBTIDE_HOST": "127.0.0.1", "EBBTIDE_PORT": str(port), "EBBTIDE_TOKEN_SECRET": SECRET
    }  # fmt: skip


class Container:
    """`ebbtide serve` as the image starts it: its user, its root read-only, its environment. A context manager."""

    def __init__(self, root: Path, *, only_writable: str = FINAL.texts("VOLUME")[0], **environ: str) -> None:
        self.root, self.port, self._only_writable = root, free_port(), only_writable
        self._environ = environment(self.port) | environ

    def __enter__(self) -> Self:
        words = [*FINAL.words("ENTRYPOINT"), *FINAL.words("CMD")]
        self.process = container.start(self.root, words, self._environ, **self._place(), stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert LISTENING.fullmatch(self.process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def _place(self) -> dict[str, Any]:
        return {"user": USER, "cwd": FINAL.texts("WORKDIR")[0], "only_writable": self._only_writable}

    def run(self, *words: str) -> int:
        """The status of a command in the same container."""
        return container.start(self.root, list(words), self._environ, **self._place()).wait(60)

    def healthy(self) -> bool:
        return self.run(*FINAL.words("HEALTHCHECK")) == 0

    def push(self, update: bytes) -> str:
        """The status of the one entry's receipt."""
        claims = {"sub": "ada", "exp": time.time() + 600, "documents": {"notes": "editor"}}
        entry = {"id": "1", "doc": "notes", "update": base64.b64encode(update).decode()}
        headers = {"Authorization": f"Bearer {jwt.encode(claims, SECRET)}", "Content-Type": "application/json"}
        body = json.dumps({"device": "phone", "entries": [entry]}).encode()
        with urlopen(Request(f"http://127.0.0.1:{self.port}/api/v1/sync", body, headers), timeout=60) as response:
            status: str = json.load(response)["receipts"][0]["status"]
            return status


@pytest.fixture
def server(root: Path) -> Iterator[Container]:
    with Container(root) as server:
        yield server


def test_what_is_installed_is_the_lock_and_the_project(root: Path) -> None:
    environ = {"PATH": "/image/bin"}
    pip = ["pip", "--disable-pip-version-check", "--python", "/opt/ebbtide/bin/python"]
    listed = json.loads(run(root, [*pip, "list", "--format=json"], environ))
    wanted = {name: version for name, (version, _) in pins(LOCKS / "runtime.lock").items()}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert {each["name"].lower().replace("_", "-"): each["version"] for each in listed} == {
        **wanted, project["name"]: project["version"]
    }  # fmt: skip
    run(root, [*pip, "check"], environ)
    assert FINAL.texts("COPY") == ["--from=build /opt/ebbtide /opt/ebbtide"]


def test_it_serves_without_rights_on_a_root_that_is_read_only(server: Container) -> None:
    assert server.run("touch", "/tmp/file") != 0
    assert server.run("touch", "/opt/ebbtide/file") != 0
    assert server.run("touch", "/data/file") == 0
    assert server.healthy()
    doc: pycrdt.Doc[Any] = pycrdt.Doc({"text": pycrdt.Text("hello")})
    assert server.push(doc.get_update()) == "applied"
    server.process.send_signal(signal.Signals[FINAL.texts("STOPSIGNAL")[0]])
    assert server.process.wait(30) == 0
    assert not server.healthy()
    with Container(server.root) as next_:
        assert next_.push(doc.get_update()) == "duplicate"


def test_with_mongodb_it_writes_nowhere(root: Path, tmp_path: Path) -> None:
    doc: pycrdt.Doc[Any] = pycrdt.Doc({"text": pycrdt.Text("hello")})
    with (
        ReplicaSet(tmp_path) as replica_set,
        Container(root, only_writable="/nowhere", EBBTIDE_STORE=replica_set.url("ebbtide")) as server,
    ):
        assert server.run("touch", "/data/file") != 0
        assert server.run("touch", "/nowhere/file") != 0
        assert server.push(doc.get_update()) == "applied"


def test_it_uses_uvloop_and_a_deep_stack(server: Container) -> None:
    """The child of `start` is the server itself: every program before it becomes the next."""
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert "/opt/ebbtide/lib/" in maps
    assert "uvloop" in maps
    assert re.search(rf"^Max stack size +{100 << 20} ", limits, re.MULTILINE)
    assert re.search(rf"^Uid:\s+{USER}\s+{USER}\s+{USER}\s+{USER}$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
