"""Who gets what of the API."""

from pathlib import Path
from typing import Any

import pytest

from e2e.kubelet.api import Api
from e2e.kubelet.rights import Request, Rights

SETS = "/apis/apps/v1/namespaces/test/statefulsets"
PODS = "/api/v1/namespaces/test/pods"


def role(name: str, *rules: dict[str, Any]) -> list[dict[str, Any]]:
    metadata = {"metadata": {"name": name}}
    binding = {"roleRef": {"name": name}, "subjects": [{"kind": "ServiceAccount", "name": "me"}]}
    return [{"kind": "Role", **metadata, "rules": rules}, {"kind": "RoleBinding", **metadata, **binding}]


ONE_SET = {"apiGroups": ["apps"], "resources": ["statefulsets"], "resourceNames": ["a"], "verbs": ["get"]}
ALL_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}


def test_an_account_may_what_one_of_its_roles_allows() -> None:
    rights = Rights()
    for manifest in (*role("sets", ONE_SET), *role("pods", ALL_PODS)):
        rights.read(manifest)
    assert rights.may("me", Request("get", "apps", "statefulsets", "a"))
    assert rights.may("me", Request("list", "", "pods"))
    assert not rights.may("me", Request("get", "apps", "statefulsets", "b"))
    assert not rights.may("me", Request("list", "apps", "statefulsets"))
    assert not rights.may("me", Request("watch", "", "pods"))
    assert not rights.may("another", Request("list", "", "pods"))


@pytest.fixture
def api(tmp_path: Path) -> Api:
    objects: dict[str, list[dict[str, Any]]] = {
        "statefulsets": [{"metadata": {"name": "a"}, "spec": {"replicas": 3}}],
        "pods": [{"metadata": {"name": name, "labels": {"app": name[0]}}} for name in ("a-0", "b-0")],
    }
    api = Api(tmp_path / "api", lambda kind, _: objects[kind])
    for manifest in (*role("sets", ONE_SET), *role("pods", ALL_PODS)):
        api.rights.read(manifest)
    return api


def test_an_object_is_given_to_who_may_have_it(api: Api) -> None:
    token = api.account_files("me", "test", "1")["token"].decode()
    assert api.answer(f"{SETS}/a", f"Bearer {token}")[1]["spec"] == {"replicas": 3}
    assert api.answer(SETS, f"Bearer {token}")[0] == 403
    assert api.answer(f"{PODS}/none", f"Bearer {token}")[0] == 404
    assert api.answer("/version", f"Bearer {token}")[0] == 404
    assert api.answer(f"{SETS}/a", "Bearer wrong")[0] == 401
    assert api.account_files("other", "test", "2")["namespace"] == b"test"
    assert api.answer(PODS, "Bearer token-of-other-2")[0] == 403


@pytest.mark.parametrize(
    ("query", "names"), [("", ["a-0", "b-0"]), ("?labelSelector=app%3Da", ["a-0"]), ("?labelSelector=app%3Dx", [])]
)
def test_a_list_has_what_its_selector_selects(api: Api, query: str, names: list[str]) -> None:
    token = api.account_files("me", "test", "1")["token"].decode()
    code, answer = api.answer(PODS + query, f"Bearer {token}")
    assert (code, [each["metadata"]["name"] for each in answer["items"]]) == (200, names)


def test_an_api_that_fails_says_so_to_everybody(api: Api) -> None:
    api.is_failing = True
    assert api.answer(PODS, "")[0] == 503
