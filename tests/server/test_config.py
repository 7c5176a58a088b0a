from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from server.config import Config, ConfigError, Limits, parse

SECRET = "0123456789abcdef" * 2
KEYS = "https://id.example/keys"


def public_pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def refusal(*argv: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse([*argv], environ)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_open_with_nothing_else_gives_the_documented_defaults() -> None:
    config = parse(["--open"], {"PATH": "/bin"})
    assert config == Config(open=True)
    assert (config.host, config.port, config.data) == ("127.0.0.1", 8080, Path("data"))
    assert config.limits == Limits(
        max_update_bytes=8 << 20, max_document_bytes=64 << 20, max_push_bytes=16 << 20, max_presence_bytes=64 << 10
    )


def test_a_flag_wins_over_its_variable_and_a_variable_over_the_default() -> None:
    environ = {"EBBTIDE_OPEN": "true", "EBBTIDE_PORT": "9000", "EBBTIDE_MAX_ROOMS": "7"}
    config = parse(["--port", "0"], environ)
    assert (config.port, config.limits.max_rooms, config.open) == (0, 7, True)


def test_a_folder_as_a_flag_wins_over_a_store_as_a_variable() -> None:
    store = "mongodb://ebbtide:hunter2@db/x"
    assert parse(["--open", "--data", "x"], {"EBBTIDE_STORE": store, "EBBTIDE_MAX_UPDATE_BYTES": "15MiB"}).storage.url == ""
    assert parse(["--open", "--store", store], {"EBBTIDE_DATA": "x"}).storage.url == store
    assert parse(["--open"], {"EBBTIDE_STORE": store, "EBBTIDE_DATA": "x"}).storage.url == store
    line = refusal("--open", "--data", "x", "--store", store)
    assert line == "--data and --store name two stores: keep the one that you mean"


@pytest.mark.parametrize(("name", "address"), [("STORE", "mongodb://ebbtide:hunter2@db/x"), ("BUS", "redis://:hunter2@redis")])
@pytest.mark.parametrize("spoilt", ["{}\n", "\x00{}", "http://{}" + "x" * 2_000, "ftp://{}"])
def test_an_address_that_is_refused_is_not_repeated_since_it_may_hold_a_password(name: str, address: str, spoilt: str) -> None:
    assert "hunter2" not in refusal("--open", **{f"EBBTIDE_{name}": spoilt.format(address)})


def test_an_empty_variable_counts_as_absent() -> None:
    assert parse(["--open"], {"EBBTIDE_PORT": ""}).port == 8080


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("512B", 512), ("64KiB", 65_536), ("2MiB", 2 << 20), ("1GiB", 1 << 30)])
def test_sizes_take_binary_units(text: str, size: int) -> None:
    assert parse(["--open", "--max-update-bytes", text], {}).limits.max_update_bytes == size


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--port", "65536"),
        ("--port", "-1"),
        ("--port", "http"),
        ("--max-update-bytes", "0"),
        ("--max-update-bytes", "8MB"),
        ("--max-update-bytes", "1.5MiB"),
        ("--max-rooms", "0"),
        ("--workers", "0"),
        ("--workers", "257"),
        ("--drain-notice-seconds", "-1"),
        ("--drain-notice-seconds", "nan"),
        ("--drain-notice-seconds", "3601"),
        ("--max-rooms", "²"),
        ("--idle-seconds", "nan"),
        ("--idle-seconds", "-1"),
        ("--drain-seconds", "inf"),
        ("--log-format", "xml"),
        ("--log-level", "loud"),
        ("--origin", "example.org"),
        ("--origin", "https://example.org/path"),
        ("--origin", "https://user@example.org"),
        ("--origin", "https://example.org:99999"),
        ("--origin", "https://[::1"),
        ("--data", ""),
        ("--host", "a\nb"),
    ],
)
def test_a_bad_value_is_named_with_its_option(flag: str, text: str) -> None:
    line = refusal("--open", flag, text)
    assert line.startswith(f"{flag} takes ")


def test_a_bad_variable_is_named() -> None:
    assert refusal("--open", EBBTIDE_PORT="tcp://10.0.0.1:80").startswith("EBBTIDE_PORT takes ")


def test_unknown_options_and_variables_are_refused_with_the_nearest_one() -> None:
    assert "did you mean --port?" in refusal("--open", "--prot", "1")
    assert "did you mean EBBTIDE_MAX_ROOMS?" in refusal("--open", EBBTIDE_MAX_ROOM="1")
    assert "did you mean EBBTIDE_ORIGIN?" in refusal("--open", EBBTIDE_ORIGINS="https://a.example")
    assert "--help" in refusal("--open", "--completely-else")


def test_an_option_is_not_guessed_from_its_beginning() -> None:
    assert "unknown option --ope" in refusal("--ope")


def test_help_lists_every_limit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"], {})
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert all("--" + name.replace("_", "-") in shown for name in Limits.__dataclass_fields__)


def test_a_server_that_nobody_could_use_does_not_start() -> None:
    line = refusal()
    assert "--token-secret-file" in line
    assert "--open" in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example.org"])
def test_open_refuses_any_host_but_loopback(host: str) -> None:
    assert host in refusal("--open", "--host", host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_open_takes_loopback_hosts(host: str) -> None:
    assert parse(["--open", "--host", host], {}).host == host


def test_open_excludes_tokens() -> None:
    said = "--open lets anyone in, so it excludes EBBTIDE_TOKEN_SECRET: drop one of the two"
    assert refusal("--open", EBBTIDE_TOKEN_SECRET=SECRET) == said


def test_what_conflicts_is_named_by_where_it_was_said(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    assert "it excludes EBBTIDE_TOKEN_SECRET_FILE: drop" in refusal("--open", EBBTIDE_TOKEN_SECRET_FILE=str(file))
    assert "it excludes --token-secret-file: drop" in refusal("--open", "--token-secret-file", str(file))
    assert "EBBTIDE_OPEN lets anyone in, so it excludes --jwks-url" in refusal("--jwks-url", KEYS, EBBTIDE_OPEN="1")
    assert refusal("--host", "::", EBBTIDE_OPEN="1").startswith("EBBTIDE_OPEN lets anyone in, so it refuses to listen on ::")
    both = refusal("--jwks-url", KEYS, EBBTIDE_TOKEN_SECRET_FILE=str(file))
    assert both.startswith("EBBTIDE_TOKEN_SECRET_FILE and --jwks-url exclude each other")
    forgetful = refusal("--jwks-url", KEYS, EBBTIDE_TOKEN_HOURS="48")
    assert forgetful.endswith("lower EBBTIDE_TOKEN_HOURS, or raise --revocation-hours")
    assert refusal("--open", EBBTIDE_STORE="postgres://h").startswith("EBBTIDE_STORE takes mongodb://HOST/DATABASE")
    assert refusal("--open", EBBTIDE_BUS="amqp://h").startswith("EBBTIDE_BUS takes redis://HOST:PORT")
    large = refusal("--open", "--store", "mongodb://h/d", EBBTIDE_MAX_UPDATE_BYTES="15MiB")
    assert large.startswith("EBBTIDE_MAX_UPDATE_BYTES may be 14MiB at most")


def test_the_secret_comes_from_its_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    from_file = parse(["--token-secret-file", str(file)], {})
    from_variable = parse([], {"EBBTIDE_TOKEN_SECRET": SECRET})
    assert from_file.tokens.secret == from_variable.tokens.secret == SECRET.encode()


def test_a_secret_never_shows() -> None:
    assert SECRET not in repr(parse([], {"EBBTIDE_TOKEN_SECRET": SECRET}))
    short = SECRET[:31]
    assert short not in refusal(EBBTIDE_TOKEN_SECRET=short)


def test_a_public_key_is_no_secret() -> None:
    pem = public_pem(Ed25519PrivateKey.generate()).decode()
    assert "--token-key-file" in refusal(EBBTIDE_TOKEN_SECRET=pem)


def test_the_key_file_holds_an_ed25519_public_key(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(public_pem(Ed25519PrivateKey.generate()))
    assert parse(["--token-key-file", str(file)], {}).tokens.public_key == file.read_bytes()
    file.write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1())))
    assert "Ed25519" in refusal("--token-key-file", str(file))
    file.write_bytes(b"not a key")
    assert "PEM" in refusal("--token-key-file", str(file))
    file.write_bytes(b"x" * 100_000)
    assert "too large" in refusal("--token-key-file", str(file))
    assert "cannot read" in refusal("--token-key-file", str(tmp_path / "absent"))
    assert "cannot read" in refusal("--token-key-file", str(tmp_path))


def test_one_source_of_tokens_is_enough() -> None:
    assert "exclude each other" in refusal("--jwks-url", "https://id.example/keys", EBBTIDE_TOKEN_SECRET=SECRET)


@pytest.mark.parametrize("url", ["http://id.example/keys", "file:///etc/passwd", "https://", "id.example"])
def test_keys_are_not_fetched_in_clear_over_a_network(url: str) -> None:
    assert refusal("--jwks-url", url).startswith("--jwks-url takes an https address")


def test_origins_are_repeatable_and_spelt_as_browsers_do() -> None:
    argv = ["--open", "--origin", "https://A.Example:443/", "--origin", "http://b.example:8080"]
    assert parse(argv, {}).origins == ("https://a.example", "http://b.example:8080")
    assert parse(["--open"], {"EBBTIDE_ORIGIN": "https://a.example, https://b.example"}).origins == (
        "https://a.example",
        "https://b.example",
    )


def test_origins_without_a_comma_are_refused_with_how_to_give_several() -> None:
    assert "several with commas between" in refusal("--open", EBBTIDE_ORIGIN="https://a.example https://b.example")


@pytest.mark.parametrize(
    ("config", "origin", "host", "admitted"),
    [
        (Config(), None, "ebb.example", True),
        (Config(), "https://ebb.example", "ebb.example", True),
        (Config(), "https://ebb.example", "ebb.example:443", True),
        (Config(), "https://EBB.example", "ebb.example", True),
        (Config(), "https://ebb.example:8443", "ebb.example", False),
        (Config(), "https://evil.example", "ebb.example", False),
        (Config(), "https://ebb.example.evil.example", "ebb.example", False),
        (Config(), "null", "ebb.example", False),
        (Config(), "", "ebb.example", False),
        (Config(), "https://[", "ebb.example", False),
        (Config(origins=("https://app.example",)), "https://app.example", "ebb.example", True),
        (Config(origins=("https://app.example",)), "https://ebb.example", "ebb.example", False),
        (Config(open=True), "http://localhost:3000", "127.0.0.1:8080", True),
        (Config(open=True), "http://[::1]:3000", "127.0.0.1:8080", True),
        (Config(open=True), "http://rebound.example:8080", "rebound.example:8080", False),
        (Config(open=True, origins=("https://app.example",)), "https://app.example", "127.0.0.1:8080", True),
    ],
)
def test_only_known_pages_may_open_websockets(config: Config, origin: str | None, host: str, admitted: bool) -> None:
    assert config.admits_origin(origin, host) is admitted


def test_an_open_server_answers_to_names_of_this_machine_alone() -> None:
    config = Config(open=True)
    assert all(config.admits_host(host) for host in ("127.0.0.1:8080", "localhost", "[::1]:8080", "app.localhost:80"))
    assert not any(config.admits_host(host) for host in ("rebound.example:8080", "10.0.0.1", "", "[::1"))
    assert Config().admits_host("ebb.example")
