"""After how many answers a probe decides, and how long a container waits that ends again and again."""

from e2e.kubelet.manifests import Probe, TcpSocket
from e2e.kubelet.probing import ProbeState, RestartDelay


def state(*, verdict: bool, successes: int = 1, failures: int = 3) -> ProbeState:
    probe = Probe(TcpSocket(1), success_threshold=successes, failure_threshold=failures)
    return ProbeState(probe, verdict)


def test_a_container_fails_after_so_many_failures_in_a_row() -> None:
    life = state(verdict=True)
    decided = [life.record(is_well=each) for each in (False, False, True, False, False, False)]
    assert decided == [False, False, True, False, False, True]
    assert not life.verdict


def test_a_container_is_ready_after_so_many_successes_in_a_row() -> None:
    readiness = state(verdict=False, successes=2, failures=1)
    assert [readiness.record(is_well=each) for each in (True, False, True, True)] == [False, True, False, True]
    assert readiness.verdict


def test_the_first_restart_is_at_once_and_each_further_one_takes_twice_as_long() -> None:
    delay = RestartDelay()
    assert [delay.after_run(1) for _ in range(8)] == [0, 10, 20, 40, 80, 160, 300, 300]


def test_a_long_run_makes_up_for_short_ones() -> None:
    delay = RestartDelay()
    assert [delay.after_run(seconds) for seconds in (1, 1, 700, 1)] == [0, 10, 0, 10]
