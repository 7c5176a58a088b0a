"""The files of a backup: frames one after another, written at the end only, in segments that are numbered.

What follows the last `Commit` is not part of the backup: a process that was killed left it, and the next one cuts it off.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from server.archive import frames
from server.archive.errors import ArchiveBusy, ArchiveDamaged, ArchiveUnusable
from server.archive.frames import MARKER, Commit, FrameError, Record

TITLE = b"ebbtide backup 1\n"
"""How every segment begins. The number is that of the format."""

SEGMENT_BYTES = 256 << 20
"""A segment that has reached this size gets a successor after the next commit."""

_NAME = re.compile(r"(?!000000)[0-9]{6}\.ebb")
INDEX = "index.sqlite"


def is_backup(folder: Path) -> bool:
    """Whether a folder holds a backup, or the beginning of one."""
    return (folder / "000001.ebb").is_file()


class Place(NamedTuple):
    """Where a frame begins."""

    segment: int
    offset: int


Skipped = list[tuple[ArchiveDamaged, str]]
"""What could not be read, and the document that it seems to be of ("" where that is lost)."""


class Segments:
    """The segments of one folder, locked for as long as they are open: for one writer, or for any number of readers."""

    def __init__(self, folder: Path, *, write: bool) -> None:
        """A writer makes the folder when it is missing.

        Raises `ArchiveUnusable` for a folder that is none of a backup, `ArchiveBusy`, and `OSError`.
        """
        self.folder = folder
        if write:
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.is_dir():
            raise ArchiveUnusable(folder, "there is no such folder")
        self._lock = os.open(folder, os.O_RDONLY)
        self._reading: dict[int, BinaryIO] = {}
        self._writing: BinaryIO | None = None
        try:
            try:
                fcntl.flock(self._lock, (fcntl.LOCK_EX if write else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArchiveBusy(folder) from None
            self.numbers = self._found()
            if not write and not self.numbers:
                raise ArchiveUnusable(folder, "holds no backup")
        except BaseException:
            os.close(self._lock)
            raise

    def path(self, segment: int) -> Path:
        """The file of a segment."""
        return self.folder / f"{segment:06}.ebb"

    def scan(self, start: Place, skipped: Skipped | None = None) -> Iterator[tuple[Place, Place, Record]]:
        """The records from `start` to the end of what is whole: where each begins and ends, and it.

        Where something that was committed once cannot be read, raises `ArchiveDamaged`; or, given `skipped`, says so there and
        goes on with the next record that is whole.
        """
        if start.segment and start.segment not in self.numbers:
            raise ArchiveDamaged(self.path(start.segment), "is missing; put it back")
        for segment in [number for number in self.numbers if number >= start.segment]:
            file = self._file(segment)
            offset = start.offset if segment == start.segment else 0
            if file.seek(0, os.SEEK_END) < offset:
                raise ArchiveDamaged(self.path(segment), "is shorter than it was; put back the whole file")
            while True:
                try:
                    offset = offset or self._after_title(segment, file)
                    file.seek(offset)
                    while (found := frames.read(file)) is not None:
                        yield Place(segment, offset), Place(segment, file.tell()), found[0]
                        offset = file.tell()
                    break
                except FrameError as error:
                    if not self._commits_after(segment, offset):
                        return
                    damage = ArchiveDamaged(self.path(segment), f"{error}, at byte {offset}")
                    if skipped is None:
                        raise damage from None
                    skipped.append((damage, error.document))
                    whole = next(self._whole_after(segment, offset), None)
                    if whole is None:
                        break
                    offset, _ = whole

    def read(self, place: Place) -> tuple[Record, bytes]:
        """The record at a place where one was found or appended, and its compressed body. Raises `ArchiveDamaged`."""
        if self._writing is not None:
            self._writing.flush()
        if place.segment not in self.numbers:
            raise ArchiveDamaged(self.path(place.segment), "is missing; put it back")
        file = self._file(place.segment)
        file.seek(place.offset)
        try:
            found = frames.read(file)
        except FrameError as error:
            raise ArchiveDamaged(self.path(place.segment), f"{error}, at byte {place.offset}") from None
        if found is None:
            raise ArchiveDamaged(self.path(place.segment), "is shorter than it was; put back the whole file")
        return found

    def cut(self, end: Place) -> None:
        """Remove what lies behind `end`, and write there from now on. To be called once, by the writer, before `append`."""
        for file in self._reading.values():
            # They may have kept what is to be written anew.
            file.close()
        self._reading.clear()
        for segment in [number for number in self.numbers if number > max(end.segment, 1)]:
            self.path(segment).unlink()
            self.numbers.remove(segment)
        if end.offset >= SEGMENT_BYTES:
            self._begin(end.segment + 1, 0)
        else:
            self._begin(max(end.segment, 1), end.offset)

    def append(self, frame: bytes) -> Place:
        """Write a frame, which is durable after `sync`; where it begins."""
        assert self._writing is not None
        place = Place(self.numbers[-1], self._writing.tell())
        self._writing.write(frame)
        return place

    def sync(self) -> Place:
        """Return when all that was appended is on disk; the place behind it."""
        assert self._writing is not None
        self._writing.flush()
        os.fsync(self._writing.fileno())
        end = Place(self.numbers[-1], self._writing.tell())
        if end.offset >= SEGMENT_BYTES:
            self._begin(end.segment + 1, 0)
        return end

    def close(self) -> None:
        """Release files and lock. What was not synced may be lost."""
        if self._writing is not None:
            # A disk that was full is full still; who wrote has been told.
            with suppress(OSError):
                self._writing.close()
        for file in self._reading.values():
            file.close()
        os.close(self._lock)

    def _found(self) -> list[int]:
        numbers = []
        for path in self.folder.iterdir():
            if not path.is_file() and (path.name.startswith(INDEX) or _NAME.fullmatch(path.name)):
                # A pipe would be waited for.
                raise ArchiveUnusable(path, "is no file; put back the file, or name another folder")
            if _NAME.fullmatch(path.name):
                numbers.append(int(path.stem))
            elif not path.name.startswith(INDEX):
                raise ArchiveUnusable(self.folder, f"holds {path.name}, which is none of a backup; name a folder of its own")
        numbers.sort()
        if numbers != list(range(1, len(numbers) + 1)):
            missing = next(number for number in range(1, numbers[-1] + 1) if number not in numbers)
            raise ArchiveDamaged(self.path(missing), "is missing; put it back")
        return numbers

    def _after_title(self, segment: int, file: BinaryIO) -> int:
        file.seek(0)
        title = file.read(len(TITLE))
        if title == TITLE:
            return len(TITLE)
        if TITLE.startswith(title):
            raise FrameError("the file ends within its title")
        if title.startswith(TITLE[:-2]):
            raise ArchiveUnusable(self.path(segment), "was written by a newer Ebbtide; use that one")
        raise ArchiveUnusable(self.path(segment), "is no part of a backup")

    def _commits_after(self, segment: int, offset: int) -> bool:
        """Whether a commit can be found behind bytes that are no frame: then they are damage, and not an end."""
        if any(isinstance(record, Commit) for number in self.numbers if number > segment for record in self._whole(number)):
            return True
        return any(isinstance(record, Commit) for _, record in self._whole_after(segment, offset))

    def _whole_after(self, segment: int, offset: int) -> Iterator[tuple[int, Record]]:
        """Where whole records begin in a segment behind `offset`, and they."""
        file = self._file(segment)
        at = offset + 1
        while True:
            file.seek(at)
            window = file.read(1 << 20)
            found = window.find(MARKER)
            if found < 0:
                if len(window) < len(MARKER):
                    return
                at += max(1, len(window) - len(MARKER) + 1)
                continue
            at += found
            file.seek(at)
            with suppress(FrameError):
                if (frame := frames.read(file)) is not None:
                    yield at, frame[0]
            at += 1

    def _whole(self, segment: int) -> Iterator[Record]:
        file = self._file(segment)
        with suppress(FrameError):
            file.seek(self._after_title(segment, file))
            while (found := frames.read(file)) is not None:
                yield found[0]

    def _file(self, segment: int) -> BinaryIO:
        if segment not in self._reading:
            self._reading[segment] = self.path(segment).open("rb")
        return self._reading[segment]

    def _begin(self, segment: int, offset: int) -> None:
        """Write to the segment from `offset` on, and remove what it has behind."""
        if self._writing is not None:
            self._writing.close()
        path = self.path(segment)
        is_new = not path.exists()
        self._writing = path.open("r+b" if not is_new else "w+b")
        self._writing.truncate(offset)
        self._writing.seek(offset)
        if not offset:
            self._writing.write(TITLE)
        self._writing.flush()
        os.fsync(self._writing.fileno())
        if segment not in self.numbers:
            self.numbers.append(segment)
        if is_new:
            # The file's name, which is the folder's to remember.
            os.fsync(self._lock)
