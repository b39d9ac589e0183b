"""A node that dials itself, since it is among those that it was told of, takes itself for nobody else, at no moment."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from strogoff.cluster.discovery.asking import Asking
from strogoff.cluster.discovery.places import Place

OWN, ADDRESS = "a@127.0.0.1", "127.0.0.1:44053"
ITSELF = f"the address of b@127.0.0.1 leads back to the node itself, {OWN}"
DOUBLE = f"{OWN} answers, and b@127.0.0.1 was looked for: correct the address"


class Links:
    """What the engine says of the link to the one place."""

    def __init__(self) -> None:
        self.dialled: list[str] = []
        self.error = ""
        self.answering: str | None = None

    def peers(self) -> list[Any]:
        state = {"state": "down", "since": 0.0, "refusal": None, "error": self.error, "answering": self.answering}
        return [SimpleNamespace(name=name, **state) for name in self.dialled]

    def look_for(self, peers: list[Any]) -> None:
        self.dialled = [peer.name for peer in peers]


def asking(links: Links) -> Asking:
    membership: Any = SimpleNamespace(name=OWN, look_for=links.look_for, terms=SimpleNamespace(is_tls=False))
    unused: Any = None
    engine: Any = links
    made = Asking(engine, membership, unused, places_max=10)
    made.seek([Place(OWN, ADDRESS)])
    return made


@pytest.mark.parametrize("earlier", ["", "Connection refused"])
def test_it_knows_itself_when_the_attempt_is_over(earlier: str) -> None:
    links = Links()
    this = asking(links)
    assert len(links.dialled) == 1
    links.answering, links.error = OWN, earlier
    asyncio.run(this.ask(again_after_s=1.0))
    links.error = ITSELF
    asyncio.run(this.ask(again_after_s=1.0))
    assert this.double == ""
    assert links.dialled == []


def test_another_node_of_its_name_is_noticed() -> None:
    links = Links()
    this = asking(links)
    links.answering = OWN
    asyncio.run(this.ask(again_after_s=1.0))
    assert this.double == ""
    links.error = DOUBLE
    asyncio.run(this.ask(again_after_s=1.0))
    assert this.double == ADDRESS
