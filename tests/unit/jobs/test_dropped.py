"""The share of an input that was dropped is judged, whatever the input is."""

import pytest

from jobs.dropped import Dropped, DroppedTally, InputDroppedError, check_dropped, parse_share
from jobs.rejection import Rejected


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
