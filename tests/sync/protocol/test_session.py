from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.protocol.errors import TooManyDocuments, TooMuchWaiting
from sync.protocol.hocuspocus import Hocuspocus
from sync.protocol.lib0 import write_var_string
from sync.protocol.messages import AuthToken, CloseDocument, Message, Ping, SyncStep1, SyncUpdate
from sync.protocol.session import Session, SessionLimits
from tests.golden.vectors import VECTORS, message

DIALECT = Hocuspocus()


def opened(session: Session) -> list[str]:
    return [address for address, document in session._documents.items() if document.state.name in ("OPEN", "REFRESHING")]


def auth(address: str, token: str = "t", version: str | None = None) -> bytes:
    frame = write_var_string(address) + b"\x02\x00" + write_var_string(token)
    return frame if version is None else frame + write_var_string(version)


def step1(address: str) -> bytes:
    return DIALECT.step1(address, b"\x00")


def edit(address: str, number: int = 0) -> bytes:
    return DIALECT.update(address, b"%d" % number)


def close(address: str) -> bytes:
    return write_var_string(address) + b"\x07"


def test_what_follows_a_token_waits_for_its_grant_and_comes_in_order() -> None:
    session = Session(DIALECT)
    assert session.receive(auth("plan")) == [AuthToken("plan", "t", None)]
    assert session.receive(step1("plan")) == []
    assert session.receive(edit("plan", 1)) == []
    assert session.grant("plan") == [SyncStep1("plan", b"\x00"), SyncUpdate("plan", b"1")]
    assert session.receive(edit("plan", 2)) == [SyncUpdate("plan", b"2")]
    assert opened(session) == ["plan"]


def test_what_comes_before_its_token_waits_too() -> None:
    session = Session(DIALECT)
    assert session.receive(edit("plan", 1)) == []
    assert session.receive(step1("plan")) == []
    assert session.receive(auth("plan")) == [AuthToken("plan", "t", None)]
    assert session.grant("plan") == [SyncUpdate("plan", b"1"), SyncStep1("plan", b"\x00")]
    assert opened(session) == ["plan"]


def test_documents_of_a_socket_do_not_wait_for_each_other() -> None:
    session = Session(DIALECT)
    session.receive(auth("slow"))
    session.receive(auth("quick"))
    session.grant("quick")
    session.receive(edit("slow"))
    assert session.receive(edit("quick")) == [SyncUpdate("quick", b"0")]


def test_two_sessions_of_one_document_are_granted_apart() -> None:
    session = Session(DIALECT)
    session.receive(auth("plan\0one"))
    session.receive(auth("plan\0two"))
    session.grant("plan\0one")
    assert session.deny("plan\0two") == []
    assert session.receive(edit("plan\0one")) == [SyncUpdate("plan\0one", b"0")]
    assert session.receive(edit("plan\0two")) == []


@pytest.mark.parametrize("anonymous", [False, True])
def test_a_denied_document_stays_shut_until_the_next_token(anonymous: bool) -> None:
    session = Session(DIALECT, anonymous=anonymous)
    session.receive(auth("plan", "bad"))
    session.receive(edit("plan"))
    assert session.deny("plan") == []
    assert session.receive(step1("plan")) == []
    assert session.receive(edit("plan")) == []
    assert session.receive(auth("plan", "good")) == [AuthToken("plan", "good", None)]
    assert session.grant("plan") == []
    assert session.receive(edit("plan", 3)) == [SyncUpdate("plan", b"3")]


def test_a_second_token_waits_for_the_answer_to_the_first() -> None:
    session = Session(DIALECT)
    session.receive(auth("plan", "one"))
    session.receive(edit("plan", 1))
    assert session.receive(auth("plan", "two")) == []
    session.receive(edit("plan", 2))
    assert session.deny("plan") == [AuthToken("plan", "two", None)]
    assert session.grant("plan") == [SyncUpdate("plan", b"2")]


def test_messages_flow_while_a_token_is_renewed() -> None:
    session = Session(DIALECT)
    session.receive(auth("plan", "one"))
    session.grant("plan")
    assert session.receive(auth("plan", "two")) == [AuthToken("plan", "two", None)]
    assert session.receive(edit("plan", 1)) == [SyncUpdate("plan", b"1")]
    assert session.grant("plan") == []
    assert opened(session) == ["plan"]


def test_a_renewal_that_fails_ends_the_document() -> None:
    session = Session(DIALECT)
    session.receive(auth("plan", "one"))
    session.grant("plan")
    session.receive(auth("plan", "two"))
    assert session.deny("plan") == []
    assert session.receive(edit("plan")) == []
    assert opened(session) == []


def test_nothing_overtakes_a_close_that_waits_for_a_renewal() -> None:
    session = Session(DIALECT)
    session.receive(auth("plan", "one"))
    session.grant("plan")
    session.receive(auth("plan", "two"))
    assert session.receive(close("plan")) == []
    assert session.receive(auth("plan", "three")) == []
    assert session.receive(edit("plan", 1)) == []
    assert session.grant("plan") == [CloseDocument("plan", ""), AuthToken("plan", "three", None)]
    assert session.grant("plan") == [SyncUpdate("plan", b"1")]


def test_a_closed_document_is_opened_again_by_a_token() -> None:
    session = Session(DIALECT)
    session.receive(auth("plan"))
    session.grant("plan")
    assert session.receive(close("plan")) == [CloseDocument("plan", "")]
    # A 2.x provider sends its last awareness after the close.
    assert session.receive(edit("plan")) == []
    assert session.receive(auth("plan")) == [AuthToken("plan", "t", None)]


def test_a_close_of_what_was_never_granted_says_nothing() -> None:
    session = Session(DIALECT)
    session.receive(edit("plan"))
    assert session.receive(close("plan")) == []
    assert session.receive(close("other")) == []
    assert opened(session) == []


def test_a_document_that_the_server_closes_drops_what_is_on_its_way() -> None:
    session = Session(DIALECT)
    session.receive(auth("plan"))
    session.grant("plan")
    session.close("plan")
    assert session.receive(edit("plan")) == []
    assert session.receive(auth("plan", "two")) == [AuthToken("plan", "two", None)]


def test_closing_during_a_renewal_leaves_the_answer_to_decide() -> None:
    session = Session(DIALECT)
    session.receive(auth("plan"))
    session.grant("plan")
    session.receive(auth("plan", "two"))
    session.close("plan")
    assert opened(session) == []
    assert session.receive(edit("plan", 1)) == []
    assert session.grant("plan") == [SyncUpdate("plan", b"1")]


def test_a_client_without_a_token_is_asked_for_as_one_with_an_empty_token() -> None:
    session = Session(DIALECT, anonymous=True)
    assert session.receive(step1("plan")) == [AuthToken("plan", "", None)]
    assert session.receive(edit("plan", 1)) == []
    assert session.grant("plan") == [SyncStep1("plan", b"\x00"), SyncUpdate("plan", b"1")]
    session.receive(close("plan"))
    assert session.receive(step1("plan")) == [AuthToken("plan", "", None)]


def test_a_denied_client_without_a_token_is_not_asked_for_again_by_itself() -> None:
    session = Session(DIALECT, anonymous=True)
    session.receive(step1("plan"))
    session.receive(step1("plan"))
    assert session.deny("plan") == []


def test_pings_need_no_document() -> None:
    assert Session(DIALECT).receive(b"\x09") == [Ping()]


def test_answers_for_a_document_that_is_gone_do_nothing() -> None:
    session = Session(DIALECT)
    assert session.deny("plan") == []
    session.close("plan")
    assert opened(session) == []


@pytest.mark.parametrize(
    ("limits", "frames"),
    [
        (SessionLimits(waiting_bytes=40), [edit("plan")] * 5),
        (SessionLimits(waiting_messages=3), [edit("plan")] * 4),
        (SessionLimits(waiting_messages=3), [edit("a"), edit("b"), edit("c"), edit("d")]),
    ],
)
def test_what_waits_is_bounded(limits: SessionLimits, frames: list[bytes]) -> None:
    session = Session(DIALECT, limits)
    for frame in frames[:-1]:
        session.receive(frame)
    with pytest.raises(TooMuchWaiting):
        session.receive(frames[-1])


@pytest.mark.parametrize("limits", [SessionLimits(waiting_bytes=40), SessionLimits(waiting_messages=4)])
def test_a_session_says_when_half_of_what_may_wait_does(limits: SessionLimits) -> None:
    session = Session(DIALECT, limits)
    session.receive(auth("plan"))
    for _ in range(2):
        session.receive(edit("plan"))
        assert not session.crowded
    session.receive(edit("plan"))
    assert session.crowded
    session.grant("plan")
    assert not session.crowded


def test_tokens_that_are_being_checked_count_as_held() -> None:
    session = Session(DIALECT)
    session.receive(auth("a", "t" * 100))
    session.receive(auth("b", "t" * 50))
    assert session.held == 150
    session.receive(edit("a"))
    assert session.held == 150 + len(edit("a"))
    session.grant("a")
    session.deny("b")
    assert session.held == 0


def test_what_no_longer_waits_makes_room() -> None:
    session = Session(DIALECT, SessionLimits(waiting_messages=2, waiting_bytes=60))
    for number in range(50):
        address = f"plan-{number}"
        session.receive(auth(address))
        session.receive(edit(address))
        session.receive(edit(address))
        if number % 2:
            assert len(session.grant(address)) == 2
        else:
            assert session.deny(address) == []


def test_documents_of_a_socket_are_bounded_but_not_how_many_it_opens_in_turn() -> None:
    session = Session(DIALECT, SessionLimits(documents=3))
    for number in range(20):
        session.receive(auth(f"turn-{number}"))
        session.grant(f"turn-{number}")
        session.receive(close(f"turn-{number}"))
    for number in range(3):
        session.receive(auth(f"plan-{number}"))
        session.grant(f"plan-{number}")
    with pytest.raises(TooManyDocuments):
        session.receive(auth("one-more"))


@pytest.mark.parametrize("client", sorted({vector["client"] for vector in VECTORS["clients"]["hocuspocus"]}))
def test_a_stock_client_gets_everything_through_once_granted(client: str) -> None:
    session = Session(DIALECT, anonymous=True)
    sent: list[dict[str, Any]] = [each for each in VECTORS["clients"]["hocuspocus"] if each["client"] == client]
    received: list[Message] = []
    for vector in sent:
        for ready in session.receive(bytes.fromhex(vector["frame"])):
            received.append(ready)
            if isinstance(ready, AuthToken):
                received += session.grant(ready.address)
    expected = [message(vector["message"]) for vector in sent]
    implied = [each for each in received if each == AuthToken("plan", "", None)] if "2.15.3" in client else []
    late = _after_close(expected)
    assert len(received) == len(expected) + len(implied) - len(late)
    assert [each for each in received if each not in implied] == [
        each for place, each in enumerate(expected) if place not in late
    ]


def _after_close(sent: list[Any]) -> set[int]:
    """The places of what a client sends for a document behind its close."""
    closed: set[str] = set()
    late: set[int] = set()
    for place, each in enumerate(sent):
        if each.address in closed:
            late.add(place)
        if isinstance(each, CloseDocument):
            closed.add(each.address)
    return late


@given(st.lists(st.sampled_from(["auth", "edit", "close", "grant", "deny", "shut", "step1"]), max_size=40), st.booleans())
def test_edits_come_out_in_order_at_most_once_and_only_while_granted(actions: list[str], anonymous: bool) -> None:
    session = Session(DIALECT, anonymous=anonymous)
    edits: list[int] = []
    asked = False
    for number, action in enumerate(actions):
        ready: list[Message] = []
        if action == "auth":
            ready = session.receive(auth("plan"))
        elif action == "edit":
            ready = session.receive(edit("plan", number))
        elif action == "step1":
            ready = session.receive(step1("plan"))
        elif action == "close":
            ready = session.receive(close("plan"))
        elif action == "shut":
            session.close("plan")
        elif asked:
            asked = False
            ready = session.grant("plan") if action == "grant" else session.deny("plan")
        tokens = [each for each in ready if isinstance(each, AuthToken)]
        assert not (tokens and asked), "two tokens are being checked at once"
        asked = asked or bool(tokens)
        new = [int(each.update) for each in ready if isinstance(each, SyncUpdate)]
        if new and action != "grant":
            assert opened(session) == ["plan"]
        edits += new
    assert edits == sorted(set(edits))


def test_closed_documents_are_remembered_up_to_a_bound() -> None:
    session = Session(DIALECT, SessionLimits(documents=3))
    for number in range(4):
        session.receive(auth(f"plan-{number}"))
        session.grant(f"plan-{number}")
        session.receive(close(f"plan-{number}"))
    session.receive(edit("plan-3"))
    session.receive(auth("plan-3"))
    assert session.grant("plan-3") == [], "the newest is remembered: what was on its way is dropped"
    session.receive(edit("plan-0"))
    session.receive(auth("plan-0"))
    assert len(session.grant("plan-0")) == 1, "the oldest is forgotten: what comes waits"
