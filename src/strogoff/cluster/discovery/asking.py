"""Who is at a place: nodes that are no members of this one's cluster are dialled, and asked who they are.

This node comes as one of no cluster, so the others let it in as a guest, which has the control lane. Where the source
knows nothing but an address, the node is dialled under a name that nobody has; whoever answers says its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from strogoff import _engine
from strogoff._engine import PeerConfig, PeerInfo
from strogoff.cluster.discovery.places import Place
from strogoff.cluster.discovery.rule import Found, Said, Standing
from strogoff.cluster.joining import obstacle
from strogoff.cluster.membership import Membership
from strogoff.cluster.requests import NoAnswerError, RemoteError

__all__ = ["STRANGER", "Asking"]

REQUEST: Final = "who"
ANSWER_TIMEOUT_S: Final = 2.0
STRANGER: Final = "?"
"""With this begin the names under which nodes are dialled whose names are not known. No node may be called so: `?` in
front of a number is what a node would have to be named in its configuration.
"""
STATE_MAX: Final = 200
OTHER_CERTIFICATE: Final = "certificate is neither for"
"""In what the engine says of a link whose certificate is for another host."""
ANY_LABEL: Final = "node"
"""Stands for the name of a host that is not known, in front of a domain: certificates are for `*.DOMAIN` as well."""
TURN_S: Final = 1.0
SAME_S: Final = 0.02
"""Times of a link that differ by no more are one: the engine reckons them anew each time that it is asked."""
NAME_MAX: Final = 255


class Asking:
    """Dials places and asks. `own`: what this node says of itself. `places_max`: how many are looked at."""

    def __init__(
        self, engine: _engine.Engine, membership: Membership, own: Callable[[], Awaitable[Said]], *, places_max: int
    ) -> None:
        self._engine = engine
        self._membership = membership
        self._own = own
        self._places_max = places_max
        self._places: Sequence[Place] = ()
        self._learnt: dict[str, str] = {}
        self._slots: dict[str, int] = {}
        self._said: dict[str, Said] = {}
        self._faults: dict[str, str] = {}
        self._asked_at: dict[str, float] = {}
        self._guests: dict[str, float] = {}
        self._below: set[str] = set()
        self._turned_at: dict[str, float] = {}
        self._own_places: set[str] = set()
        self.double = ""
        """Where another node has the name of this one, HOST:PORT; empty if there is none."""

    def serve(self) -> None:
        """Tell others who this node is."""
        self._membership.requests.serve(REQUEST, self._asked)

    def seek(self, places: Sequence[Place]) -> None:
        """Dial these and nobody else, until `stop`. This node is of no cluster meanwhile."""
        # Whether this node is where its own name should be is found out by its address.
        own = self._membership.name
        self._own_places = {place.address for place in places if place.name == own}
        self._places = [
            Place("", place.address) if place.name == own else place for place in places[: self._places_max]
        ]
        addresses = {place.address for place in self._places}
        self.double = self.double if self.double in addresses else ""
        self._learnt = {address: name for address, name in self._learnt.items() if address in addresses}
        self._slots = {address: slot for address, slot in self._slots.items() if address in addresses}
        self._below &= addresses
        self._turned_at = {address: at for address, at in self._turned_at.items() if address in addresses}
        self._dial()

    def stop(self) -> None:
        """Dial nobody any more, and be of the own cluster again. Where nodes were found is still known."""
        self._membership.stop_looking()
        self._guests = {}
        self._forget(set())

    def address_of(self, name: str) -> str | None:
        """Where a node was found, HOST:PORT."""
        return next((place.address for place in self._places if self._name_of(place) == name), None)

    async def ask(self, *, again_after_s: float) -> None:
        """Learn who is where, and ask those that can be asked, once, and again after a time."""
        self._learn()
        now = asyncio.get_running_loop().time()
        names = {name for place in self._places if (name := self._name_of(place))}
        # The engine knows it now. What it has told may be of a link that was replaced meanwhile.
        links = {info.name: info for info in self._engine.peers() if info.name in names}
        guests = {name: info.since for name, info in links.items() if info.state == "guest"}
        for name in self._guests.keys() - guests.keys():
            # It has changed its cluster, or was stopped. Whichever it is, the next connection tells, and soon.
            self._dial(without=name)
            self._dial()
        self._forget(set(guests))
        asked_before = now - again_after_s
        # A connection that was made anew is news, too: something has changed there.
        due = [
            name
            for name, since in guests.items()
            if since > self._guests.get(name, 0.0) + SAME_S or self._asked_at.get(name, asked_before) <= asked_before
        ]
        # The first time stays: each is told a little differently.
        self._guests = {name: since if name in due else self._guests[name] for name, since in guests.items()}
        if due:
            async with asyncio.TaskGroup() as tasks:
                for name in due:
                    self._asked_at[name] = now
                    tasks.create_task(self._ask(name), name=f"who is {name}")

    def found(self) -> list[Found]:
        """What is known of each place, but for those where this node is itself."""
        infos = {info.name: info for info in self._engine.peers()}
        found: dict[str, Found] = {}
        for place in self._places:
            name = self._name_of(place)
            if name == self._membership.name or (not name and place.address in self._own_places):
                continue
            key = name or place.address
            if key in found:
                continue
            said = self._said.get(name) if name else None
            error = (
                "" if said is not None else self._faults.get(name) or obstacle(infos.get(name or self._stranger(place)))
            )
            found[key] = Found(place.address, name, said, error)
        return list(found.values())

    def has_guests(self) -> bool:
        """Whether somebody is in touch with this node who is no member."""
        return any(info.state == "guest" for info in self._engine.peers())

    # -- dialling --------------------------------------------------------------------------------------------

    def _name_of(self, place: Place) -> str:
        return place.name or self._learnt.get(place.address, "")

    def _stranger(self, place: Place) -> str:
        """A name for an address. There are few of them, since an engine counts all that it ever had."""
        slot = self._slots.get(place.address)
        if slot is None:
            slot = next(number for number in range(self._places_max) if number not in self._slots.values())
            self._slots[place.address] = slot
        # The host is one that a certificate may be for.
        host = place.host or place.address.rpartition(":")[0].strip("[]")
        host = f"{ANY_LABEL}.{host}" if place.address in self._below else host
        return f"{STRANGER}{slot}@{host}"[:NAME_MAX]

    def _dial(self, *, without: str = "") -> None:
        addresses: dict[str, list[str]] = {}
        for place in self._places:
            name = self._name_of(place)
            # Members would take another node of their name for the one that they know: nobody else is dialled then.
            if name != self._membership.name and self.double in ("", place.address):
                addresses.setdefault(name or self._stranger(place), []).append(place.address)
        is_tls = self._membership.terms.is_tls
        peers = [PeerConfig(name, list(where), tls=is_tls) for name, where in addresses.items() if name != without]
        self._membership.look_for(peers)

    def _learn(self) -> None:
        """Take up names of those that have answered."""
        infos = {info.name: info for info in self._engine.peers()}
        before = dict(self._learnt), self.double, set(self._below)
        for place in self._places:
            if place.name:
                continue
            info = infos.get(self._name_of(place) or self._stranger(place))
            if info is not None and place.host and OTHER_CERTIFICATE in (info.error or ""):
                self._look_below(place.address)
            if info is None or info.answering is None:
                continue
            if info.answering == self._membership.name and not info.error:
                # Whether that is this node itself is told with the end of the attempt.
                continue
            if self._is_double(info):
                self.double = place.address
            else:
                if self.double == place.address:
                    # What was told before was of an earlier attempt.
                    self.double = ""
                # Somebody else, later, if another node has come to the address.
                self._learnt[place.address] = info.answering
                self._slots.pop(place.address, None)
        if (self._learnt, self.double, self._below) != before:
            self._dial()

    def _look_below(self, address: str) -> None:
        """Dial an address as a host of its domain, and as the domain itself, in turn."""
        now = asyncio.get_running_loop().time()
        if now >= self._turned_at.get(address, now):
            self._turned_at[address] = now + TURN_S
            self._below ^= {address}

    def _is_double(self, info: PeerInfo) -> bool:
        """Whether another node has the name of this one. It stays a stranger, with the reason."""
        return info.answering == self._membership.name and "leads back to the node itself" not in (info.error or "")

    # -- asking ----------------------------------------------------------------------------------------------

    def _forget(self, staying: set[str]) -> None:
        self._said = {name: said for name, said in self._said.items() if name in staying}
        self._faults = {name: fault for name, fault in self._faults.items() if name in staying}
        self._asked_at = {name: at for name, at in self._asked_at.items() if name in staying}

    async def _ask(self, name: str) -> None:
        try:
            answer = await self._membership.requests.ask(name, REQUEST, {}, timeout_s=ANSWER_TIMEOUT_S)
            said = _decoded(answer)
            if said.name != name:
                raise ValueError(f"it calls itself {said.name}")
        except (NoAnswerError, RemoteError) as error:
            self._said.pop(name, None)
            self._faults[name] = str(error)
        except (KeyError, TypeError, ValueError) as error:
            self._said.pop(name, None)
            self._faults[name] = f"it gave an answer that cannot be read ({error!r})"
        else:
            self._said[name] = said
            self._faults.pop(name, None)

    async def _asked(self, _: str, __: dict[str, Any]) -> dict[str, Any]:
        return _encoded(await self._own())


def _encoded(said: Said) -> dict[str, Any]:
    return {
        "name": said.name,
        "standing": said.standing.value,
        "cluster": f"{said.cluster:032x}",
        "members": said.members,
        "settled": said.is_settled,
        "looks": said.looks,
        "state": said.state[:STATE_MAX],
    }


def _decoded(answer: dict[str, Any]) -> Said:
    return Said(
        name=str(answer["name"]),
        standing=Standing(answer["standing"]),
        cluster=int(answer["cluster"], 16),
        members=int(answer["members"]),
        is_settled=bool(answer["settled"]),
        looks=bool(answer["looks"]),
        state=str(answer["state"]),
    )
