from __future__ import annotations

import pytest

from server.access.either import EitherCarrier
from server.access.errors import RevocationNotSpread
from server.access.revocations import Kind, Revocation

ADA = Revocation(Kind.SUBJECT, "ada", 1.0)


class Carrying:
    """A carrier that fails as it is told to."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure
        self.carried: list[Revocation] = []
        self.closed = False

    @property
    def healthy(self) -> bool:
        return self.failure is None

    async def spread(self, revocation: Revocation) -> None:
        self.carried.append(revocation)
        if self.failure is not None:
            raise self.failure

    async def close(self) -> None:
        self.closed = True


AWAY = RevocationNotSpread("it is away")


@pytest.mark.parametrize("failures", [(None, None), (AWAY, None), (None, AWAY)])
async def test_one_is_enough_and_both_are_tried(failures: tuple[Exception | None, Exception | None]) -> None:
    carriers = [Carrying(failure) for failure in failures]
    either = EitherCarrier(*carriers)
    await either.spread(ADA)
    assert either.healthy
    await either.close()
    assert all(each.carried == [ADA] and each.closed for each in carriers)


async def test_none_is_not() -> None:
    either = EitherCarrier(Carrying(AWAY), Carrying(AWAY))
    with pytest.raises(RevocationNotSpread):
        await either.spread(ADA)
    assert not either.healthy


@pytest.mark.parametrize("place", [0, 1])
async def test_an_error_of_the_program_s_own_is_not_made_up_for(place: int) -> None:
    failures: list[Exception | None] = [None, None]
    failures[place] = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        await EitherCarrier(*[Carrying(failure) for failure in failures]).spread(ADA)
