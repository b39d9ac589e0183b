"""Where the API of Kubernetes says that pods are."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import CertificateAuthority
from cluster import kubernetes_api
from cluster.kubernetes_api import SELECTOR, SERVICE, serving
from strogoff.cluster.discovery.kubernetes import Api, KubernetesSource
from strogoff.cluster.discovery.places import Place, SourceError
from strogoff.cluster.discovery.settings import discovery_settings
from strogoff.cluster.terms import terms_of
from strogoff.config import load


@pytest.fixture
def api(tmp_path: Path) -> Iterator[kubernetes_api.Api]:
    with serving(kubernetes_api.Api(tmp_path / "account", ["10.0.0.2", "10.0.0.1"])) as api:
        yield api


def source(api: kubernetes_api.Api, *, service: str = SERVICE, selector: str = "", **more: object) -> KubernetesSource:
    fields = {
        "url": api.url,
        "namespace": "",
        "token_file": api.directory / "token",
        "ca_file": api.directory / "ca.crt",
        "namespace_file": api.directory / "namespace",
        **more,
    }
    return KubernetesSource(Api(**fields), service=service, selector=selector, port=44053)  # type: ignore[arg-type]


def look(source: KubernetesSource) -> list[Place]:
    return list(asyncio.run(source.look()))


@pytest.mark.parametrize("is_chunked", [False, True])
def test_nodes_are_where_a_service_has_its_pods_ready_or_not(api: kubernetes_api.Api, *, is_chunked: bool) -> None:
    api.is_chunked = is_chunked
    assert look(source(api)) == [Place("", "10.0.0.1:44053"), Place("", "10.0.0.2:44053")]


def test_nodes_are_where_pods_with_labels_are_that_have_not_ended(api: kubernetes_api.Api) -> None:
    found = look(source(api, service="", selector=SELECTOR))
    assert found == [Place("", "10.0.0.1:44053"), Place("", "10.0.0.2:44053")]


def test_the_token_is_read_each_time(api: kubernetes_api.Api) -> None:
    asked = source(api)
    assert look(asked)
    api.token = "token-2"
    with pytest.raises(
        SourceError, match=r"may not ask for the service brokers \(status 401\).*cluster\.discovery = dns"
    ):
        look(asked)
    api.write_token()
    assert look(asked)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (403, None, r"may not ask .*\(status 403\)"),
        (500, None, "answers with status 500"),
        (200, "{", "no JSON"),
        (200, "[]", "cannot be read"),
        (200, '{"items": []}', "knows no address of the service brokers in iot yet"),
    ],
)
def test_an_answer_that_does_not_help_is_told(
    api: kubernetes_api.Api, status: int, body: str | None, reason: str
) -> None:
    api.status, api.body = status, body
    with pytest.raises(SourceError, match=reason):
        look(source(api))


def test_a_server_that_is_not_trusted_is_told_unless_it_need_not_be(api: kubernetes_api.Api, tmp_path: Path) -> None:
    other = CertificateAuthority().write(tmp_path, "other")
    with pytest.raises(SourceError, match="certificate verify failed"):
        look(source(api, ca_file=other))
    with pytest.raises(SourceError, match=r"cannot be used.*ca_file"):
        look(source(api, ca_file=tmp_path / "none"))
    assert look(source(api, ca_file=tmp_path / "none", is_insecure=True))


def test_what_a_pod_lacks_is_told(api: kubernetes_api.Api, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="KUBERNETES_SERVICE_HOST is not set"):
        look(source(api, url=""))
    with pytest.raises(SourceError, match="none cannot be read: No such file"):
        look(source(api, token_file=tmp_path / "none"))
    with pytest.raises(SourceError, match=f"{api.url[:-1]}"):
        look(source(api, url=f"{api.url[:-1]}1" if api.url[-1] == "0" else f"{api.url[:-1]}0"))


def test_the_settings_lead_to_it(api: kubernetes_api.Api, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["listener.vmq.default=127.0.0.1:7", *(f"{k}={v}" for k, v in api.settings(service=SERVICE).items())]
    configuration = load(overrides=settings)
    found = discovery_settings(configuration, terms_of(configuration)).source
    assert isinstance(found, KubernetesSource)
    assert look(found) == [Place("", "10.0.0.1:7"), Place("", "10.0.0.2:7")]
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
    configuration = load(overrides=[*settings, "cluster.discovery.kubernetes.api_server=''"])
    found = discovery_settings(configuration, terms_of(configuration)).source
    assert isinstance(found, KubernetesSource)
    assert len(look(found)) == 2
