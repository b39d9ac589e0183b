"""What a pod learns of its StatefulSet, from an API that is played by a server of the test."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_process import free_port
from certificates import CertificateAuthority
from kubernetes_api import SET, Api, served
from strogoff.cli.stateful_set import (
    Account,
    Pod,
    StatefulSet,
    UndecidedError,
    ask_for_set,
    members_before,
    pod_of,
    why_gone,
)

NAMES = "VerneMQ@vmq-{}.vmq-headless.iot.svc.cluster.local"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with served(tmp_path) as api:
        yield api


def test_the_api_is_asked_with_the_token_of_the_pod(api: Api) -> None:
    assert ask_for_set(api.account, "vmq") == StatefulSet(3)
    assert api.asked == [("/apis/apps/v1/namespaces/iot/statefulsets/vmq", "Bearer a token")]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"spec": {}}, StatefulSet(1)),
        ({"spec": {"replicas": 2, "ordinals": {"start": 5}}}, StatefulSet(2, 5)),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, StatefulSet(3, is_going=True)),
    ],
)
def test_what_the_api_says_is_read(api: Api, changes: dict[str, object], found: StatefulSet) -> None:
    api.body = json.dumps({**SET, **changes}).encode()
    assert ask_for_set(api.account, "vmq") == found


def test_a_set_that_is_not_there_is_going(api: Api) -> None:
    api.status = 404
    assert ask_for_set(api.account, "vmq").is_going


@pytest.mark.parametrize(
    ("status", "body", "message", "is_lasting"),
    [
        (403, b"{}", "may not read the StatefulSet vmq in iot .status 403.: let its role get statefulsets", True),
        (401, b"{}", "may not read", True),
        (503, b"", "answers with status 503", False),
        (200, b"<html>", "cannot be read", True),
        (200, b"[]", "cannot be read", True),
        (200, b'{"metadata": {}, "spec": {"replicas": "many"}}', "cannot be read", True),
    ],
)
def test_an_answer_that_decides_nothing_says_what_to_do(
    api: Api, status: int, body: bytes, message: str, is_lasting: bool
) -> None:
    api.status, api.body = status, body
    with pytest.raises(UndecidedError, match=message) as raised:
        ask_for_set(api.account, "vmq")
    assert raised.value.is_lasting is is_lasting


def test_an_api_that_is_not_there_may_be_asked_again(api: Api) -> None:
    with pytest.raises(UndecidedError, match="does not answer") as raised:
        ask_for_set(Account("127.0.0.1", free_port(), "iot", api.account.directory), "vmq")
    assert not raised.value.is_lasting


def test_an_api_with_a_certificate_of_somebody_else_is_told_nothing(api: Api, tmp_path: Path) -> None:
    CertificateAuthority().write(tmp_path, "other").rename(tmp_path / "ca.crt")
    with pytest.raises(UndecidedError, match="certificate"):
        ask_for_set(api.account, "vmq")
    assert api.asked == []


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
def test_a_pod_without_a_service_account_does_not_ask(api: Api, tmp_path: Path, missing: str) -> None:
    (tmp_path / missing).unlink()
    with pytest.raises(UndecidedError):
        ask_for_set(api.account, "vmq")
    assert api.asked == []


def test_the_account_is_what_kubernetes_has_put_into_the_pod(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("iot\n")
    variables = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    assert Account.of_pod(variables, tmp_path) == Account("fd00::1", 6443, "iot", tmp_path)
    assert Account.of_pod({**variables, "MY_POD_NAMESPACE": "other"}, tmp_path).namespace == "other"
    with pytest.raises(UndecidedError, match="no pod of Kubernetes"):
        Account.of_pod({}, tmp_path)
    with pytest.raises(UndecidedError, match="namespace cannot be read"):
        Account.of_pod(variables, tmp_path / "none")


@pytest.mark.parametrize(
    ("variables", "pod"),
    [
        ({"MY_POD_NAME": "my-vmq-12", "HOSTNAME": "x-1"}, Pod("my-vmq", 12)),
        ({"POD_NAME": "vmq-0"}, Pod("vmq", 0)),
        ({"HOSTNAME": "vmq-3"}, Pod("vmq", 3)),
    ],
)
def test_a_pod_knows_its_number(variables: dict[str, str], pod: Pod) -> None:
    assert pod_of(variables) == pod


@pytest.mark.parametrize("name", ["", "vmq", "vmq-", "vmq-5d8f-x2x", "Vmq-1", "-1"])
def test_other_pods_have_no_number(name: str) -> None:
    with pytest.raises(UndecidedError, match="no name of a pod of a StatefulSet"):
        pod_of({"MY_POD_NAME": name})


@pytest.mark.parametrize(
    ("ordinal", "wanted", "is_gone"),
    [
        (0, StatefulSet(3), False),
        (2, StatefulSet(3), False),
        (3, StatefulSet(3), True),
        (1, StatefulSet(1), True),
        (0, StatefulSet(0), False),
        (4, StatefulSet(3, is_going=True), False),
        (4, StatefulSet(2, 3), False),
        (5, StatefulSet(2, 3), True),
        (2, StatefulSet(2, 3), True),
    ],
)
def test_a_pod_goes_for_good_when_its_number_is_not_wanted_any_more(
    ordinal: int, wanted: StatefulSet, is_gone: bool
) -> None:
    assert (why_gone(Pod("vmq", ordinal), wanted) is not None) is is_gone


def test_of_several_pods_that_go_those_with_higher_numbers_leave_first() -> None:
    members = [NAMES.format(number) for number in (0, 1, 10, 3)]
    strangers = ["VerneMQ@other-9.x", "VerneMQ@10.0.0.1", "a@vmq-4x", "nonsense", ""]
    wanted = StatefulSet(1)
    assert members_before(Pod("vmq", 2), wanted, members + strangers) == [NAMES.format(3), NAMES.format(10)]
    assert members_before(Pod("vmq", 10), wanted, members) == []
    # Pods in front of the first number go too, and those behind it stay.
    assert members_before(Pod("vmq", 0), StatefulSet(9, 2), members) == [NAMES.format(1)]
