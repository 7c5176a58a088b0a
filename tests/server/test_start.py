"""What `ebbtide serve` says when it cannot start: one line with what to do, exit status 2, no traceback."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

from server.stores.sqlite import open_sqlite

ROOT = Path(__file__).parents[2]


def ebbtide(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "server", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def serve(*arguments: str) -> tuple[int, str]:
    return ebbtide("serve", "--open", *arguments)


def test_an_unknown_command() -> None:
    status, said = ebbtide("srve")
    assert status == 2
    assert said.startswith("ebbtide: unknown command srve; it is one of serve")
    assert said.count("\n") == 1


def test_the_version() -> None:
    command = [sys.executable, "-m", "server", "--version"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    assert said == f"ebbtide {tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}\n"


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        status, said = serve("--port", port, "--data", str(tmp_path))
    assert (status, said) == (
        2,
        f"ebbtide: cannot listen on 127.0.0.1:{port}: another program listens there; end it, or choose another --port\n",
    )


def test_a_data_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    status, said = serve("--port", "0", "--data", str(tmp_path / "file"))
    place = f"ebbtide: the folder {tmp_path / 'file'} cannot be used"
    assert (status, said) == (2, f"{place}: a file is in its place; name another folder with --data\n")
    status, said = serve("--port", "0", "--data", "/proc/nowhere")
    assert status == 2
    assert said.startswith("ebbtide: the folder /proc/nowhere cannot be used: ")
    assert said.endswith("; make it and let the server write there, or name another with --data\n")
    assert said.count("\n") == 1


def test_a_database_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ebbtide.sqlite").write_text(
        "a letter that somebody put there, longer than the head of a database is, by far\n" * 9
    )
    status, said = serve("--port", "0", "--data", str(tmp_path))
    assert status == 2
    assert said.startswith(f"ebbtide: {tmp_path / 'ebbtide.sqlite'}: the database file is damaged: file is not a database; ")
    assert said.endswith("restore a backup into another folder, or name another with --data\n")
    assert said.count("\n") == 1


def test_a_data_folder_that_is_a_backup(tmp_path: Path) -> None:
    async def make() -> None:
        await (await open_sqlite(tmp_path / "ebbtide.sqlite")).close()

    asyncio.run(make())
    folder = tmp_path / "backup"
    backup = [sys.executable, "-m", "server", "backup", str(folder), "--data", str(tmp_path)]
    subprocess.run(backup, cwd=ROOT, capture_output=True, timeout=30, check=True)
    held = sorted(folder.iterdir())
    status, said = serve("--port", "0", "--data", str(folder))
    place = f"ebbtide: {folder}: holds a backup"
    assert (status, said) == (2, f"{place}; name another folder, into which `ebbtide restore` puts it\n")
    assert sorted(folder.iterdir()) == held


def test_a_backup_in_the_place_of_a_file(tmp_path: Path) -> None:
    async def make() -> None:
        await (await open_sqlite(tmp_path / "ebbtide.sqlite")).close()

    asyncio.run(make())
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "backup"):
        status, said = ebbtide("backup", str(folder), "--data", str(tmp_path))
        assert status == 2
        assert said.endswith("; a file is in the place of a folder; name another\n")
        assert said.count("\n") == 1
