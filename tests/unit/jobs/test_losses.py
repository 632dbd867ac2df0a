"""What follows from the evidence of lost attempts: two crashes alone convict, nothing else ever does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.losses import Cause, Evidence, Verdict, judge

CONVICTING = (Cause.EXIT_CODE, Cause.FAULT_SIGNAL, Cause.MEMORY, Cause.HEARTBEAT_LOST)
UNEXPLAINED = (Cause.KILLED, Cause.NO_WORD, Cause.LEASE_LOST)


def verdict(*losses: Evidence) -> Verdict:
    return judge(losses, max_crashes=2, max_losses=10)


@pytest.mark.parametrize("second", CONVICTING)
@pytest.mark.parametrize("first", CONVICTING)
def test_two_crashes_alone_fail_the_job_whatever_the_crash(first: Cause, second: Cause) -> None:
    crashes = [Evidence(cause=cause, alone=True) for cause in (first, second)]
    assert verdict(crashes[0]) is Verdict.SUSPECT
    assert verdict(*crashes) is Verdict.FAIL


@pytest.mark.parametrize("cause", CONVICTING)
def test_crashes_beside_others_never_fail_a_job(cause: Cause) -> None:
    assert verdict(*[Evidence(cause=cause, num_in_flight=2)] * 50) is Verdict.SUSPECT


def test_suspicion_outlives_a_loss_that_nobody_explains_yet() -> None:
    crash, silence = Evidence(cause=Cause.FAULT_SIGNAL), Evidence(cause=Cause.NO_WORD)
    assert verdict(crash, silence) is Verdict.SUSPECT


def test_sigkill_alone_parks_after_ten_losses_and_never_fails() -> None:
    killed = Evidence(cause=Cause.KILLED, signal="SIGKILL", alone=True)
    assert verdict(killed) is Verdict.REQUEUE  # one loss is usually a reboot
    assert {verdict(*[killed] * number) for number in range(2, 10)} == {Verdict.SUSPECT}
    assert verdict(*[killed] * 10) is Verdict.PARK
    assert verdict(*[killed] * 100) is Verdict.PARK


def test_the_neighbour_of_a_job_that_loses_every_worker_is_never_parked_with_it() -> None:
    assert verdict(*[Evidence(cause=Cause.KILLED, num_in_flight=2)] * 30) is Verdict.SUSPECT


def test_a_worker_that_was_stopped_is_held_against_nobody() -> None:
    stopped = Evidence(cause=Cause.STOPPED, signal="SIGTERM", alone=True)
    assert verdict(*[stopped] * 100) is Verdict.REQUEUE


causes = st.builds(
    Evidence, cause=st.sampled_from(Cause), alone=st.booleans(), num_in_flight=st.integers(1, 9)
)


@given(st.lists(causes, min_size=1, max_size=30))
def test_no_sequence_of_losses_fails_a_job_that_was_not_convicted_twice(losses: list[Evidence]) -> None:
    convictions = [loss for loss in losses if loss.alone and loss.cause in CONVICTING]
    unexplained = [loss for loss in losses if loss.cause in UNEXPLAINED]
    reached = verdict(*losses)
    assert (reached is Verdict.FAIL) == (len(convictions) >= 2)
    if reached is Verdict.PARK:
        assert len(unexplained) >= 10


def test_evidence_reads_as_a_person_would_say_it() -> None:
    crash = Evidence(cause=Cause.FAULT_SIGNAL, signal="SIGSEGV", alone=True)
    assert str(crash) == "signal SIGSEGV; ran alone"
    assert str(Evidence(cause=Cause.EXIT_CODE, exit_code=3, num_in_flight=7)) == "exit code 3; 7 in flight"
    assert "ended or lost its connection" in str(Evidence(cause=Cause.NO_WORD))
