"""The server's one configuration: read from flags and `EBBTIDE_*` here alone, and passed on as values.

Every option has a flag and a variable of the same name: `--max-rooms` and `EBBTIDE_MAX_ROOMS`. A flag wins over the
variable, the variable over the default. Only the secret itself has no flag, since every user of a machine can read its
command lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from server import values
from server.options import ConfigError as ConfigError
from server.options import Option, Settings, Usage, fields_from, option, options_of, read_settings
from server.values import KIB, MIB, is_loopback

MIN_SECRET_BYTES = 32
"""HS256 wants a key at least as long as its hash (RFC 7518, section 3.2)."""

MAX_MONGO_UPDATE = 14 * MIB

DEFAULT_RATES = 3_000
"""Handshakes, pushes and refused tokens in a minute: what nobody does by hand, nor a client that comes back as it should."""

_SECRET_VARIABLE = "EBBTIDE_TOKEN_SECRET"  # noqa: S105 - a name, not a secret
_MAX_KEY_FILE_BYTES = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client, one document and one node may use. Sizes are bytes, times are seconds."""

    max_update_bytes: int = option("--max-update-bytes", values.size, 8 * MIB, "largest single update")
    max_document_bytes: int = option("--max-document-bytes", values.size, 64 * MIB, "largest encoded document")
    max_push_bytes: int = option("--max-push-bytes", values.size, 16 * MIB, "largest body of a push")
    max_push_entries: int = option("--max-push-entries", values.count, 10_000, "entries in a push")
    max_presence_bytes: int = option("--max-presence-bytes", values.size, 64 * KIB, "largest awareness state of one client")
    max_connections: int = option("--max-connections", values.count, 20_000, "open WebSockets")
    max_socket_documents: int = option("--max-socket-documents", values.count, 100, "documents on one WebSocket")
    max_rooms: int = option("--max-rooms", values.count, 10_000, "documents open at once, in memory or resting")
    max_backlog_bytes: int = option("--max-backlog-bytes", values.size, MIB, "unsent bytes at which a peer counts as slow")
    max_pending_bytes: int = option(
        "--max-pending-bytes", values.size, 64 * MIB, "bytes of edits of all documents that are not durable"
    )
    idle_seconds: float = option("--idle-seconds", values.seconds, 5.0, "before an unused document leaves memory")
    handshake_seconds: float = option(
        "--handshake-seconds",
        values.seconds,
        10.0,
        "before a WebSocket that says nothing, or a push that stops coming, is given up",
    )
    drain_seconds: float = option("--drain-seconds", values.seconds, 10.0, "that a shutdown may take")
    drain_notice_seconds: float = option(
        "--drain-notice-seconds",
        values.pause,
        0.0,
        "before a shutdown begins, in which /readyz fails and everybody is still served (default: 0)",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Where documents are kept. `url` is "" for SQLite in the data folder, or the address of a MongoDB, which may hold a
    password and so shows in no `repr`."""

    url: str = option("--store", values.text, "", "mongodb://... instead of SQLite", secret=True)
    driver: str = option("--store-driver", values.one_of("pymongo", "motor"), "pymongo", "pymongo or motor")
    pool_most: int = option("--store-pool-most", values.count, 50, "connections to MongoDB")
    pool_least: int = option("--store-pool-least", values.count, 10, "connections to MongoDB that are kept when idle")
    timeout: float = option("--store-timeout", values.seconds, 5.0, "seconds to wait for a MongoDB that can be written to")
    reads: str = option(
        "--store-reads", values.one_of("primary", "secondary"), "primary", "members that listings, which may lag, are read from"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How long tokens and their revocations last, and what one account or address may do in a minute.

    A rate that is None has its default, which is `DEFAULT_RATES`, or none on an open server.
    """

    revocation_hours: int = option("--revocation-hours", values.hours, 24, "hours that a revocation is kept")
    token_hours: int | None = option(
        "--token-hours", values.hours, None, "most hours from a token's iat to its exp; no bound unless given"
    )
    rate_handshakes: int | None = option(
        "--rate-handshakes",
        values.rate,
        None,
        "WebSockets that an account may open in a minute (default: 3000; 0 for no bound)",
    )
    rate_pushes: int | None = option(
        "--rate-pushes", values.rate, None, "pushes that an account may send in a minute (default: 3000; 0 for no bound)"
    )
    rate_refusals: int | None = option(
        "--rate-refusals",
        values.rate,
        None,
        "tokens that may be refused to an address in a minute (default: 3000; 0 for no bound)",
    )
    trust_proxy: int = option(
        "--trust-proxy", values.hops, 0, "proxies in front of the server, whose X-Forwarded-For names the client's address"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Where the keys that sign tokens come from: exactly one source unless the server is open.

    `secret` (HS256) is at least `MIN_SECRET_BYTES` long, `public_key` an Ed25519 key in PEM. Neither shows in a `repr`.
    """

    secret: bytes | None = field(default=None, repr=False)
    public_key: bytes | None = field(default=None, repr=False)
    jwks_url: str | None = None
    issuer: str | None = None
    audience: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that `ebbtide serve` was told. Made by `parse`; tests may build it directly."""

    host: str = option("--host", values.text, "127.0.0.1", "address to listen on")
    port: int = option("--port", values.port, 8080, "port to listen on; 0 takes any free one")
    workers: int = option("--workers", values.processes, 1, "processes that share the port")
    data: Path = option("--data", values.path, Path("data"), "folder of the database")  # noqa: RUF009 - a Path is immutable
    open: bool = option("--open", values.boolean, False, "let anyone read and write; loopback hosts only")
    origins: tuple[str, ...] = option("--origin", values.origins, (), "web origin that may open WebSockets; repeatable")
    bus: str = option("--bus", values.text, "", "redis://..., which carries news between nodes", secret=True)
    bus_prefix: str = option("--bus-prefix", values.text, "ebbtide", "beginning of the names of this deployment's channels")
    keep_entries: int | None = option(
        "--keep-entries", values.count, None, "entries kept of a document's log behind its snapshot; all unless given"
    )
    log_format: str = option("--log-format", values.one_of("text", "json"), "text", "text or json")
    log_level: str = option("--log-level", values.one_of("debug", "info", "warning", "error"), "info", "least level to log")
    limits: Limits = field(default_factory=Limits)
    storage: Storage = field(default_factory=Storage)
    tokens: Tokens = field(default_factory=Tokens)
    access: Access = field(default_factory=Access)

    def admits_origin(self, origin: str | None, host: str) -> bool:
        """Whether a page of `origin` may open a WebSocket here. `origin` and `host` are the request's headers.

        Browsers send Origin with every WebSocket and no page can change it, so its absence means another kind of
        client, which carries no user's cookies. Without `--origin` only this server's own pages may connect. An open
        server goes by loopback instead: Host is chosen by a page that rebinds its name to 127.0.0.1.
        """
        if origin is None:
            return True
        try:
            name = values.origin(origin)
            own = values.origin(f"{urlsplit(name).scheme}://{host}")
        except ValueError:
            return False
        if name in self.origins:
            return True
        if self.open:
            return is_loopback(urlsplit(name).hostname or "")
        return not self.origins and name == own

    def admits_host(self, host: str) -> bool:
        """Whether a request with this Host header may be answered at all.

        An open server answers only to names of this machine: else a web page could rebind its own name to 127.0.0.1 and
        read and write every document as if it were one of the server's own pages.
        """
        try:
            return not self.open or is_loopback(urlsplit(f"//{host}").hostname or "")
        except ValueError:
            return False


_SECRET_FILE = Option("--token-secret-file", values.path, None, f"secret that signs tokens (HS256); or set {_SECRET_VARIABLE}")
_KEY_FILE = Option("--token-key-file", values.path, None, "Ed25519 public key, in PEM, of who signs tokens")
_JWKS_URL = Option("--jwks-url", values.url, None, "public keys of who signs tokens")
_ISSUER = Option("--token-issuer", values.text, None, "the `iss` that tokens must carry")
_AUDIENCE = Option("--token-audience", values.text, None, "the `aud` that tokens must carry")


_DATA, _OPEN, _BUS = (options_of(Config)[name] for name in ("data", "open", "bus"))
_STORE = options_of(Storage)["url"]

_ALL = (
    *options_of(Config).values(),
    *options_of(Storage).values(),
    *(_SECRET_FILE, _KEY_FILE, _JWKS_URL, _ISSUER, _AUDIENCE),
    *options_of(Access).values(),
    *options_of(Limits).values(),
)
_USAGE = Usage("serve", "Run the server.", _ALL, elsewhere=frozenset({_SECRET_VARIABLE}))

VARIABLES = frozenset({_SECRET_VARIABLE, *(each.variable for each in _ALL)})
"""All that a server may find in its environment."""


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Config:
    """The configuration of `ebbtide serve`.

    `argv` has the words after `serve` (`["--open"]`), `environ` the process's environment.
    Raises `ConfigError` for whatever cannot work, unknown options and variables included; `--help` prints and raises
    `SystemExit(0)`.
    """
    settings = read_settings(_USAGE, argv, environ)
    secret = environ.get(_SECRET_VARIABLE)
    signers = [settings.given[each.flag] for each in (_SECRET_FILE, _KEY_FILE, _JWKS_URL) if settings[each.flag]]
    signers += [_SECRET_VARIABLE] if secret else []
    config = Config(
        **fields_from(Config, settings),
        limits=Limits(**fields_from(Limits, settings)),
        storage=Storage(**fields_from(Storage, {**settings, _STORE.flag: store_address(settings)})),
        tokens=_tokens(settings, secret, signers),
        access=Access(**fields_from(Access, settings)),
    )
    _refuse_unsafe(config, settings, signers)
    _refuse_unstorable(config, settings)
    _refuse_forgetful(config.access, settings)
    if config.bus and not config.bus.startswith(("redis://", "rediss://")):
        source = settings.given[_BUS.flag]
        raise ConfigError(f"{source} takes redis://HOST:PORT; without it, nodes find each other's edits in the store")
    return config


def _tokens(settings: Settings, secret: str | None, signers: Sequence[str]) -> Tokens:
    """`signers` are the flags and variables that say what signs tokens."""
    secret_file, key_file = settings[_SECRET_FILE.flag], settings[_KEY_FILE.flag]
    if len(signers) > 1:
        raise ConfigError(f"{' and '.join(signers)} exclude each other: keep the one that signs your tokens")
    return Tokens(
        secret=_secret(signers[0], secret, secret_file) if secret or secret_file else None,
        public_key=_public_key(key_file) if key_file else None,
        jwks_url=settings[_JWKS_URL.flag],
        issuer=settings[_ISSUER.flag],
        audience=settings[_AUDIENCE.flag],
    )


def _secret(source: str, variable: str | None, path: Path | None) -> bytes:
    key = _content(path).rstrip(b"\r\n") if path else (variable or "").encode(errors="surrogateescape")
    if key.startswith(b"-----BEGIN"):
        raise ConfigError(f"{source} holds a PEM key, which is no secret: give a public key with {_KEY_FILE.flag}")
    if len(key) < MIN_SECRET_BYTES:
        raise ConfigError(
            f"{source} holds {len(key)} bytes, and a secret needs at least {MIN_SECRET_BYTES}: `openssl rand -hex 32` makes one"
        )
    return key


def _public_key(path: Path) -> bytes:
    content = _content(path)
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{path} holds no public key in PEM: `openssl pkey -in KEY -pubout` writes one") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path} holds no Ed25519 key: `openssl genpkey -algorithm ed25519` makes a private one")
    return content


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > _MAX_KEY_FILE_BYTES:
        raise ConfigError(f"{path} is too large to hold a key")
    return content


def _refuse_unsafe(config: Config, settings: Settings, signers: Sequence[str]) -> None:
    if config.open:
        source = settings.given[_OPEN.flag]
        if signers:
            raise ConfigError(f"{source} lets anyone in, so it excludes {signers[0]}: drop one of the two")
        if not is_loopback(config.host):
            raise ConfigError(f"{source} lets anyone in, so it refuses to listen on {config.host}: use --host 127.0.0.1")
    elif not signers:
        raise ConfigError(
            f"nobody could connect: say what signs your tokens ({_SECRET_FILE.flag}, {_KEY_FILE.flag} or "
            f"{_JWKS_URL.flag}), or try the server on this machine alone with --open"
        )


def _refuse_forgetful(access: Access, settings: Settings) -> None:
    if access.token_hours is not None and access.token_hours > access.revocation_hours:
        tokens, revocations = (settings.given.get(flag, flag) for flag in ("--token-hours", "--revocation-hours"))
        raise ConfigError(
            f"tokens of {access.token_hours} hours outlive their revocations of {access.revocation_hours}: "
            f"lower {tokens}, or raise {revocations}"
        )


def _refuse_unstorable(config: Config, settings: Settings) -> None:
    if config.storage.url and config.limits.max_update_bytes > MAX_MONGO_UPDATE:
        source = settings.given["--max-update-bytes"]
        raise ConfigError(f"{source} may be 14MiB at most with MongoDB, whose documents have 16 MiB")


def store_address(settings: Settings) -> str:
    """The MongoDB that a command was told to use; "" for the SQLite in `--data`.

    `--data` as a flag wins over `--store` as a variable: whoever writes it means that folder, in whatever environment.
    Raises `ConfigError` where both are flags, and for an address that names no kind of store.
    """
    url: str = settings[_STORE.flag]
    if settings.given.get(_DATA.flag) == _DATA.flag:
        if settings.given.get(_STORE.flag) == _STORE.flag:
            raise ConfigError(f"{_DATA.flag} and {_STORE.flag} name two stores: keep the one that you mean")
        return ""
    # Never the address itself: it may hold a password.
    if url and not url.startswith(("mongodb://", "mongodb+srv://")):
        source = settings.given[_STORE.flag]
        raise ConfigError(f"{source} takes mongodb://HOST/DATABASE; without it, SQLite keeps everything in {_DATA.flag}")
    return url
