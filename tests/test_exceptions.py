"""The tree of exceptions matches its docstring; errors survive pickle and copy."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest

from django_turbosmtp import exceptions
from django_turbosmtp.exceptions import RateLimited, TurboSMTPError

ALL = {
    name: cls
    for name, cls in vars(exceptions).items()
    if isinstance(cls, type) and issubclass(cls, TurboSMTPError)
}
DRAWN = re.findall(
    r"^(?P<bar>[ │├└─]*)(?P<name>\w+)(?: \((?P<also>\w+)\))?",
    str(exceptions.__doc__)
    .partition("::")[2]
    .partition("Wrong settings")[0]
    .strip("\n"),
    re.MULTILINE,
)
KWARGS: dict[str, dict[str, Any]] = {
    "RateLimited": {"retry_after": 2.5, "status_code": 429, "errors": ["a"]},
    "ServerError": {"retry_after": 1.0, "status_code": 503},
    "BadRequest": {"status_code": 400, "errors": ["x"], "code": 3, "details": "d"},
    "RecipientsRefused": {"recipients": ["a@b.org"]},
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, None])
def test_errors_survive_pickle_and_copy(name: str, again: Any) -> None:
    error = ALL[name]("what and where", **KWARGS.get(name, {}))
    other = TurboSMTPError("another")
    error.failures, error.sent_count = (("message", error), ("m", other)), 3

    clone = again(error) if again else pickle.loads(pickle.dumps(error))

    assert type(clone) is ALL[name]
    assert str(clone) == "what and where"
    assert clone.sent_count == 3
    assert clone.retryable == error.retryable
    own = {"failures"}
    assert {k: v for k, v in vars(clone).items() if k not in own} == {
        k: v for k, v in vars(error).items() if k not in own
    }
    assert [str(failure) for _, failure in clone.failures] == [
        "what and where",
        "another",
    ]


def test_messages_are_not_pickled() -> None:
    error = RateLimited("x")
    error.failures = ((lambda: None, error),)
    clone = pickle.loads(pickle.dumps(error))
    assert clone.failures == ((None, clone),)


def test_tree_is_as_drawn() -> None:
    parents: list[type] = []
    for bar, name, also in DRAWN:
        cls = ALL[name]
        depth = (len(bar) - 4) // 4
        del parents[max(depth, 0) :]
        if parents:
            assert cls.__bases__[0] is parents[-1], name
        assert not also or any(base.__name__ == also for base in cls.__bases__)
        parents.append(cls)
    assert {name for _, name, _ in DRAWN} == set(ALL)


def test_retryable() -> None:
    retryable = {name for name, cls in ALL.items() if cls("x").retryable}
    assert retryable == {"RateLimited", "ConnectionFailed"}
    assert exceptions.ServerError("x", retry_after=0.0).retryable


@pytest.mark.parametrize("name", ALL)
def test_an_error_is_an_oserror_only_if_trying_again_is_safe(name: str) -> None:
    error = ALL[name]("text", **KWARGS.get(name, {}))
    assert isinstance(error, OSError) == error.retryable
