from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import pytest
from aiohttp import ClientPayloadError, web
from aiohttp.test_utils import TestClient

from server.metrics import Counters
from server.tokens import TokenExpired
from server.web.problem import middleware
from sync.rooms.errors import DocumentTooLarge, Forbidden, LineageDiffers, StoreUnavailable

Client = TestClient[web.Request, web.Application]
Connect = Callable[[Exception], Awaitable[Client]]


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def connect(aiohttp_client: Callable[[web.Application], Awaitable[Client]], counters: Counters) -> Connect:
    """A client of a server whose handler raises the error."""

    async def connect(error: Exception) -> Client:
        async def fail(request: web.Request) -> web.StreamResponse:
            if "begun" in request.query:
                await web.StreamResponse().prepare(request)
            raise error

        async def read(request: web.Request) -> web.Response:
            return web.Response(body=await request.read())

        app = web.Application(middlewares=[middleware(counters)], client_max_size=10)
        app.router.add_get("/documents/{document}", fail)
        app.router.add_post("/read", read)
        return await aiohttp_client(app)

    return connect


async def test_a_known_error_is_a_problem_with_its_fields(connect: Connect) -> None:
    client = await connect(DocumentTooLarge(64))
    response = await client.get("/documents/notes")
    assert (response.status, response.content_type) == (413, "application/problem+json")
    assert await response.json() == {
        "type": "urn:ebbtide:error:document-too-large",
        "title": "The document would become too large",
        "status": 413,
        "code": "document-too-large",
        "detail": DocumentTooLarge(64).reason,
        "limit": 64,
    }


async def test_a_field_cannot_take_the_place_of_the_body_s_own(connect: Connect) -> None:
    error = LineageDiffers("01ARZ")
    error.status = 200  # type: ignore[attr-defined]
    body = await (await (await connect(error)).get("/documents/notes")).json()
    assert (body["status"], body["lineage"]) == (409, "01ARZ")


async def test_refusals_say_how_to_go_on(connect: Connect) -> None:
    unauthenticated = await (await connect(TokenExpired("expired"))).get("/documents/notes")
    unavailable = await (await connect(StoreUnavailable("locked"))).get("/documents/notes")
    assert (unauthenticated.status, unauthenticated.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert (unavailable.status, unavailable.headers["Retry-After"]) == (503, "2")


async def test_an_unexpected_error_is_an_incident_that_tells_nothing(
    connect: Connect, counters: Counters, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect(ValueError("the content of a document"))
    response = await client.get("/documents/notes?token=hidden")
    text = await response.text()
    body = await response.json()
    assert (response.status, body["code"]) == (500, "internal")
    assert "content of a document" not in text
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert vars(record)["incident"] == body["incident"]
    assert vars(record)["resource"] == "/documents/{document}"
    assert record.exc_info
    assert counters.requests_failed == 1


async def test_what_aiohttp_refuses_is_a_problem_too(connect: Connect) -> None:
    client = await connect(ValueError())
    missing = await client.get("/nowhere")
    wrong = await client.post("/documents/notes")
    large = await client.post("/read", data=b"x" * 11)
    assert [(await each.json())["code"] for each in (missing, wrong, large)] == [
        "not-found",
        "method-not-allowed",
        "request-entity-too-large",
    ]
    assert wrong.headers["Allow"] == "GET,HEAD"


async def test_codes_do_not_follow_the_phrases_of_the_python_version(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HTTPStatus(413), "phrase", "Content Too Large")  # as Python 3.13 has it
    client = await connect(web.HTTPRequestEntityTooLarge(1, 2))
    assert (await (await client.get("/documents/notes")).json())["code"] == "request-entity-too-large"


async def test_a_status_without_a_code_of_its_own_is_named_by_its_number(connect: Connect) -> None:
    client = await connect(web.HTTPGone())
    assert (await (await client.get("/documents/notes")).json())["code"] == "http-410"


async def test_a_refusal_is_counted_and_logged_without_its_address(
    connect: Connect, counters: Counters, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "server.web.problem")
    client = await connect(Forbidden("pages of this origin may not connect"))
    await client.get("/documents/notes?token=hidden")
    await client.get("/nowhere?token=hidden")
    assert counters.requests_refused == {"forbidden": 1, "not-found": 1}
    logged = [vars(each) for each in caplog.records if each.name == "server.web.problem"]
    assert [(each["levelname"], each["code"], each["reason"], each["method"], each["resource"]) for each in logged] == [
        ("INFO", "forbidden", "pages of this origin may not connect", "GET", "/documents/{document}"),
        ("INFO", "not-found", "Not Found", "GET", ""),
    ]
    assert "hidden" not in str(logged)


async def test_what_all_clients_meet_at_once_is_counted_and_no_line_of_the_usual_log(
    connect: Connect, counters: Counters, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "server.web.problem")
    await (await connect(StoreUnavailable("locked"))).get("/documents/notes")
    assert counters.requests_refused == {"store-unavailable": 1}
    assert [each for each in caplog.records if each.name == "server.web.problem"] == []


async def test_a_redirect_passes(connect: Connect) -> None:
    client = await connect(web.HTTPFound("/elsewhere"))
    assert (await client.get("/documents/notes", allow_redirects=False)).status == 302


async def test_an_answer_under_way_is_cut_and_not_continued(connect: Connect) -> None:
    client = await connect(ValueError("late"))
    response = await client.get("/documents/notes?begun=1")
    assert response.status == 200
    with pytest.raises(ClientPayloadError):
        await response.read()
