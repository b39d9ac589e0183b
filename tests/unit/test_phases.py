"""The table of phases, and that nothing leaves it."""

from itertools import count, pairwise

import pytest

from strogoff.phases import PHASES, IllegalPhaseChangeError, Phase, PhaseHistory

WAY = [
    Phase.START,
    Phase.BOOTING,
    Phase.DISCOVERING,
    Phase.JOINING,
    Phase.SYNCING,
    Phase.READY,
    Phase.DRAINING,
    Phase.STOPPED,
]


def _history(*phases: Phase) -> PhaseHistory:
    clock = count()
    history = PhaseHistory(lambda: float(next(clock)))
    for phase in phases:
        history.enter(phase)
    return history


def test_a_node_goes_from_start_to_stop_through_all_phases() -> None:
    history = _history(*WAY[1:])
    assert [passage.phase for passage in history.passages] == WAY
    assert [passage.entered_at for passage in history.passages] == list(range(8))


def test_every_phase_has_its_row_and_every_row_leads_to_the_end() -> None:
    assert set(PHASES) == set(Phase)
    assert all(Phase.DRAINING in PHASES[phase].next for phase in WAY[:6])
    assert PHASES[Phase.STOPPED].next == ()


def test_clients_are_served_when_ready_and_only_then() -> None:
    assert [row.phase for row in PHASES.values() if row.listeners_open] == [Phase.READY]


def test_no_phase_is_skipped_on_the_way_up() -> None:
    for before, after in pairwise(WAY):
        assert after in PHASES[before].next
    for skipped in (Phase.READY, Phase.STOPPED, Phase.START):
        with pytest.raises(IllegalPhaseChangeError, match="booting is not followed by"):
            _history(Phase.BOOTING).enter(skipped)


def test_a_node_told_to_stop_while_it_starts_drains_and_stops() -> None:
    assert _history(Phase.BOOTING, Phase.DRAINING, Phase.STOPPED).current is Phase.STOPPED
