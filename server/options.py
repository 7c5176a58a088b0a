"""How a command is told what to do: flags, and variables of the same names.

`--max-rooms` is `EBBTIDE_MAX_ROOMS`. A flag wins over its variable, the variable over the default.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields
from typing import Any, NamedTuple, NoReturn

from server import values
from server.values import KIB, MIB

_PREFIX = "EBBTIDE_"
_ELSEWHERE = frozenset({"EBBTIDE_BENCH_CACHE", "EBBTIDE_MONGOD", "EBBTIDE_NGINX", "EBBTIDE_REDIS_SERVER", "EBBTIDE_TRACES"})
"""Variables of the tests, the demo and the benchmarks, which start commands from their own environment."""


class ConfigError(Exception):
    """The configuration cannot work. `str()` is one line that says what is wrong and what to do."""

    code = "config-invalid"
    exit_status = 2


class Option(NamedTuple):
    """One setting: its flag, what reads its text, and what `--help` says.

    One that is `repeatable` gives a tuple of what `read` makes of each; it has no variable. The text of one that is `secret` is
    never repeated: an address may hold a password.
    """

    flag: str
    read: Callable[[str], Any]
    default: Any
    help: str
    repeatable: bool = False
    secret: bool = False

    @property
    def variable(self) -> str:
        return _PREFIX + self.flag.removeprefix("--").replace("-", "_").upper()


class Word(NamedTuple):
    """What a command takes without a flag: its name in `--help`, what reads it, and whether it may be left out."""

    name: str
    read: Callable[[str], Any]
    help: str
    optional: bool = False


class Settings(dict[str, Any]):
    """Flag, or name of a word -> value. `given` has what set an option: its flag, or its variable; nothing for a default."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, str] = {}


class Usage(NamedTuple):
    """What a command can be told. `options` are flags and variables, `flags` have no variable.

    `elsewhere` are variables that may be set and mean nothing to this command.
    """

    command: str
    purpose: str
    options: Sequence[Option]
    flags: Sequence[Option] = ()
    words: Sequence[Word] = ()
    elsewhere: frozenset[str] = frozenset()


def option(flag: str, read: Callable[[str], Any], default: Any, help_: str, *, secret: bool = False) -> Any:
    """A field of a dataclass that an option sets. What is `secret` shows in no `repr`."""
    return field(default=default, repr=not secret, metadata={"option": Option(flag, read, default, help_, secret=secret)})


def options_of(cls: type[Any]) -> dict[str, Option]:
    """Field name -> option, of a dataclass made with `option`."""
    return {each.name: each.metadata["option"] for each in fields(cls) if "option" in each.metadata}


def fields_from(cls: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Field name -> value, of a dataclass made with `option`."""
    return {name: settings[each.flag] for name, each in options_of(cls).items()}


def read_settings(usage: Usage, argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """What a command was told. `argv` has what follows the command, `environ` is the process's environment.

    Raises `ConfigError` for whatever cannot work, unknown options and variables included; `--help` prints and raises
    `SystemExit(0)`.
    """
    variables = {each.variable: each for each in usage.options}
    known = {*variables, *usage.elsewhere}
    for name in sorted(environ):
        if name.startswith(_PREFIX) and name not in known | _ELSEWHERE:
            raise ConfigError(f"unknown variable {name[:80]}{_hint(usage, name, sorted(known))}")
    given = _parsed(usage, argv)
    settings = Settings()
    settings |= {each.flag: () if each.repeatable else each.default for each in (*usage.options, *usage.flags)}
    settings |= {word.name: None for word in usage.words}
    for variable, each in variables.items():
        if environ.get(variable):
            settings[each.flag] = _value(each, variable, environ[variable])
            settings.given[each.flag] = variable
    for each in (*usage.options, *usage.flags):
        if each.flag in given:
            settings[each.flag] = _flag_value(each, given[each.flag])
            settings.given[each.flag] = each.flag
    for word in usage.words:
        if given.get(word.name) is not None:
            settings[word.name] = _value(word, word.name, given[word.name])
    return settings


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; `{self.prog} --help` lists every option")


def _parsed(usage: Usage, argv: Sequence[str]) -> dict[str, Any]:
    parser = _Parser(
        prog=f"ebbtide {usage.command}",
        description=usage.purpose,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        epilog=_epilog(usage),
    )
    for word in usage.words:
        parser.add_argument(dest=word.name, metavar=word.name, help=word.help, nargs="?" if word.optional else None)
    for each in (*usage.flags, *usage.options):
        help_ = each.help + (f" (default: {_shown(each)})" if each.default else "")
        if each.read is values.boolean:
            parser.add_argument(each.flag, dest=each.flag, action="store_const", const="true", help=help_)
        else:
            action = "append" if each.repeatable or each.read is values.origins else "store"
            parser.add_argument(each.flag, dest=each.flag, action=action, metavar=each.read.__name__.upper(), help=help_)
    parsed, unknown = parser.parse_known_args(argv)
    if unknown:
        known = [each.flag for each in (*usage.options, *usage.flags)]
        kind = "option" if unknown[0].startswith("-") else "word"
        raise ConfigError(f"unknown {kind} {unknown[0][:80]}{_hint(usage, unknown[0].partition('=')[0], known)}")
    return vars(parsed)


def _epilog(usage: Usage) -> str:
    which, each = "Options" if usage.flags else "All options", usage.options[-1]
    but = f", except for {', '.join(flag.flag for flag in usage.flags)}" if usage.flags else ""
    return f"{which} are variables too{but}: {each.flag} is {each.variable}. A flag wins over its variable."


def _flag_value(option: Option, text: str | list[str]) -> Any:
    if option.repeatable:
        return tuple(_value(option, option.flag, each) for each in text)
    return _value(option, option.flag, ",".join(text) if isinstance(text, list) else text)


def _value(wanted: Option | Word, source: str, text: str) -> Any:
    try:
        return wanted.read(text)
    except ValueError as error:
        shown = "what it was given" if isinstance(wanted, Option) and wanted.secret else repr(text[:80])
        raise ConfigError(f"{source} takes {error}, not {shown}") from None


def _shown(option: Option) -> str:
    default = option.default
    if option.read is values.size:
        unit, name = (MIB, "MiB") if default % MIB == 0 else (KIB, "KiB")
        return f"{default // unit} {name}"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _hint(usage: Usage, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {near[0]}?" if near else f"; `ebbtide {usage.command} --help` lists every option"
