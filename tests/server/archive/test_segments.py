from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from server.archive import segments
from server.archive.errors import ArchiveBusy, ArchiveDamaged, ArchiveError, ArchiveUnusable
from server.archive.frames import Commit, Damage, encode
from server.archive.segments import TITLE, Place, Segments

ROOT = Path(__file__).parents[3]
START = Place(0, 0)


def write(folder: Path, first: int, last: int) -> list[Place]:
    """Write records with these numbers, each with a commit; the ends of the commits."""
    opened = Segments(folder, write=True)
    ends = [end for _, end, record in opened.scan(START) if isinstance(record, Commit)]
    opened.cut(ends[-1] if ends else START)
    ends = []
    for number in range(first, last + 1):
        opened.append(encode(Damage(f"d{number}", "x" * 100)))
        opened.append(encode(Commit("feed", number, 0)))
        ends.append(opened.sync())
    opened.close()
    return ends


def numbers(folder: Path, start: Place = START) -> list[int]:
    """The commits that are found."""
    opened = Segments(folder, write=False)
    try:
        return [record.cursor for _, _, record in opened.scan(start) if isinstance(record, Commit)]
    finally:
        opened.close()


def refusal(folder: Path, *, write: bool) -> ArchiveError:
    with pytest.raises(ArchiveError) as raised:
        Segments(folder, write=write).close()
    return raised.value


def test_segments_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 500)
    ends = write(tmp_path, 1, 10)
    for number in range(11, 21):
        write(tmp_path, number, number)
    assert len(list(tmp_path.glob("*.ebb"))) > 5
    assert all(path.stat().st_size < 800 for path in tmp_path.glob("*.ebb"))
    assert numbers(tmp_path) == list(range(1, 21))
    assert numbers(tmp_path, ends[6]) == list(range(8, 21))


@pytest.mark.parametrize("torn", [b"", TITLE[:5], TITLE, TITLE + encode(Damage("d", "x"))[:20], TITLE + b"\0" * 5000])
def test_a_segment_that_was_begun_alone(tmp_path: Path, torn: bytes) -> None:
    write(tmp_path, 1, 3)
    (tmp_path / "000002.ebb").write_bytes(torn)
    assert numbers(tmp_path) == [1, 2, 3]
    write(tmp_path, 4, 5)
    assert numbers(tmp_path) == [1, 2, 3, 4, 5]


def test_a_segment_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 500)
    write(tmp_path, 1, 10)
    (tmp_path / "000002.ebb").unlink()
    for writes in (True, False):
        error = refusal(tmp_path, write=writes)
        assert isinstance(error, ArchiveDamaged)
        assert error.reason == f"{tmp_path / '000002.ebb'}: is missing; put it back"


def test_damage_in_an_older_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 500)
    write(tmp_path, 1, 10)
    first = tmp_path / "000001.ebb"
    first.write_bytes(first.read_bytes()[:-30])
    with pytest.raises(ArchiveDamaged, match=r"000001\.ebb: the file ends within a record, at byte"):
        numbers(tmp_path)


def test_folders_that_are_none_of_a_backup(tmp_path: Path) -> None:
    assert "there is no such folder" in refusal(tmp_path / "none", write=False).reason
    assert "holds no backup" in refusal(tmp_path, write=False).reason
    (tmp_path / "letter.txt").write_text("dear")
    for writes in (True, False):
        assert "holds letter.txt, which is none of a backup" in refusal(tmp_path, write=writes).reason
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letter.txt"]


@pytest.mark.parametrize(
    ("title", "reason"), [(b"ebbtide backup 2\n", "a newer Ebbtide"), (b"something else entirely", "is no part of a backup")]
)
def test_files_of_others(tmp_path: Path, title: bytes, reason: str) -> None:
    (tmp_path / "000001.ebb").write_bytes(title)
    with pytest.raises(ArchiveUnusable, match=reason):
        numbers(tmp_path)


def test_one_writer_or_many_readers_of_other_processes(tmp_path: Path) -> None:
    write(tmp_path, 1, 1)
    hold = (
        "import sys; from pathlib import Path; from server.archive.segments import Segments\n"
        "held = Segments(Path(sys.argv[1]), write=sys.argv[2] == 'write'); print('held', flush=True); sys.stdin.read()"
    )
    for holds, readable in (("write", False), ("read", True)):
        command = [sys.executable, "-c", hold, str(tmp_path), holds]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            assert isinstance(refusal(tmp_path, write=True), ArchiveBusy)
            if readable:
                assert numbers(tmp_path) == [1]
            else:
                assert isinstance(refusal(tmp_path, write=False), ArchiveBusy)
            other.kill()
    write(tmp_path, 2, 2)
    assert numbers(tmp_path) == [1, 2]
