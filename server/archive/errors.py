"""What can be wrong with a backup. Codes are stable."""

from __future__ import annotations

from pathlib import Path


class ArchiveError(Exception):
    """The root. `reason` says in a sentence what happened and what to do; it never holds content."""

    code = "archive-error"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ArchiveUnusable(ArchiveError):
    """The folder cannot be used for what was asked, and trying again does not help."""

    code = "backup-unusable"

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"{folder}: {reason}")
        self.folder = folder


class NoTemporaryFolder(ArchiveError):
    """A backup is read through an index that is made anew, and there is no place for that."""

    code = "no-temporary-folder"

    def __init__(self) -> None:
        super().__init__(
            "a folder for temporary files is needed, and there is none that can be written to: name one with TMPDIR"
        )


class NothingThen(ArchiveError):
    """Everything that was to be restored is newer than the moment."""

    code = "nothing-then"

    def __init__(self) -> None:
        super().__init__("everything that was to be restored is newer than --at says, so nothing was; name a later moment")


class ArchiveBusy(ArchiveError):
    """Another process works on the folder."""

    code = "backup-busy"

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder}: another ebbtide works on this backup; try again when it has ended")
        self.folder = folder


class ArchiveDamaged(ArchiveError):
    """A file of the backup does not hold what was written to it."""

    code = "backup-damaged"

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file


class ArchiveUnfinished(ArchiveError):
    """The backup lacks documents: the run that was to make it never came to its end."""

    code = "backup-unfinished"

    def __init__(self) -> None:
        super().__init__("its first run did not come to its end, so documents may be missing; run `ebbtide backup` on it again")


class Mismatch(ArchiveError):
    """What one place holds of a document is no beginning of what the other has, so the one cannot go on from the other."""

    code = "history-differs"

    def __init__(self, document: str, reason: str) -> None:
        super().__init__(reason)
        self.document = document


class NotReached(ArchiveError):
    """Nothing is held of the document for the moment asked for: its log was compacted beyond it."""

    code = "compacted-beyond"

    def __init__(self, document: str) -> None:
        super().__init__("its log was compacted beyond that moment")
        self.document = document


class CompactedMeanwhile(ArchiveError):
    """A server compacted the log that was being read. Opening it again gives what is left."""

    code = "compacted-meanwhile"

    def __init__(self, document: str) -> None:
        super().__init__("its log was compacted while it was read; stop the server, or keep more with --keep-entries")
        self.document = document


class TargetNotEmpty(ArchiveError):
    """The store that is to be filled holds documents of its own. `document` is one of them."""

    code = "store-not-empty"

    def __init__(self, document: str, difference: str, advice: str) -> None:
        super().__init__(f"the store is not empty: it has {document}{difference}; {advice}")
        self.document = document


class UnknownDocument(ArchiveError):
    """The backup has no such document."""

    code = "document-unknown"

    def __init__(self, document: str) -> None:
        super().__init__(f"the backup has no document {document}")
        self.document = document
