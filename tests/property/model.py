"""What sessions owe their clients, written down as simply as it can be: the model that the broker is compared with.

A *copy* is one message for one session. The model says of each copy whether it must, may or must not arrive, and in
which order. It knows nothing of packets, identifiers and windows.
"""

from dataclasses import dataclass, field


@dataclass(slots=True, frozen=True)
class Copy:
    """A message as one session gets it. `qos` is the lower one of publisher and subscription."""

    publisher: str
    topic: str
    number: int
    qos: int


@dataclass(slots=True)
class Session:
    """One client id. `owed`: what must still arrive, in order; `got`: what has arrived, repeats included."""

    persistent: bool
    online: bool = True
    subscriptions: dict[str, int] = field(default_factory=dict)
    owed: list[Copy] = field(default_factory=list)
    optional: set[Copy] = field(default_factory=set)
    got: list[Copy] = field(default_factory=list)


@dataclass(slots=True)
class Model:
    """All sessions."""

    sessions: dict[str, Session] = field(default_factory=dict)

    def connect(self, client_id: str, *, persistent: bool) -> bool:
        """The client connects, cleanly unless `persistent`. Whether the broker has a session of it."""
        old = self.sessions.get(client_id)
        if persistent and old is not None and old.persistent:
            old.online = True
            return True
        self.sessions[client_id] = Session(persistent)
        return False

    def leave(self, client_id: str) -> None:
        """The connection ends: what was sent with QoS 0 may be lost with it, and a clean session is over."""
        session = self.sessions[client_id]
        session.online = False
        session.optional |= {copy for copy in session.owed if copy.qos == 0}
        session.owed = [copy for copy in session.owed if copy.qos > 0]
        if not session.persistent:
            del self.sessions[client_id]

    def publish(self, publisher: str, topic: str, number: int, qos: int) -> None:
        """Every session with the topic among its subscriptions is owed a copy, offline ones none of QoS 0."""
        for session in self.sessions.values():
            if topic not in session.subscriptions:
                continue
            copy = Copy(publisher, topic, number, min(qos, session.subscriptions[topic]))
            if session.online or copy.qos > 0:
                session.owed.append(copy)

    def arrived(self, client_id: str, copy: Copy) -> None:
        """A client got a copy. Fails when it was not published for it, or came twice with QoS 0 or 2."""
        session = self.sessions[client_id]
        is_repeat = copy in session.got
        session.got.append(copy)
        if is_repeat:
            assert copy.qos == 1, f"{client_id} got {copy} twice"
            return
        assert copy in session.owed or copy in session.optional, f"{client_id} got {copy}, which is not for it"
        if copy in session.owed:
            session.owed.remove(copy)

    def check(self) -> None:
        """Nothing is owed any more, and what arrived of each publisher, topic and QoS is in order [MQTT-4.6.0-6]."""
        for client_id, session in self.sessions.items():
            if not session.online:
                continue
            assert session.owed == [], f"{client_id} never got {session.owed}"
            last: dict[tuple[str, str, int], int] = {}
            for copy in dict.fromkeys(session.got):
                key = (copy.publisher, copy.topic, copy.qos)
                assert last.get(key, -1) < copy.number, f"{client_id} got {copy} after number {last.get(key)}"
                last[key] = copy.number
