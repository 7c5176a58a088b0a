"""`ebbtide`: finds the command that was asked for and runs it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

from server.commands import backup, copy, restore, serve, verify
from server.options import ConfigError

Command = Callable[[Sequence[str], Mapping[str, str]], int]
"""Runs with the words after its name and the process's environment; returns the exit status. Raises `ConfigError`."""

COMMANDS: dict[str, tuple[Command, str]] = {
    "serve": (serve.run, "run the server"),
    "backup": (backup.run, "bring a backup up to date with a store"),
    "restore": (restore.run, "put a backup into a store, as it was at any time"),
    "verify": (verify.run, "check every document of a store or a backup"),
    "copy": (copy.run, "move documents from one store to another"),
}


def main() -> None:
    """Run the command line. Exit status 0 after an orderly end, 2 for what the user has to mend, 1 for an error of ours."""
    name, *rest = sys.argv[1:] or ["--help"]
    try:
        if name not in COMMANDS:
            return _explain(name)
        sys.exit(COMMANDS[name][0](rest, os.environ))
    except ConfigError as error:
        print(f"ebbtide: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


def _explain(asked: str) -> None:
    if asked == "--version":
        print(f"ebbtide {version('ebbtide')}")
        return
    if asked not in ("-h", "--help"):
        raise ConfigError(f"unknown command {asked[:80]}; it is one of {', '.join(COMMANDS)}")
    parser = argparse.ArgumentParser(prog="ebbtide", description="An offline-first sync server for Yjs documents.")
    parser.add_argument("--version", action="store_true", help="say which version this is")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, (_, purpose) in COMMANDS.items():
        commands.add_parser(name, help=purpose)
    parser.print_help()


if __name__ == "__main__":
    main()
