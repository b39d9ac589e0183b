"""What HTTP listeners serve, by the names of VerneMQ's modules."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from strogoff import health
from strogoff.http.prometheus import CONTENT_TYPE, exposition
from strogoff.http.status import StatusPage
from strogoff.phases import NodeHealth

if TYPE_CHECKING:
    from strogoff.broker import Broker

__all__ = ["MODULES", "routes"]

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

WITHOUT_BODY: Final = ("OPTIONS",)


def routes(broker: "Broker", page: StatusPage, modules: Iterable[str]) -> list[Route]:
    """The routes of the modules that there are; see `MODULES`. `page`: the node's, whichever listener asks."""
    return [route for module in modules if module in MODULES for route in MODULES[module](broker, page)]


def _metrics(broker: "Broker", _page: StatusPage) -> list[Route]:
    async def metrics(request: Request) -> Response:
        if request.method in WITHOUT_BODY:
            return Response(status_code=200, headers={"allow": "GET, HEAD, OPTIONS"})
        if not _accepts_text(request.headers.get("accept", "")):
            return Response(status_code=406)
        namespace = broker.configuration.get("prometheus_namespace").strip("\"'")
        text = exposition(broker.metrics.snapshot(), node=broker.node_name, namespace=namespace)
        return PlainTextResponse(text, headers={"content-type": CONTENT_TYPE})

    return [Route("/metrics", metrics, methods=["GET", "HEAD", "OPTIONS"])]


def _accepts_text(accept: str) -> bool:
    """Whether an Accept header takes plain text, or the format that Prometheus asks for by another name."""
    kinds = [part.split(";")[0].strip() for part in accept.split(",") if part.strip()]
    taken = {"*/*", "text/*", "text/plain", "application/openmetrics-text"}
    return not kinds or any(kind in taken for kind in kinds)


_HEALTH_PATHS: Final[Mapping[str, Callable[[NodeHealth], health.Health]]] = MappingProxyType(
    {
        "/health": health.node,
        "/health/ping": health.ping,
        "/health/live": health.live,
        "/health/started": health.started,
        "/health/ready": health.ready,
        "/health/listeners": health.listeners,
        "/health/listeners_full_cluster": health.cluster,
    }
)
_ONE_REASON: Final = frozenset({"/health/listeners"})
"""Where VerneMQ gives `reason`, a text, and not `reasons`, a list."""
_PROBES: Final = frozenset({"/health/live", "/health/started", "/health/ready"})
"""Which say how far the node is besides: VerneMQ does not have them, so nobody relies on the rest of their answer."""


def _health(broker: "Broker", _page: StatusPage) -> list[Route]:
    def endpoint(path: str, judge: Callable[[NodeHealth], health.Health]) -> Endpoint:
        async def answer(_request: Request) -> Response:
            state = broker.health()
            verdict = judge(state)
            progress = {"phase": state.phase.value, "waits_for": list(state.waits_for)} if path in _PROBES else {}
            if verdict.is_well:
                return JSONResponse({"status": "OK", **progress})
            why = {"reason": "; ".join(verdict.reasons)} if path in _ONE_REASON else {"reasons": list(verdict.reasons)}
            return JSONResponse({"status": "DOWN", **why, **progress}, status_code=503)

        return answer

    methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]
    return [Route(path, endpoint(path, judge), methods=methods) for path, judge in _HEALTH_PATHS.items()]


def _status(_broker: "Broker", page: StatusPage) -> list[Route]:
    async def answer(_request: Request) -> Response:
        return JSONResponse([await page.of_all_nodes()])

    return [Route("/status.json", answer, methods=["GET"])]


MODULES: Final[Mapping[str, Callable[["Broker", StatusPage], list[Route]]]] = MappingProxyType(
    {"vmq_metrics_http": _metrics, "vmq_health_http": _health, "vmq_status_http": _status}
)
"""The modules that this version has."""
