"""A record never fails its neighbours, and too many refused records fail the input."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import ConfigurationError, InputError, PromptTooLongError, TransientError
from jobs.rejection import (
    Dropped,
    DroppedTally,
    InputDroppedError,
    Refusal,
    Rejected,
    apart,
    attempt,
    check_dropped,
    parse_share,
    refusal_of,
)

pytestmark = pytest.mark.attack("poisonous document among good ones")


class PanicException(BaseException):
    """As a library in Rust raises it."""


def error_of(kind: type[BaseException]) -> BaseException:
    try:
        if kind is RecursionError:
            raise RecursionError
        return kind("bad") if kind is not UnicodeError else UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")
    except RecursionError as error:
        return error


OF_DATA = (
    *(ValueError, UnicodeError, TypeError, OverflowError, ZeroDivisionError, KeyError, IndexError),
    *(RecursionError, AttributeError, AssertionError, PanicException, InputError),
)
OF_THE_MACHINE = (OSError, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit)


@pytest.mark.parametrize("kind", OF_DATA)
def test_error_of_what_a_row_holds_is_its_refusal(kind: type[BaseException]) -> None:
    refusal = refusal_of(error_of(kind))
    assert refusal is not None
    assert refusal.code
    assert refusal.reason


@pytest.mark.parametrize("kind", [*OF_THE_MACHINE, TransientError, ConfigurationError])
def test_error_of_the_machine_or_of_a_service_is_no_refusal(kind: type[BaseException]) -> None:
    def fail(_: object) -> None:
        raise kind("down")

    assert refusal_of(kind("down")) is None
    with pytest.raises(kind):
        attempt(fail, None)
    with pytest.raises(kind):
        apart([1, 2, 3], lambda rows: [attempt(fail, row) for row in rows])


def test_refusal_keeps_a_code_and_shows_no_secret_and_no_control_character() -> None:
    refusal = refusal_of(PromptTooLongError(9, 1, 5))
    assert refusal is not None
    assert refusal.code == "prompt_too_long"
    for text in ("AKIAABCDEFGHIJKLMNOP", "\x1b[31m" + "x" * 10_000):
        shown = refusal_of(ValueError(text))
        assert shown is not None
        assert "AKIA" not in shown.reason
        assert shown.reason.isprintable()
        assert len(shown.reason) < 200


def int_all(rows: Sequence[str]) -> list[int]:
    return [int(row) for row in rows]


@given(st.lists(st.sampled_from(["1", "22", "x", "", "9" * 5000]), max_size=40))
def test_rows_that_fail_together_are_told_apart(rows: list[str]) -> None:
    made = apart(rows, int_all)
    assert len(made) == len(rows)
    for row, one in zip(rows, made, strict=True):
        assert isinstance(one, Refusal) != row.isdigit() or len(row) > 4300
        if not isinstance(one, Refusal):
            assert one == int(row)


def test_one_bad_row_of_301_costs_a_few_calls() -> None:
    calls: list[int] = []

    def make(rows: Sequence[str]) -> list[int]:
        calls.append(len(rows))
        return int_all(rows)

    made = apart(["1"] * 200 + ["&#" + "9" * 5000] + ["1"] * 100, make)
    assert [number for number, one in enumerate(made) if isinstance(one, Refusal)] == [200]
    assert len(calls) <= 2 * 9 + 1


def refusal(line: int, code: str) -> Rejected:
    return Rejected(file="a.csv", line=line, code=code, reason="is wrong", advice="correct it")


@pytest.mark.parametrize(
    ("num_dropped", "bound", "fails"),
    [(5, None, False), (6, None, True), (6, 0.06, False), (0, 0.0, False), (1, 0.0, True), (99, 1.0, False)],
)
def test_share_above_the_bound_is_a_failure_unless_allowed(
    num_dropped: int, bound: float | None, fails: bool
) -> None:
    dropped = Dropped("a.csv", 100, {"unknown_item": num_dropped})
    if not fails:
        check_dropped(dropped, bound)
        return
    with pytest.raises(
        InputDroppedError, match=f"{num_dropped} of 100 records .*unknown_item: {num_dropped}"
    ) as error:
        check_dropped(dropped, bound)
    allowed = str(error.value).rpartition("--max-dropped ")[2]
    check_dropped(dropped, float(allowed))


def test_error_tells_the_most_frequent_reason_first_and_an_example_of_it() -> None:
    heard: list[Rejected] = []
    tally = DroppedTally("a.csv", heard.append)
    for line, code in enumerate(("user_missing", "time_invalid", "time_invalid"), start=2):
        tally(refusal(line, code))
    with pytest.raises(InputDroppedError, match=r"\(time_invalid: 2, user_missing: 1\).*a.csv:3: is wrong"):
        check_dropped(tally.dropped(1), None)
    assert len(heard) == 3


@pytest.mark.parametrize("text", ["-1", "1.5", "200%", "nan", "many", ""])
def test_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - float() has its own words
        parse_share(text)
