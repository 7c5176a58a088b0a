"""`ebbtide backup`, `restore`, `verify` and `copy` as people run them: what they say, and how they end."""

from __future__ import annotations

import resource
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from server.__main__ import main
from tests.server.archive.kit import adopt_aged, append, backed_up, contents_of, fill, sqlite, texts
from tests.server.commands.kit import Ended, ebbtide, refused

T0 = 1_700_000_000_000  # 2023-11-14T22:13:20Z
FILE = "ebbtide.sqlite"


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """The data folder of a store with some documents."""
    async with sqlite(tmp_path / "data" / FILE) as store:
        await fill(store, 6)
        await adopt_aged(store, "aged", texts(3, 10), [T0, T0 + 1000, T0 + 2000])
    return tmp_path / "data"


async def test_from_backup_to_restore(data: Path, tmp_path: Path) -> None:
    folder, target = str(tmp_path / "backup"), str(tmp_path / "target")
    first = ebbtide("backup", folder, "--data", str(data))
    assert first.fine, first
    assert first.out.startswith(f"backed up {data} into {folder}: 7 documents, ")
    assert " new entries of 7 documents\n" in first.out
    again = ebbtide("backup", folder, EBBTIDE_DATA=str(data), EBBTIDE_PORT="9000")
    assert again.fine, again
    assert again.out.endswith("; 0 new entries of 0 documents\n")
    verified = ebbtide("verify", folder)
    assert verified.fine, verified
    assert verified.out.startswith(f"verified {folder}: 7 documents, ")
    restored = ebbtide("restore", folder, "--data", target)
    assert restored.fine, restored
    assert restored.out.startswith(f"restored into {target}: 7 documents, ")
    assert ebbtide("verify", "--data", target).status == 0
    before, after = await contents_of(data / FILE), await contents_of(Path(target) / FILE)
    assert {name: log[4] for name, log in after.items()} == {name: log[4] for name, log in before.items()}


async def test_a_folder_that_a_flag_names_is_the_store_whatever_a_variable_says(data: Path, tmp_path: Path) -> None:
    folder, target, forgotten = str(tmp_path / "backup"), str(tmp_path / "target"), "mongodb://u:secret@127.0.0.1:1/forgotten"
    for words, said in {
        ("backup", folder, "--data", str(data)): f"backed up {data} into {folder}: 7 documents, ",
        ("restore", folder, "--data", target): f"restored into {target}: 7 documents, ",
        ("verify", "--data", target): f"verified {target}: 7 documents, ",
        ("copy", f"sqlite:{data}", f"sqlite:{target}"): "copied: 7 documents, 0 entries, ",
    }.items():
        ended = ebbtide(*words, EBBTIDE_STORE=forgotten, EBBTIDE_DATA=str(tmp_path / "none"))
        assert ended.fine, ended
        assert ended.out.startswith(said)
    assert (await contents_of(Path(target) / FILE)).keys() == (await contents_of(data / FILE)).keys()
    # As a variable it stands beside a store, which wins.
    away = ebbtide("verify", EBBTIDE_STORE=forgotten, EBBTIDE_DATA=str(data), EBBTIDE_STORE_TIMEOUT="0.2")
    assert refused(away).startswith("mongodb://127.0.0.1:1/forgotten: no MongoDB that can be written to answers")


async def test_a_moment_and_some_documents(data: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "backup")
    ebbtide("backup", folder, "--data", str(data))
    for number, (at, entries) in enumerate([
        ("2023-11-14T22:13:20Z", 1), ("2023-11-14T23:13:21+01:00", 2), ("2023-11-14 22:13:21.999", 2), ("2023-11-15", 3),
    ]):  # fmt: skip
        target = tmp_path / str(number)
        ended = ebbtide("restore", folder, "--at", at, "--document", "aged", "--data", str(target))
        assert ended.fine, ended
        assert ended.out.startswith(f"restored as of 2023-11-1{'5T00:00:00' if number == 3 else '4T22:13:2'}")
        assert [name for name, log in (await contents_of(target / FILE)).items() if log[1] == entries] == ["aged"]
    late = ebbtide("restore", folder, "--at", "2999-01-01", "--data", str(tmp_path / "late"))
    assert late.status == 0
    assert late.err.startswith("ebbtide: the backup was brought up to date at 20")
    before = ebbtide("restore", folder, "--at", "2001-01-01", "--document", "aged", "--data", str(tmp_path / "before"))
    assert refused(before).startswith("everything that was to be restored is newer than --at says, so nothing was; ")
    assert not (tmp_path / "before").exists()
    # What was compacted is of some time that nothing tells.
    early = ebbtide("restore", folder, "--at", "2001-01-01", "--data", str(tmp_path / "early"))
    assert early.status == 1
    assert "ebbtide: compacted-beyond: d3: its log was compacted beyond that moment\n" in early.err
    assert early.err.endswith("ebbtide: something is wrong with 2 documents, named above\n")


async def test_damage_is_an_exit_status(data: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(data / FILE)) as database, database:
        database.execute("DELETE FROM entries WHERE document = (SELECT id FROM documents WHERE name = 'd0') AND seq = 3")
    for command in (["verify"], ["backup", str(tmp_path / "backup")]):
        ended = ebbtide(*command, "--data", str(data))
        assert ended.status == 1
        assert ended.err.startswith("ebbtide: store-corrupted: d0: entries 1 to ")
        assert ended.err.endswith("ebbtide: something is wrong with 1 document, named above\n")
        assert ended.err.count("\n") == 2


async def test_moving_house(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    copied = ebbtide("copy", f"sqlite:{data}", f"sqlite:{target}")
    assert copied.fine, copied
    assert copied.out.startswith("copied: 7 documents, ")
    assert await contents_of(target / FILE) == await contents_of(data / FILE)
    async with sqlite(data / FILE) as store:
        await append(store, "new", 0, texts(2, 10))
    assert ebbtide("copy", f"sqlite:{data}", f"sqlite:{target}/{FILE}").out.startswith("copied: 8 documents, 2 entries, ")
    assert await contents_of(target / FILE) == await contents_of(data / FILE)


async def test_what_cannot_be_done_has_status_2_and_one_line(data: Path, tmp_path: Path) -> None:
    assert "there is no such database" in refused(ebbtide("verify", "--data", str(tmp_path / "none")))
    assert "SOURCE and TARGET are the same store" in refused(ebbtide("copy", f"sqlite:{data}", f"sqlite:{data}"))
    assert not (tmp_path / "none").exists()


@pytest.fixture
async def places(data: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The data folder and a folder with its backup; beside them, folders and files that are none."""
    async with sqlite(data / FILE) as store:
        await backed_up(store, tmp_path / "backup")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("in the way")
    async with sqlite(tmp_path / "other" / FILE) as other:
        await append(other, "of its own", 0, texts(1, 10))
    return data, tmp_path / "backup"


def test_every_mistake_is_named(
    places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = places[0], str(places[1])
    store = ("--data", str(data))
    for arguments, said in {
        ("backup",): "the following arguments are required: FOLDER; `ebbtide backup --help` lists every option",
        ("backup", folder, "more"): "unknown word more; `ebbtide backup --help` lists every option",
        ("backup", folder, "--dta", "x"): "unknown option --dta: did you mean --data?",
        ("backup", folder, "--data", str(tmp_path / "none")): "there is no such database; name its folder with --data",
        ("backup", str(tmp_path / "foreign"), *store): "holds letter.txt, which is none of a backup",
        ("backup", str(tmp_path / "file"), *store): f"{tmp_path / 'file'}: File exists",
        ("backup", folder, "--data", str(tmp_path / "other")): "is a backup of another store",
        ("backup", folder, "--store", "postgres://u:secret@h/d"): "--store takes mongodb://HOST/DATABASE",
        ("backup", folder, "--store", "mongodb://127.0.0.1:1/"): "names no database",
        ("backup", folder, *store, "--store", "mongodb://u:secret@h/d"): "--data and --store name two stores",
        ("restore", folder, "--store", "mongodb://u:secret@h/d", *store): "--data and --store name two stores",
        ("verify", str(tmp_path / "none")): "there is no such folder",
        ("verify", str(tmp_path / "foreign")): "holds letter.txt, which is none of a backup",
        ("verify", "--data", str(tmp_path / "none")): "there is no such database",
        ("restore", str(tmp_path / "none"), *store): "there is no such folder",
        ("restore", folder, "--at", "yesterday", *store): "--at takes a time such as 2026-11-25T20:15:00Z",
        ("restore", folder, "--at", "2026-13-01", *store): "--at takes a time such as",
        ("restore", folder, "--data", folder): f"{folder}: holds a backup; name another folder",
        ("restore", folder, "--data", f"{folder}/{FILE}"): f"{folder}: holds a backup; name another folder",
        ("copy", f"sqlite:{data}", f"sqlite:{folder}"): f"{folder}: holds a backup; name another folder",
        ("restore", folder, "--document", "nobody", "--data", str(tmp_path / "new")): "the backup has no document nobody",
        ("restore", folder, "--at", "2001-01-01", *store): "--beside into this one, whose own documents are left as they are",
        ("restore", folder, "--data", str(tmp_path / "other")): "the store is not empty: it has of its own; restore into",
        ("copy", f"sqlite:{data}"): "the following arguments are required: TARGET",
        ("copy", f"sqlite:{data}", f"sqlite:{data}"): "SOURCE and TARGET are the same store",
        ("copy", f"sqlite:{data}", "redis://u:secret@h"): "TARGET takes sqlite:FOLDER or mongodb://HOST/DATABASE",
        ("copy", f"sqlite:{tmp_path / 'none'}", f"sqlite:{tmp_path / 'new'}"): "there is no such database",
        ("copy", f"sqlite:{data}", f"sqlite:{tmp_path / 'other'}"): "the store is not empty: it has of its own; copy into",
        ("copy", f"sqlite:{data}", "mongodb://u:secret@127.0.0.1:1/d", "--store-timeout", "0.2"): "no MongoDB that can be",
    }.items():
        monkeypatch.setattr("sys.argv", ["ebbtide", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        line = refused(Ended(int(ended.value.code or 0), printed.out, printed.err))
        assert said in line, arguments
        assert "secret" not in line
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "backup" / FILE).exists()


async def test_a_disk_that_is_full(data: Path, tmp_path: Path) -> None:
    async with sqlite(data / FILE) as store:
        await append(store, "large", 0, texts(20, 50_000))

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    folder = str(tmp_path / "backup")
    line = refused(ebbtide("backup", folder, "--data", str(data), prepare=small_files))
    assert "File too large" in line
    assert line.endswith("; run the same again to go on")
    assert ebbtide("backup", folder, "--data", str(data)).status == 0
    assert ebbtide("verify", folder).status == 0
    target = str(tmp_path / "target")
    assert "run the same again to go on" in refused(ebbtide("restore", folder, "--data", target, prepare=small_files))
    assert ebbtide("restore", folder, "--data", target).status == 0
    whole = ebbtide("verify", "--data", str(data)).out
    assert ebbtide("verify", "--data", target).out == whole.replace(str(data), target)


async def test_a_backup_is_read_where_temporary_files_have_no_place(data: Path, tmp_path: Path) -> None:
    def no_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    folder = str(tmp_path / "backup")
    assert ebbtide("backup", folder, "--data", str(data)).status == 0
    said = refused(ebbtide("verify", folder, prepare=no_files))
    assert said.startswith("a folder for temporary files is needed, and there is none")
    assert said.endswith("name one with TMPDIR")


def test_help_names_every_option(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for command, words in {
        "backup": ["FOLDER", "--store", "--data", "EBBTIDE_STORE_TIMEOUT"],
        "restore": ["FOLDER", "--at", "--document", "--beside"],
        "verify": ["[FOLDER]"],
        "copy": ["SOURCE", "TARGET", "--store-driver"],
    }.items():
        monkeypatch.setattr("sys.argv", ["ebbtide", command, "--help"])
        with pytest.raises(SystemExit, match="0"):
            main()
        out = " ".join(capsys.readouterr().out.split())
        assert all(word in out for word in words)


async def test_a_moment_beyond_what_a_calendar_has(data: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "backup")
    assert ebbtide("backup", folder, "--data", str(data)).fine
    restored = ebbtide("restore", folder, "--at", "9999-12-31T23:59:59-14:00", "--data", str(tmp_path / "target"))
    assert restored.status == 0, restored
    assert restored.out.startswith(f"restored as of 253402351199000 ms since 1970 into {tmp_path / 'target'}: 7 documents, ")


async def test_a_document_that_only_its_log_knows_is_named(data: Path) -> None:
    with closing(sqlite3.connect(data / FILE)) as database, database:
        database.execute("DELETE FROM heads WHERE document = (SELECT id FROM documents WHERE name = 'aged')")
    verified = ebbtide("verify", "--data", str(data))
    assert verified.status == 1
    assert "heads-differ: aged: there are entries up to 3 of it, and the changes feed does not have it" in verified.err
