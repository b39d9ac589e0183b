"""The data plane as Python sees it: the manual of the boundary between the two planes.

The engine is Rust on native threads. It owns listeners, connections, sessions, queues, subscriptions and
retained messages, and it never calls Python and never waits for the GIL. The traffic between the planes:

* **Python calls the engine.** Every method of `Engine` returns quickly (microseconds; queries that walk many
  sessions release the GIL and are paged). All of them may be called from any thread.
* **The engine tells Python** by *events*. `Engine.event_fd()` is a file descriptor that becomes readable when
  events wait; the asyncio loop then takes a batch with `Engine.drain()`. The queue is bounded
  (`event_queue_limit`, `event_queue_bytes`; half of it for what nobody acts upon): when it is full notifications are
  dropped and counted (`events_dropped`), and a
  question to Python is answered at once as if Python had refused.
* **Where Python must decide**, the event is a *request* with a `ticket`. That one session pauses, all others go
  on, until `Engine.resolve(ticket, verdict)`. No answer within `plugins.hook_timeout` is a refusal.

A typical driver::

    engine = Engine({"allow_anonymous": True})
    engine.open_store("data/store")
    engine.start()
    info = engine.open_listener("default", "tcp", "127.0.0.1", 0)
    loop.add_reader(engine.event_fd(), lambda: handle(engine.drain()))
    ...
    engine.stop(5_000)

Units: times are milliseconds where the name ends in `_ms`, else seconds; sizes are bytes; wall clock times are seconds since
the Unix epoch as `float`. Topics, client ids and user names are `str`; payloads and binary properties are `bytes`.
Properties of a message (`Properties`) are a list of `(name, value)` in wire order, with the specification's names in
snake case: `("content_type", "text/plain")`, `("user_property", ("key", "value"))`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypedDict, Unpack, final

__all__ = [
    "HOOKS",
    "AccessList",
    "AuthRequest",
    "Bench",
    "Bridge",
    "BridgeEvent",
    "BridgeStatus",
    "BridgeTls",
    "ClaimRequest",
    "ClusterListenerInfo",
    "DeliverMessage",
    "DeliverRequest",
    "Engine",
    "LinkTls",
    "ListenerInfo",
    "LogEvent",
    "Message",
    "MessageEvent",
    "Metric",
    "PasswordTable",
    "PeerConfig",
    "PeerInfo",
    "PeerLane",
    "PeerMessage",
    "PeerRefused",
    "PeerState",
    "PublishRequest",
    "RegisterRequest",
    "RetainedChanged",
    "RetainedMessage",
    "RoutesChanged",
    "SessionEvent",
    "SessionInfo",
    "SessionsChanged",
    "StoreDamage",
    "StoreError",
    "StoreReport",
    "StoreSummary",
    "SubscribeRequest",
    "SubscriptionEvent",
    "SubscriptionInfo",
    "TlsConfig",
    "UnsubscribeRequest",
    "Verdict",
    "bridge_forwards",
    "check_store",
    "compact_store",
    "hash_password",
]

PropertyValue: TypeAlias = int | str | bytes | tuple[str, str]
Properties: TypeAlias = list[tuple[str, PropertyValue]]
Setting: TypeAlias = bool | int | str | None
Decider: TypeAlias = str
"""Who decides about clients: "inherit", "open", "hook", "policy" or "closed" (`Engine.set_access`)."""
Event: TypeAlias = (
    RegisterRequest
    | PublishRequest
    | SubscribeRequest
    | UnsubscribeRequest
    | AuthRequest
    | DeliverRequest
    | ClaimRequest
    | SessionEvent
    | SubscriptionEvent
    | MessageEvent
    | LogEvent
    | BridgeEvent
)

PeerEvent: TypeAlias = PeerMessage | PeerState | PeerRefused | RetainedChanged | RoutesChanged | SessionsChanged

HOOKS: Final[tuple[str, ...]]
"""The names that `Engine.set_hooks` accepts, which are VerneMQ's hook names."""

@final
class Engine:
    """One broker's data plane. Several may live in one process; they share nothing."""

    def __init__(self, settings: Mapping[str, Setting] | None = None) -> None:
        """Create an engine that is not started. `settings`: see `configure`.

        `workers` (number of threads, 0 = one a core) can be given here only.
        Raises `ValueError` that names the setting for an unknown name or a value out of range.
        """

    def start(self) -> None:
        """Start the worker threads. Raises `RuntimeError` when started before, `OSError` when the system refuses."""

    def stop(self, timeout_ms: int = 5_000) -> None:
        """Close listeners, send DISCONNECT 0x8B to MQTT 5 clients, flush, close all connections, end the threads.

        Waits at most `timeout_ms` (without the GIL). Wills are handled as for a connection that the server closes.
        Idempotent.
        """

    def configure(self, settings: Mapping[str, Setting]) -> None:
        """Change settings by the names of the configuration file; unnamed ones stay as they are. All or nothing.

        New values hold for what happens next; limits of a live session that were agreed in its CONNACK stay.
        Integers unless said otherwise: `allow_anonymous` (bool), `allow_..._during_netsplit` (bool, see `set_netsplit`),
        `max_client_id_size`, `max_inflight_messages`,
        `max_online_messages`, `max_offline_messages` (-1: no limit), `override_max_online_messages` (bool),
        `queue_type` ("fifo" | "lifo"), `queue_deliver_mode` ("fanout" | "balance"), `allow_multiple_sessions` (bool),
        `max_message_size`, `max_message_rate`, `max_queued_bytes`, `max_subscriptions_per_client` (0: no limit),
        `persistent_client_expiration` (seconds, None: never), `max_last_will_delay` (seconds, None: as the client asks),
        `upgrade_outgoing_qos` (bool), `suppress_lwt_on_session_takeover` (bool), `shared_subscription_policy` (str),
        `topic_max_depth`, `max_topic_length`, `topic_alias_max_client`, `topic_alias_max_broker`, `receive_max_client`,
        `receive_max_broker`, `max_keep_alive` (seconds, 0: as the client asks), `mqtt_connect_timeout` (ms),
        `disconnect_on_unauthorized_publish_v3` (bool), `max_retained_messages`, `expire_retain_cache` (seconds, 0: lazily),
        `max_connection_buffer` (bytes that wait for a slow reader before messages queue), `max_connect_packet_size`,
        `event_queue_limit`, `event_queue_bytes` (of messages in events), `max_pending_hooks`, `plugins.hook_timeout` (ms),
        `password_check_threads` (at the start only), `max_pending_password_checks`, `password_cache_size`,
        `store.sync` ("always" | "interval" | "never"), `store.sync_interval` (ms), `store.max_bytes` (0: no limit),
        `store.segment_bytes` (before `open_store` only), `store.cache_bytes`.
        Raises `ValueError` that names the setting.
        """

    def settings(self) -> dict[str, Setting]:
        """All settings with the values in force."""

    # -- listeners -------------------------------------------------------------------------------------------

    def open_listener(
        self,
        name: str,
        kind: Literal["tcp", "ssl", "ws", "wss"],
        address: str,
        port: int,
        **options: Unpack[ListenerOptions],
    ) -> ListenerInfo:
        """Bind and listen; port 0 takes a free port (the answer tells it).

        `address` is a literal IPv4 or IPv6 address, or the path of a Unix socket (kind tcp, port 0; begins with "/"). The file
        of a Unix socket that nobody listens to is replaced, and removed when the listener closes. At `max_connections` no
        further connection is accepted (they wait in the backlog).
        Raises `OSError` (address in use, permission ...), `ValueError` (name taken, bad address, an option that does not fit)
        and `TypeError` (no such option).
        """

    def suspend_listener(self, name: str, *, kill_sessions: bool = False) -> bool:
        """Stop listening, as `close_listener`, but keep the listener so that it can be resumed. False: no such name."""

    def resume_listener(self, name: str) -> ListenerInfo:
        """Listen again at the same address and port. Raises `OSError`, and `ValueError` for a name that there is not."""

    def close_listener(self, name: str, *, kill_sessions: bool = False) -> bool:
        """Stop listening at once; with `kill_sessions` also end the connections that came through it. False: no such name."""

    def open_bridge(
        self,
        name: str,
        *,
        mountpoint: str = "",
        lasts: bool = False,
        queue_max: int = 1_000,
        window: int = 100,
        out: Sequence[BridgeSubscription] = (),
        incoming: Sequence[BridgeSubscription] = (),
        subscribes: bool = True,
        stale: Sequence[str] = (),
        own_mark: str,
        remote_mark: str,
    ) -> Bridge:
        """Start a bridge, which has a session on this node (`$bridge/NAME`) from then on, and is not connected elsewhere.

        `lasts`: whether the session does, with what waits in it. `queue_max`: messages that wait there, -1 for no limit.
        `window`: messages of QoS 1 and 2 under way to the other broker. `out`: subscriptions on this node. `subscribes`: False
        for a bridge that only brings away what its session has. `stale`: filters to unsubscribe there. `own_mark`: of this
        broker; `remote_mark`: of the other one, unless it says another one: messages that have one of them were there.

        Raises `ValueError` for marks of the wrong size, `OSError` when there is no thread or socket for it.
        """

    def bridge_sessions(self) -> list[SessionInfo]:
        """The sessions of bridges, also of those that are not open. No other query tells of them."""

    def set_listener_tls(self, name: str, tls: TlsConfig) -> bool:
        """Use another configuration for new connections; those that are there live on. False: no such name.

        Raises `ValueError` for a listener without TLS.
        """

    def listeners(self) -> list[ListenerInfo]: ...

    # -- events and verdicts ---------------------------------------------------------------------------------

    def event_fd(self) -> int:
        """A descriptor that is readable while events wait. The engine owns it; it lives until the `Engine` is collected."""

    def drain(self, limit: int = 1_024) -> list[Event]:
        """Take at most `limit` events, oldest first. When fewer than `limit` come back the descriptor is quiet again."""

    def set_hooks(self, hooks: Collection[str]) -> None:
        """Say which hooks have a listener (names of `HOOKS`). A hook that is not named costs nothing.

        Where `set_access` says nothing: without `auth_on_register` a CONNECT is accepted where anonymous access is allowed
        and refused elsewhere; with it, it is asked unless anonymous access is allowed. Without `auth_on_publish` /
        `auth_on_subscribe` these are allowed. Without `on_auth` a CONNECT with an authentication method is refused with 0x8C.
        With `on_deliver` messages to a client wait until Python has answered about them, at most 64 at a time.
        """

    def set_access(
        self,
        *,
        register: Decider = "inherit",
        publish: Decider = "inherit",
        subscribe: Decider = "inherit",
        listener: str | None = None,
    ) -> None:
        """Say who decides about CONNECT (where anonymous access is not allowed), PUBLISH and wills, and SUBSCRIBE.

        `open`: nobody, it is allowed. `hook`: Python is asked. `policy`: what `set_policy` was given; what that does not
        allow is refused. `closed`: nobody, it is refused. `inherit`: for a listener, as for the node; for the node, as
        `set_hooks` says. Acts at once on clients that are connected. `listener` may be opened later, and keeps what was
        said about it. Raises `ValueError` for another word.
        """

    def set_policy(self, *, access_list: AccessList | None, passwords: PasswordTable | None) -> None:
        """Exchange the rules by which the engine decides by itself; the next packet is judged by the new ones.

        Passwords whose hashes are slow are checked on threads of their own (`password_check_threads`).
        """

    def resolve(self, ticket: int, verdict: Verdict) -> bool:
        """Answer a request. False when it is no longer waited for (deadline passed, connection closed, answered before)."""

    def resolve_all(self, verdicts: Sequence[tuple[int, Verdict]]) -> int:
        """Answer many requests at once, which costs less than one after the other. How many were still waited for."""

    # -- sessions --------------------------------------------------------------------------------------------

    def sessions(self, *, after: tuple[str, str] | None = None, limit: int = 1_000) -> list[SessionInfo]:
        """A page of all sessions, online and offline, in the order of `(mountpoint, client_id)` after `after`.

        Each call costs a walk over all sessions (without the GIL); ask for large pages.
        """

    def session(self, client_id: str, mountpoint: str = "") -> SessionInfo | None: ...
    def session_count(self) -> tuple[int, int]:
        """How many sessions are online and how many are offline."""

    def subscriptions(self, client_id: str, mountpoint: str = "") -> list[SubscriptionInfo]: ...
    def disconnect(
        self, client_id: str, mountpoint: str = "", *, reason_code: int = 0x98, cleanup: bool = False
    ) -> bool:
        """Close the client's connection (MQTT 5 clients are told `reason_code`). False: no such session.

        The will is published, as after any end that is not the client's DISCONNECT. With `cleanup` the session,
        its subscriptions and its queue go as well; that works on an offline session too.
        """

    def unsubscribe_client(self, client_id: str, topic_filter: str, mountpoint: str = "") -> bool:
        """Remove one subscription of a client, by the filter as it subscribed it. False: there is none."""

    # -- messages --------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Message]) -> list[int]:
        """Route messages as if clients had published them, in order; hooks are not asked. How many subscribers matched each.

        `$`-topics are allowed here. Raises `ValueError` for an invalid topic, before anything is published.
        """

    def subscribe(
        self,
        subscriber: str,
        topic_filter: str,
        qos: int = 0,
        *,
        mountpoint: str = "",
        no_local: bool = False,
        node_local: bool = False,
    ) -> None:
        """Subscribe from inside: matching messages come as `MessageEvent` with kind `"delivery"` and this `subscriber`.

        Internal subscribers are no clients, and are not part of `sessions()`. Nothing is acknowledged: an event taken by
        `drain()` is delivered. What the bound of the event queue turns away counts as `queue_message_drop`. A subscriber that is
        `node_local` gets what is published on this node, and others are not told of it; that is said with its first
        subscription, and `ValueError` raised where a later one says something else.
        """

    def unsubscribe(self, subscriber: str, topic_filter: str, *, mountpoint: str = "") -> bool: ...

    # -- retained messages -----------------------------------------------------------------------------------

    def retained(self, topic_filter: str = "#", *, mountpoint: str = "", limit: int = 1_000) -> list[RetainedMessage]:
        """Retained messages that match, at most `limit`, those under `$` only when the filter names `$...` itself."""

    def delete_retained(self, topic: str, *, mountpoint: str = "") -> bool: ...
    def delete_expired_retained(self) -> int:
        """Sweep expired retained messages of all mountpoints; how many went."""

    # -- the store -------------------------------------------------------------------------------------------
    #
    # Sessions that last, what waits for them, and retained messages survive the process from `open_store` on; without it
    # all is in memory. Python keeps keys and values of its own in the same store. `stop` writes and syncs what is left.
    # Methods that say so block without the GIL, so they belong on a thread.

    def open_store(self, directory: str) -> StoreSummary:
        """Open the store in a directory, made if need be, and take up what it holds. Once, before `start`; blocking.

        The caller sees to it that no other process has it open. Raises `StoreError`: damaged (what exactly, and how to go
        on), of a newer version, or the system refuses; nothing is changed then. Raises `RuntimeError` for a second time.
        """

    def store_get(self, key: bytes) -> bytes | None:
        """The value of a key. May read the disk. Raises `StoreError`."""

    def store_scan(self, prefix: bytes, *, after: bytes | None = None, limit: int = 1_000) -> list[tuple[bytes, bytes]]:
        """At most `limit` keys that begin with `prefix`, behind `after`, in their order, with values. Raises `StoreError`."""

    def store_write(self, changes: Sequence[tuple[bytes, bytes | None]], *, wait: bool = False) -> None:
        """Set values, or delete keys (None): all of them or, after a crash, none.

        `wait`: return when what `store.sync` promises holds for it (blocking). Raises `StoreError` when the store is full,
        over `store.max_bytes`, or cannot be written; nothing is changed then. With `wait` also when the disk has not taken it
        within 30 seconds; it may take it still.
        """

    def store_begin_backup(self) -> list[str]:
        """Paths of the files that hold all that was acknowledged until now; they stay as they are until `store_end_backup`.

        Blocking. What is written meanwhile goes elsewhere, and no space is won back. Raises `StoreError`, also for a second
        backup at a time.
        """

    def store_end_backup(self) -> None:
        """Let go of the files of `store_begin_backup`. Idempotent."""

    def store_compact(self) -> tuple[int, int]:
        """Write what is still needed anew and delete the rest; bytes of the files before and after. Blocking; after `start`.

        Raises `StoreError`: no store is open, a backup is being made, the disk is full, or the engine stops meanwhile.
        """

    # -- other nodes -----------------------------------------------------------------------------------------
    #
    # Each node dials every peer and is dialled by each; what goes to a peer goes over connections that were dialled. A link has
    # three lanes, `control`, `metadata` and `data`, each a TCP connection of its own, and a peer is *reachable* once a heartbeat has
    # come back lately on all six connections. The engine dials again without end, and lets in whom `set_peers` names. Python
    # decides who that is, and exchanges messages with the control planes of peers on the first two lanes; the third carries
    # clients' messages from engine to engine. What links have to tell comes as events of their own (`drain_peers`), so that
    # clients' events never stand in their way. All of these but the first raise `RuntimeError` before `start_cluster`, those that
    # ask excepted.

    def start_cluster(
        self,
        name: str,
        incarnation: bytes,
        *,
        cluster: bytes | None = None,
        secret: bytes = b"",
        agreed: Sequence[tuple[str, str]] = (),
        **limits: Unpack[LinkLimits],
    ) -> None:
        """Say who this node is to others; once, before or after `start`.

        `name`: NAME@HOST. `incarnation`: 16 bytes, minted with the data directory. `cluster`: 16 bytes, None for a node that has
        not joined one. `secret`: what all nodes of the cluster know (`distributed_cookie`); both ends prove to know it. `agreed`:
        (name, value) of settings that must be the same on both ends; what only one end names is not compared.
        Raises `ValueError`, and `TypeError` for a limit that there is not.
        """

    def set_cluster(self, cluster: bytes | None, agreed: Sequence[tuple[str, str]] = ()) -> None:
        """This node has joined a cluster, or left it. Connections that it has as a guest, or to guests, are made anew."""

    def set_netsplit(self, why: str | None = None) -> None:
        """Say why the cluster is not ready, for people, or that it is (None, as at the start).

        While it is not, what clients do is refused unless `allow_register_during_netsplit`, `allow_publish_during_netsplit`,
        `allow_subscribe_during_netsplit` and `allow_unsubscribe_during_netsplit` (bool, for `configure`) allow it. Wills,
        messages of other nodes, and what Python publishes and subscribes to are not concerned.
        """

    def set_link_limits(self, **limits: Unpack[LinkLimits]) -> None:
        """Change limits for what happens next; unnamed ones stay. Raises `ValueError` and `TypeError`."""

    def open_cluster_listener(
        self, name: str, address: str, port: int, *, tls: LinkTls | None = None, max_connections: int | None = None
    ) -> ClusterListenerInfo:
        """Let other nodes in at a literal IPv4 or IPv6 address; port 0 takes a free port (the answer tells it).

        With `tls` they need a certificate of its authority. At `max_connections`, of which a peer takes three, further
        ones wait until one ends. Raises `OSError`, and `ValueError` (name taken, bad address, a limit of 0).
        """

    def close_cluster_listener(self, name: str) -> bool:
        """Let nobody in there any more; links that are there stay. False: no such name."""

    def set_cluster_listener_tls(self, name: str, tls: LinkTls) -> bool:
        """Use other certificates for connections that come in from now on. False: no such name. `ValueError`: it has no TLS."""

    def cluster_listeners(self) -> list[ClusterListenerInfo]: ...
    def set_link_tls(self, tls: LinkTls | None) -> None:
        """The certificates for connections that are dialled from now on, to peers whose `PeerConfig` has `tls`."""

    def set_peers(self, peers: Sequence[PeerConfig], *, joining: bool = False) -> None:
        """Dial these nodes, let them in, and end the links to all others; those that stay are not disturbed.

        A node of the same cluster that is not among them is refused (`not_a_member`), one with another incarnation than
        expected as well (`wrong_incarnation`). With `joining`, a node that is of no cluster may come as a *guest*: it has the
        control lane alone, `peer_send` answers it over the connection that it came on, and at most 16 are there at a time.
        While this node is of no cluster itself, the nodes named here may call it back as guests.
        Raises `ValueError` for a name that is there twice, `RuntimeError` for the 1,025th name in the life of a process.
        """

    def set_removed_peers(self, removed: Sequence[tuple[str, bytes]]) -> None:
        """Tell these nodes `(name, incarnation)` that they were taken out of the cluster for good (`removed`), should they come back.
        Whoever joins again has another incarnation. Raises `ValueError` for an incarnation that is none.
        """

    def peers(self) -> list[PeerInfo]:
        """All links, those to guests among them, by name."""

    def peer_send(self, peer: str, lane: Literal["control", "metadata"], data: bytes) -> bool:
        """Send a message to the control plane of a peer or guest, in order and at most once.

        False: there is no connection, or `queued_bytes` wait already. True is no promise that it arrives: it is lost with the
        connection, so whoever needs an answer asks for one and gives up after a time.
        """

    def peer_event_fd(self) -> int:
        """A descriptor that is readable while events of links wait. It is there from the begin, and lives as long as the engine."""

    def drain_peers(self, limit: int = 1_024) -> list[PeerEvent]:
        """Take at most `limit` events of links, oldest first. When fewer come back the descriptor is quiet again.

        They are bounded by `event_queue_limit` (half of it for messages) and `event_queue_bytes`; what does not fit is dropped and
        counted (`cluster_events_dropped`).
        """

    # What clients and internal subscribers of this node subscribe to is told to the other nodes by the control plane, and what
    # these have told decides where messages go. A route is (mountpoint, filter, group, members, whether one of them is
    # connected): each filter once, whatever the number of its subscribers, with None and 1; of a shared group how many members
    # it has.

    def local_routes(
        self, *, after: tuple[str, int] | None = None, limit: int = 1_000
    ) -> tuple[list[tuple[str, str, str | None, int, bool]], tuple[str, int] | None]:
        """Routes to this node, about `limit` of them at least, and where the next page begins; None: that was the last.

        What is there during the whole walk is told once, whatever else comes and goes.
        """

    def route_changes(self, limit: int = 1_000) -> tuple[list[tuple[str, str, str | None, int, bool]], bool]:
        """Take at most `limit` routes that have changed, as they are at this moment; 0 members: it is no more.

        Changes are noted from `start_cluster` on, and `RoutesChanged` says that there are some. 100,000 are noted; when there
        were more, the second value is True, once: all routes have to be read anew.
        """

    def set_routes(
        self,
        peer: str,
        *,
        add: Sequence[tuple[str, str, str | None, int, bool]] = (),
        remove: Sequence[tuple[str, str, str | None]] = (),
        replace: bool = False,
    ) -> int | None:
        """Routes to a peer, and such that are no more. With `replace` it has no others than those that are added.

        They stay while the peer cannot be reached, and go when `set_peers` does not name it any more. Tells how many were passed
        over because they cannot be; None: there is no such peer.
        """

    # -- client ids in a cluster -----------------------------------------------------------------------------

    def ask_about_claims(self, *, asked: bool) -> None:
        """Whether each CONNECT that is authorised waits for the verdict on a `ClaimRequest`. It does not with
        `allow_multiple_sessions`. False at first.
        """

    def give_way(
        self, claims: Sequence[tuple[str, str, int, bool]], *, wins_ties: bool
    ) -> list[Literal["nothing", "kept", "newer"]]:
        """Give way to claims `(mountpoint, client_id, stamp, clean_start)` of another node: connections that claimed the same
        client ids before are ended with 0x8E, and sessions where they do not last or start clean.

        What each has found: `nothing`, no session any more; `kept`, a session without a connection; `newer`, a later claim,
        nothing has changed then. `wins_ties`: whose of two claims with one stamp is the later one. What this node claims from
        now on has a later stamp.
        """

    def claims_since(self, stamp: int) -> list[tuple[str, str, int, bool]]:
        """The connections that claimed their client ids at a stamp or later, as `give_way` takes them. Walks all sessions, without
        the GIL.
        """

    def stamp(self) -> int:
        """The stamp of something that happens now; later than all that were given or seen before."""

    def observe_stamp(self, stamp: int) -> None:
        """Another node has given this stamp: those of this node are later from now on."""

    # -- sessions that go to other nodes --------------------------------------------------------------------
    #
    # The steps and their order: `engine/src/broker/moving.rs`. What one of these calls gives is for the engine of the other node.

    def begin_move(self, mountpoint: str, client_id: str) -> bytes | None:
        """A session is about to go to another node: what it is without its messages. None: there is none that lasts, or its
        client is connected.
        """

    def pack_messages(
        self, mountpoint: str, client_id: str, *, after: int = 0, size: int = 262_144
    ) -> tuple[bytes, int, bool] | None:
        """Messages of a session that goes, behind its first `after`, of about `size` bytes; how many messages there are up to their
        end; and whether that are all. None: it does not go any more. Blocking: it may read the disk.
        """

    def close_moves(self, sessions: Sequence[tuple[str, str]]) -> None:
        """Sessions `(mountpoint, client_id)` that go get no more messages: their subscriptions are gone."""

    def end_moves(self, sessions: Sequence[tuple[str, str]]) -> None:
        """These sessions are on the other node, and no more here."""

    def abandon_moves(self, sessions: Sequence[tuple[str, str]]) -> None:
        """These sessions stay, with their subscriptions."""

    def take_session(self, data: bytes) -> None:
        """A session comes: makes it, or adds its subscriptions to the one that is here. Raises `ValueError`."""

    def take_messages(self, mountpoint: str, client_id: str, data: bytes) -> None:
        """Messages of it come. They are kept aside. Raises `ValueError`, and `KeyError` where no such session comes."""

    def finish_move(self, mountpoint: str, client_id: str, *, whole: bool) -> None:
        """Nothing more comes: puts the messages before those that were queued here meanwhile, without those that were here already.
        Not `whole`: they are given up. Raises `KeyError`, and `StoreError` when the store takes nothing.
        """

    def watch_retained(self, *, watched: bool) -> None:
        """Say whether changes of retained messages are noted, for `RetainedChanged` and `retained_changes`. False at first."""

    def retained_changes(self, limit: int = 1_000) -> tuple[list[tuple[str, str]], bool]:
        """Topics `(mountpoint, topic)` whose retained message was set or deleted on this node; and whether more were than could be
        noted, so that all have to be read anew.
        """

    def known_retained(self, mountpoint: str, topic: str) -> tuple[int, int, bool, int | None] | None:
        """What is known of a topic: stamp and origin of its retained message, or of what deleted it a short time ago, whether it
        was deleted, and when it expires (Unix time in ms; None: never). None: nothing is known.
        """

    def retained_page(
        self, after: tuple[str, int] | None = None, limit: int = 1_000
    ) -> tuple[list[tuple[str, str, int, int, int | None]], tuple[str, int] | None]:
        """Retained messages `(mountpoint, topic, stamp, origin, expiry)` in at most `limit` places, and where the next page begins;
        None: that was the last. What changes meanwhile may be missing or come twice.
        """

    def forget_retained(self, mountpoint: str, topic: str, stamp: int, origin: int) -> bool:
        """Forget the retained message of a topic, which was deleted on another node under this name, unless there is a later one;
        whether there was one.
        """

    def send_retained(self, peer: str, topics: Sequence[tuple[str, str]]) -> int | None:
        """Send retained messages over the data lane, to be retained there and handed to nobody. How many topics were passed, those
        without a message included; the others have no room on the link now. None: it is no peer.
        """

    def watch_sessions(self, *, watched: bool) -> None:
        """Say whether changes of sessions that last are noted, for `SessionsChanged` and `session_changes`. False at first."""

    def session_changes(self, limit: int = 1_000) -> tuple[list[tuple[str, str]], bool]:
        """Sessions `(mountpoint, client_id)` that last and have come, changed or gone; and whether more has changed than could be
        noted, so that all have to be read anew.
        """

    def kept_session(self, mountpoint: str, client_id: str) -> tuple[bytes, list[tuple[str, int, int]]] | None:
        """A session that lasts, for `make_session` of another node, and its subscriptions `(filter, options, identifier)`, with the
        options as in SUBSCRIBE. None: there is none.
        """

    def make_session(self, session: bytes, subscriptions: Sequence[tuple[str, int, int]]) -> None:
        """Make a session with an empty queue, or add the subscriptions to the one that is here. Raises `ValueError`."""

    def set_fences(self, sessions: Sequence[tuple[str, str]], fences: Sequence[tuple[str, int]]) -> None:
        """Sessions that `make_session` made get all that these nodes have published since, each after its stamp. So it is known
        which messages of their former home, when that comes back, they have got already.
        """

    def pass_turns(self, timeout_ms: int) -> bool:
        """Wait until all that was routed before is handed over. False: not within the time. Blocking."""

    def lane_filled(self, peer: str) -> int:
        """How far the data lane to a peer is filled."""

    def lane_taken(self, peer: str, position: int) -> bool:
        """Whether a peer has taken all of the data lane up to a position, or cannot be reached."""

    # -- metrics ---------------------------------------------------------------------------------------------

    def metrics(self) -> list[Metric]:
        """A snapshot of all counters and gauges of the engine under VerneMQ's names. Costs microseconds."""

    def reset_metrics(self) -> None:
        """Set the counters to 0. Gauges stay."""

class ListenerOptions(TypedDict, total=False):
    """Terms of a listener with their defaults."""

    mountpoint: str
    """"": name space of its clients."""
    max_connections: int | None
    """10,000: connections at the same time; None for any number."""
    max_connection_rate: int | None
    """None: new connections a second; more wait in the backlog."""
    allowed_protocol_versions: Collection[int]
    """(3, 4, 5, 131): protocol levels; 131 and 132 are those of bridges."""
    allow_anonymous: bool | None
    """None: overrides the setting of that name."""
    max_connection_lifetime: int
    """0: seconds, 0 for any time."""
    use_identity_as_username: bool
    """False: the common name in a client's certificate replaces the user name; a certificate without one is refused."""
    tls: TlsConfig
    """Kinds ssl and wss need it, the others have none."""
    tls_handshake_timeout: int
    """5,000: milliseconds."""
    proxy_protocol: bool
    """False: every connection begins with a PROXY header of version 1 or 2, within 10 seconds."""
    proxy_protocol_use_cn_as_username: bool
    """False: the common name in a PROXY header (of a certificate that the proxy verified) replaces the user name."""
    proxy_xff: tuple[Collection[str], str | None] | None
    """None: (addresses of proxies, header with the common name or None). Kinds ws and wss: clients come through one of these
    proxies, which must send X-Forwarded-For, and the other header if it is named; that replaces the user name."""
    max_ws_frame_size: int
    """268,435,456: bytes of one WebSocket frame; 0 for any size."""
    max_request_line_length: int
    """8,000: bytes of the first line of the request for WebSocket."""
    max_header_value_length: int
    """4,096: bytes of the value of one header of it."""
    nodelay: bool
    """True: small packets go out at once."""
    keepalive: bool
    """False: the kernel looks whether silent peers are still there."""
    backlog: int
    """4,096: connections that the kernel keeps until they are accepted."""
    send_buffer: int | None
    """None: bytes of the kernel's buffer for what goes out, as the system has it."""
    receive_buffer: int | None
    """None: the same for what comes in."""
    reuse_port: bool
    """False: several sockets may listen on one port."""
    linger: int | None
    """None: seconds for which closing waits for what is unsent."""

@final
class TlsConfig:
    """Certificates and terms of TLS; immutable, and checked when it is made. Session tickets are on; each configuration has
    keys of its own for them."""

    def __init__(
        self,
        *,
        identities: Sequence[tuple[bytes, bytes, Sequence[str]]],
        client_ca: bytes | None = None,
        require_client_certificate: bool = False,
        crl: bytes | None = None,
        depth: int = 1,
        versions: Collection[str] = ("tlsv1.2", "tlsv1.3"),
        ciphers: Sequence[str] = (),
        curves: Sequence[str] = (),
    ) -> None:
        """All of it is PEM, not the names of files.

        `identities`: (certificate chain, private key that is not encrypted, server names); the first is for clients that ask for
        no name, or for an unknown one. "*.x" stands for all names directly below x; no names: those in the certificate.
        `client_ca`: a client is asked for a certificate of these authorities. `crl`: one or many lists; of a client's
        certificate it must then be known that it is not revoked, from a list that is not out of date. `depth`: intermediate
        certificates that a client may present. `ciphers`: OpenSSL's or IANA's names in order of preference, () for all; a list
        says nothing about a version of TLS that it names no suite of. `curves`: X25519, secp256r1 ...; () for all.
        Raises `ValueError` with a sentence: which part is bad and why.
        """

@final
class Verdict:
    """Python's answer to a request, immutable; one verdict may answer many. Requests make those that change something."""

    is_allowed: bool
    reason_code: int
    """0 when it allows, 0x18 when the authentication goes on, else why not."""
    filters: list[tuple[str, int]] | None

    @staticmethod
    def allow(
        *,
        client_id: str | None = None,
        mountpoint: str | None = None,
        username: str | None = None,
        topic: str | None = None,
        payload: bytes | None = None,
        qos: int | None = None,
        retain: bool | None = None,
        filters: Sequence[tuple[str, int]] | None = None,
        data: bytes | None = None,
        properties: Properties | None = None,
    ) -> Verdict:
        """Go on, with what is given changed: the modifiers of all requests, of which each takes its own.

        The request's own `accept` knows more of them and nothing that it does not take.
        """

    @staticmethod
    def deny(
        reason_code: int = 0x87,
        reason_string: str | None = None,
        *,
        server_reference: str | None = None,
        user_properties: Sequence[tuple[str, str]] | None = None,
    ) -> Verdict:
        """Refuse with an MQTT 5 reason code; 3.x clients get what the specification has for it. The texts are for 5.0."""

    @staticmethod
    def continue_authentication(data: bytes | None = None) -> Verdict:
        """AuthRequest only: send AUTH 0x18 with `data` and wait for the client's next AUTH."""

@final
class AccessList:
    """A compiled `vmq.acl`. Immutable and cheap to hand over."""

    rules: int

    @staticmethod
    def parse(text: bytes, *, topic_max_depth: int = 0) -> tuple[AccessList, list[str]]:
        """Compile a file. Lines that cannot be used allow nothing; each is told in a sentence (at most 20, then a count)."""

    def may_publish(self, mountpoint: str, client_id: str, username: str | None, topic: str) -> bool: ...
    def may_subscribe(self, mountpoint: str, client_id: str, username: str | None, topic_filter: str) -> bool:
        """Whether the rules cover the filter: everything that it matches. A shared one is judged by what it shares."""

@final
class PasswordTable:
    """A compiled password file: VerneMQ's and mosquitto's hashes, and argon2id. Immutable and cheap to hand over."""

    users: int

    @staticmethod
    def parse(text: bytes) -> tuple[PasswordTable, list[str]]:
        """Compile a file; as `AccessList.parse`."""

    def is_slow(self, username: str) -> bool:
        """Whether a check of this user's password costs milliseconds."""

    def check(self, username: str | None, password: bytes | None) -> bool | None:
        """Whether the password is right; None: the user is not known, or nothing was given. Slow hashes: on a thread."""

def hash_password(password: bytes, *, memory_kib: int = 19_456, passes: int = 2, lanes: int = 1) -> str:
    """The hash for a line of a password file, argon2id with a random salt. Takes tens of milliseconds.

    Raises `ValueError` for parameters that argon2 does not have.
    """

@final
class Message:
    """A message to publish from inside. `message_expiry`: seconds. `properties`: what subscribers get, in order."""

    def __init__(
        self,
        topic: str,
        payload: bytes = b"",
        qos: int = 0,
        *,
        retain: bool = False,
        mountpoint: str = "",
        message_expiry: int | None = None,
        properties: Properties | None = None,
    ) -> None: ...

# -- requests: events with a ticket -----------------------------------------------------------------------------
#
# All have `ticket`, and who asks: `listener`, `mountpoint`, `client_id`, `username`, `protocol_version` (3, 4 or 5). They can be
# made with keywords, to test what answers them.

@final
class RegisterRequest:
    """`auth_on_register`: a CONNECT waits. `peer`: a client of a Unix socket is `("local", 0)`."""

    ticket: int
    listener: str
    mountpoint: str
    client_id: str
    username: str | None
    protocol_version: int
    peer: tuple[str, int]
    listener_kind: str
    listener_address: tuple[str, int]
    client_certificate: bytes | None
    """DER, verified."""
    password: bytes | None
    clean_start: bool
    keep_alive: int
    properties: Properties

    def __init__(
        self,
        *,
        ticket: int = 0,
        listener: str = "",
        peer: tuple[str, int] = ("127.0.0.1", 0),
        mountpoint: str = "",
        client_id: str = "",
        username: str | None = None,
        password: bytes | None = None,
        clean_start: bool = True,
        keep_alive: int = 60,
        protocol_version: int = 5,
        client_certificate: bytes | None = None,
    ) -> None: ...
    @staticmethod
    def accept(
        *,
        client_id: str | None = None,
        mountpoint: str | None = None,
        username: str | None = None,
        clean_start: bool | None = None,
        session_expiry_interval: int | None = None,
        max_connection_lifetime: int | None = None,
        user_properties: Sequence[tuple[str, str]] | None = None,
        response_information: str | None = None,
        max_message_size: int | None = None,
        max_message_rate: int | None = None,
        max_inflight_messages: int | None = None,
        max_online_messages: int | None = None,
        max_offline_messages: int | None = None,
        max_subscriptions_per_client: int | None = None,
        queue_type: Literal["fifo", "lifo"] | None = None,
        upgrade_qos: bool | None = None,
        topic_alias_max_client: int | None = None,
        topic_alias_max_broker: int | None = None,
        receive_max_client: int | None = None,
        receive_max_broker: int | None = None,
    ) -> Verdict:
        """Let the client in, changed. The limits take the places of the settings of these names for its session.

        `session_expiry_interval` and `max_connection_lifetime`: seconds; a lifetime of 0 is no limit. User properties and
        response information go with the CONNACK of an MQTT 5 client. Raises `ValueError` that names the modifier.
        """

@final
class PublishRequest:
    """`auth_on_publish`: a PUBLISH waits, or the will of a CONNECT (`is_will`)."""

    ticket: int
    listener: str
    mountpoint: str
    client_id: str
    username: str | None
    protocol_version: int
    topic: str
    payload: bytes
    qos: int
    retain: bool
    is_will: bool
    properties: Properties

    def __init__(
        self,
        *,
        ticket: int = 0,
        listener: str = "",
        mountpoint: str = "",
        client_id: str = "",
        username: str | None = None,
        topic: str = "t",
        payload: bytes = b"",
        qos: int = 0,
        retain: bool = False,
        is_will: bool = False,
        protocol_version: int = 5,
        properties: Properties | None = None,
    ) -> None: ...
    @staticmethod
    def accept(
        *,
        topic: str | None = None,
        payload: bytes | None = None,
        qos: int | None = None,
        retain: bool | None = None,
        mountpoint: str | None = None,
        properties: Properties | None = None,
        throttle: int | None = None,
    ) -> Verdict:
        """Pass the message on, changed. `properties` replaces all that may be forwarded; a will keeps its mountpoint.

        `throttle`: milliseconds in which nothing more is read from the client.
        """

@final
class SubscribeRequest:
    """`auth_on_subscribe`: a SUBSCRIBE waits. `filters`: `(filter, requested QoS)` in the packet's order."""

    ticket: int
    listener: str
    mountpoint: str
    client_id: str
    username: str | None
    protocol_version: int
    filters: list[tuple[str, int]]
    properties: Properties

    def __init__(
        self,
        *,
        ticket: int = 0,
        listener: str = "",
        mountpoint: str = "",
        client_id: str = "",
        username: str | None = None,
        filters: Sequence[tuple[str, int]] = (),
        protocol_version: int = 5,
    ) -> None: ...
    def accept(
        self,
        *,
        filters: Sequence[tuple[str, int]] | None = None,
        user_properties: Sequence[tuple[str, str]] | None = None,
    ) -> Verdict:
        """Grant. `filters`: one `(filter, granted QoS or reason code >= 0x80)` for each requested one in the same order.

        Raises `ValueError` for another number of filters.
        """

@final
class UnsubscribeRequest:
    """`on_unsubscribe`: an UNSUBSCRIBE waits. It cannot be refused."""

    ticket: int
    listener: str
    mountpoint: str
    client_id: str
    username: str | None
    protocol_version: int
    filters: list[str]
    properties: Properties

    def __init__(
        self,
        *,
        ticket: int = 0,
        listener: str = "",
        mountpoint: str = "",
        client_id: str = "",
        username: str | None = None,
        filters: Sequence[str] = (),
        protocol_version: int = 5,
    ) -> None: ...
    def accept(self, *, filters: Sequence[str] | None = None) -> Verdict:
        """Unsubscribe other filters instead, one for each in the request. Raises `ValueError` for another number."""

@final
class AuthRequest:
    """`on_auth`: a CONNECT with an authentication method, or an AUTH packet (`reason_code` 0x18 or 0x19), waits.

    During CONNECT it is asked before `auth_on_register`, which is then not asked: the method decides.
    """

    ticket: int
    listener: str
    mountpoint: str
    client_id: str
    username: str | None
    protocol_version: int
    method: str
    data: bytes | None
    reason_code: int
    properties: Properties

    def __init__(
        self,
        *,
        ticket: int = 0,
        listener: str = "",
        mountpoint: str = "",
        client_id: str = "",
        username: str | None = None,
        method: str = "",
        data: bytes | None = None,
        reason_code: int = 0,
    ) -> None: ...
    @staticmethod
    def accept(
        *,
        data: bytes | None = None,
        client_id: str | None = None,
        mountpoint: str | None = None,
        username: str | None = None,
    ) -> Verdict:
        """Authenticated. `data`: the method's last word. Who the client is can be changed during CONNECT only."""

    @staticmethod
    def go_on(data: bytes | None = None) -> Verdict:
        """Another round: send AUTH with `data` and wait for the client's next AUTH."""

@final
class ClaimRequest:
    """A CONNECT waits until the other nodes have heard that it claims its client id (`Engine.ask_about_claims`).

    It is authorised. An answer that refuses is told to the client; without any within a minute it is refused with 0x88.
    """

    ticket: int
    mountpoint: str
    client_id: str
    stamp: int
    """When it was claimed, in hybrid logical time: milliseconds since the Unix epoch times 65,536, and a counter."""
    clean_start: bool

    def __init__(
        self, *, ticket: int = 0, mountpoint: str = "", client_id: str = "", stamp: int = 0, clean_start: bool = True
    ) -> None: ...

@final
class DeliverMessage:
    """A message of a `DeliverRequest`, with the QoS and RETAIN of this delivery."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties

@final
class DeliverRequest:
    """`on_deliver`: messages on their way to one client wait, in order, at most 64; `client_id` is the receiver's.

    A refusal, or no answer in time, lets them go as they are.
    """

    ticket: int
    listener: str
    mountpoint: str
    client_id: str
    username: str | None
    protocol_version: int
    messages: list[DeliverMessage]

    def accept(self, changes: Sequence[tuple[str | None, bytes | None, Properties | None] | None]) -> Verdict:
        """Send them changed: for each message None, or its other topic, payload and properties (None: as it is)."""

# -- notifications: events without a ticket -----------------------------------------------------------------------

@final
class SessionEvent:
    """`on_register`, `on_client_wakeup`, `on_client_offline`, `on_client_gone` or `on_session_expired`.

    `reason` says in a few words why a connection ended, "" elsewhere.
    """

    kind: str
    mountpoint: str
    client_id: str
    username: str | None
    peer: tuple[str, int] | None
    protocol_version: int
    reason: str

@final
class SubscriptionEvent:
    """`on_subscribe` (filters with the granted QoS or reason code) or `on_topic_unsubscribed` (QoS 0)."""

    kind: str
    mountpoint: str
    client_id: str
    username: str | None
    filters: list[tuple[str, int]]

@final
class MessageEvent:
    """`on_publish`, `on_offline_message`, `on_message_drop`, or `delivery` to an internal subscriber.

    `client_id` is the publisher of `on_publish` and the receiver elsewhere; `subscriber` is set for `delivery` only.
    `reason` of `on_message_drop`: `expired`, `queue_full` or `max_packet_size_exceeded`.
    """

    kind: str
    subscriber: str
    mountpoint: str
    client_id: str
    username: str | None
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties
    reason: str

@final
class LogEvent:
    """Something an operator may want to know. `level`: debug, info, warning or error; `fields`: peer, client_id, reason ..."""

    level: str
    message: str
    fields: dict[str, str]

# -- answers to queries ----------------------------------------------------------------------------------------------

BridgeRule: TypeAlias = tuple[str, str, str, int, bool]
"""Prefix that is left out, prefix that is put there, pattern behind them, QoS, whether RETAIN is kept."""

BridgeSubscription: TypeAlias = tuple[int, str, bool, int, bool, Sequence[BridgeRule]]
"""Identifier from 1, filter as in SUBSCRIBE, whether it is one of a group, QoS, Retain As Published, its rules."""

@final
class BridgeTls:
    """TLS of a bridge's connection. What is read is PEM."""

    def __init__(
        self,
        *,
        ca: bytes | None,
        certificates: bytes | None = None,
        key: bytes | None = None,
        depth: int = 1,
        versions: Collection[str] | None = None,
    ) -> None:
        """`ca`: authorities of the other broker's certificate, None to take any certificate, for any name.

        `certificates` and `key`: shown to a broker that asks for a certificate; both or none. `depth`: intermediate
        certificates. Raises `ValueError` that begins with the key whose file is wrong.
        """

@final
class BridgeStatus:
    """What a bridge has counted since it was opened. `state`: away, connecting or connected.

    `published_out`, `published_in`: messages by QoS. `buffered`: messages for the other broker that it has not
    acknowledged. `dropped`: those that a full buffer had no room for. `looped`: not passed on since they had been there
    before. `refused`: not taken by the side that they were for. `expired`, `too_large`: not passed on for that.
    """

    state: str
    published_out: tuple[int, int, int]
    published_in: tuple[int, int, int]
    buffered: int
    dropped: int
    looped: int
    refused: int
    expired: int
    too_large: int

@final
class BridgeEvent:
    """What happened to a bridge. `kind`: connected; ended (the connection to the other broker, or the attempt to make one);
    failed (the bridge's connection to this node, after which it has to be opened anew). `reason`: why, for the last two.
    """

    name: str
    kind: str
    reason: str

@final
class Bridge:
    """A bridge that runs: a thread with a session on this node, and at times a connection to another broker."""

    def connect(
        self,
        address: str,
        port: int,
        *,
        version: int,
        client_id: str,
        private: bool = False,
        clean: bool = False,
        keep_alive: int = 60,
        username: str | None = None,
        password: str | None = None,
        session_expiry: int = ...,
        receive_maximum: int = 1_000,
        window: int = 100,
        tls: BridgeTls | None = None,
        server_name: str | None = None,
        websocket: tuple[str, str] | None = None,
        timeout_ms: int = 10_000,
    ) -> None:
        """Make one attempt to connect, after ending what connection there is. Its outcome is a `BridgeEvent`.

        `address`: an IP address. `version`: 3, 4 or 5. `private`: say that it is a bridge, in 3.1 and 3.1.1. `server_name`:
        that the certificate has to be for, the address if None. `websocket`: host and path of the request. `timeout_ms`: until
        the other broker has accepted. Raises `ValueError` that names the argument.
        """

    def disconnect(self) -> None:
        """End the connection to the other broker in good order. There is no event for that."""

    def close(self) -> None:
        """End both connections in good order, and the thread. What waits in a session that lasts stays there."""

    def status(self) -> BridgeStatus:
        """What is counted."""

def bridge_forwards(
    subscriptions: Sequence[BridgeSubscription],
    topic: str,
    *,
    out: bool,
    qos: int,
    retain: bool,
    through: Sequence[int] = (),
) -> list[tuple[str, int, bool]]:
    """Topic, QoS and RETAIN of what a bridge publishes on the other side for a message.

    `through`: the identifiers of the subscriptions that this copy came through; none where the sender does not tell.
    """

@final
class ListenerInfo:
    """`status` is "running" or "suspended"; `max_connections` None for no limit.

    `failed_connections` ended before MQTT could begin: TLS, WebSocket or a PROXY header went wrong. Of a Unix socket `address`
    is the path and `port` 0.
    """

    name: str
    kind: str
    address: str
    port: int
    status: str
    mountpoint: str
    max_connections: int | None
    active_connections: int
    all_connections: int
    failed_connections: int
    allowed_protocol_versions: list[int]
    allow_anonymous: bool | None

@final
class SessionInfo:
    """One session. `protocol` 3, 4 or 5; `peer_host` and `peer_port` are None offline; wall clock times."""

    mountpoint: str
    client_id: str
    username: str | None
    is_online: bool
    peer_host: str | None
    peer_port: int | None
    listener: str | None
    protocol: int
    clean_session: bool
    session_expiry_interval: int | None
    keep_alive: int
    online_messages: int
    offline_messages: int
    waiting_acks: int
    subscriptions: int
    deliver_mode: str
    num_sessions: int
    queue_started_at: float
    session_started_at: float | None
    bytes_received: int
    bytes_sent: int

@final
class SubscriptionInfo:
    """`topic` is the filter as subscribed, with `$share/GROUP/` where shared."""

    topic: str
    qos: int
    no_local: bool
    retain_as_published: bool
    identifier: int | None

@final
class RetainedMessage:
    topic: str
    payload: bytes
    qos: int
    mountpoint: str
    properties: Properties
    expires_at: float | None

@final
class Metric:
    """One series. `labels` as in VerneMQ, e.g. `{"mqtt_version": "5", "reason_code": "success"}`."""

    name: str
    kind: Literal["counter", "gauge"]
    labels: dict[str, str]
    value: int
    description: str

# -- other nodes ---------------------------------------------------------------------------------------------------

class LinkLimits(TypedDict, total=False):
    """Limits of the links with their defaults."""

    link_timeout_ms: int
    """5,000: silence after which a connection counts as down (`cluster.link_timeout`)."""
    handshake_timeout_ms: int
    """5,000: for everything until a connection is ready, at both ends (`outgoing_cluster_handshake_ack_timeout`)."""
    outgoing_buffer_size: int
    """67,108,864: bytes of clients' messages held for one peer (`outgoing_clustering_buffer_size`)."""
    flush_threshold: int
    """65,536: bytes from which on a batch of them takes no further one (`outgoing_clustering_flush_threshold`)."""
    incoming_buffer_size: int
    """67,108,864: bytes of one message from a peer (`incoming_clustering_buffer_size`)."""
    credit: int
    """8,388,608: bytes of clients' messages that a peer may have on their way here, or waiting to be stored."""
    queued_bytes: int
    """67,108,864: bytes of control, and of metadata messages that wait for one peer."""

@final
class LinkTls:
    """TLS between nodes: both ends show a certificate. Immutable, and checked when it is made."""

    def __init__(
        self,
        *,
        certificates: bytes,
        key: bytes,
        ca: bytes,
        crl: bytes | None = None,
        check_names: bool = True,
        depth: int = 1,
        versions: Collection[str] = ("tlsv1.2", "tlsv1.3"),
        ciphers: Sequence[str] = (),
        curves: Sequence[str] = (),
        handshake_timeout_ms: int | None = 5_000,
    ) -> None:
        """Files are PEM. `certificates`: this node's chain, good for both ends; `key`: not encrypted.

        `ca`: authorities of the certificates of the cluster. `crl`: of a certificate it must then be known that it is not
        revoked. `check_names`: a certificate must be for the host that was dialled, or for the one in the node's name.
        `depth`: intermediate certificates that a peer may present. `versions`, `ciphers` and `curves`: as those of
        `TlsConfig`. `handshake_timeout_ms`: for TLS alone, at both ends; None: as long as everything until a link is
        ready. Raises `ValueError` with a sentence: which part is bad and why.
        """

@final
class PeerConfig:
    """A node to link with. Immutable; equal ones are equal."""

    name: str
    addresses: list[str]
    incarnation: bytes | None
    tls: bool

    def __init__(
        self, name: str, addresses: Sequence[str], *, incarnation: bytes | None = None, tls: bool = False
    ) -> None:
        """`addresses`: HOST:PORT, tried in turn; names are looked up each time. `incarnation`: only this data directory will do.

        `tls`: its listener is a `vmqs` one. Where only an address is known, any name will do as `name`: the link does
        not come about, and `PeerInfo.answering` tells who is there.
        """

@final
class ClusterListenerInfo:
    """A listener for other nodes. `failed_connections` were not let in. `max_connections` None: no limit."""

    name: str
    address: str
    port: int
    is_tls: bool
    max_connections: int | None
    active_connections: int
    all_connections: int
    failed_connections: int

@final
class PeerLane:
    """One connection of a link. `direction`: "dialled" or "accepted".

    `state`: "off", "pause" (it is dialled again soon), "opening", "open" (no heartbeat has come back lately), "alive".
    """

    lane: str
    direction: str
    state: str
    since: float
    round_trip_us: int | None

@final
class PeerInfo:
    """A link. `state`: "down", "guest" (the control lane works, and one of both nodes has not joined yet) or "reachable".

    `incarnation`: as the peer told it when it was last connected. `error`: what went wrong last, in words. `refusal`: why the peer
    refuses this node, while it does: version, secret, busy, malformed, wrong_node, wrong_cluster, not_a_member,
    wrong_incarnation, settings, guest_lane, joining_closed, name_taken, certificate, removed. Nothing but version, secret, busy and
    malformed can come from somebody who does not know the secret. `answering`: the node that is at the address instead of the one
    that was looked for. Clients' messages: `queued_bytes` are not written, `held_bytes` not acknowledged or not written;
    `oldest_age_ms`: how long the oldest of QoS 1 and 2 have waited that the peer has not acknowledged, 0 for none; too high by 50 ms,
    or by 1 % of the longest wait there was, at most; `dropped` by QoS; `duplicates` and `gaps` count batches that came twice, and times that some were missing.
    `messages_turned_away` (by `peer_send`) and `messages_lost` (with a connection) are control and metadata messages.
    """

    name: str
    incarnation: bytes | None
    state: str
    since: float
    lanes: list[PeerLane]
    answering: str | None
    error: str
    refusal: str | None
    queued_bytes: int
    held_bytes: int
    oldest_age_ms: int
    dropped: tuple[int, int, int]
    dropped_bytes: int
    messages_turned_away: int
    messages_lost: int
    duplicates: int
    gaps: int
    bytes_sent: int
    bytes_received: int

@final
class PeerMessage:
    """A message of another control plane, in the order in which it sent them on this lane."""

    peer: str
    incarnation: bytes
    lane: str
    data: bytes

@final
class PeerState:
    """A link is in another state, or something else keeps it from being reachable; see `PeerInfo`. `reason` is for people."""

    peer: str
    incarnation: bytes | None
    state: str
    reason: str
    refusal: str | None

@final
class PeerRefused:
    """A connection came in on a cluster listener and was not let in. `peer`: as whom, not proved for all refusals."""

    listener: str
    address: tuple[str, int]
    peer: str | None
    refusal: str | None
    reason: str

@final
class RetainedChanged:
    """Retained messages were set or deleted on this node since `Engine.retained_changes` was called last."""

@final
class SessionsChanged:
    """Sessions that last have come, changed or gone since `Engine.session_changes` was called last."""

@final
class RoutesChanged:
    """What this node subscribes to has changed: `Engine.route_changes` says how."""

# -- the store -----------------------------------------------------------------------------------------------------

class StoreError(Exception):
    """The store cannot be opened, read or written; the message says which file, what is wrong and how to go on."""

@final
class StoreSummary:
    """What `Engine.open_store` found. `messages`: each counted once, retained ones among them.

    `cut` says in words what was cut off as the torn end of a crash, None for nothing. `missing`: entries of queues whose
    message was lost with a damaged file before; they are gone.
    """

    sessions: int
    messages: int
    retained: int
    metadata_keys: int
    bytes: int
    duration_ms: int
    cut: str | None
    missing: int

@final
class StoreDamage:
    """One place that cannot be read. `file` is a name within the directory; `offset` in bytes."""

    file: str
    offset: int
    what: str

@final
class StoreReport:
    """What is in a store. `bytes` are those of its files, `live_bytes` those that are still needed of them.

    What there is of a damaged store (from `bytes` to `metadata_keys`, but for `segments` and `records`) is not counted.
    `cut`: what an `open_store` would cut off as the torn end of a crash, which is no damage. `missing`: entries of queues whose
    message was lost with a damaged file before; they are passed over.
    """

    is_sound: bool
    format_version: int
    bytes: int
    live_bytes: int
    segments: int
    records: int
    sessions: int
    messages: int
    retained: int
    metadata_keys: int
    damages: list[StoreDamage]
    cut: str | None
    missing: int

def check_store(directory: str, *, repair: bool = False) -> StoreReport:
    """Read a whole store that nobody has open; blocking, without the GIL. Nothing is changed without `repair`.

    `repair`: each damaged file is replaced by one with all of its records that can be read, and kept as `NAME.damaged`.
    The report tells what was found before that.
    Raises `StoreError` when there is no store, or when it cannot be read at all.
    """

def compact_store(directory: str) -> tuple[int, int]:
    """As `Engine.store_compact`, for a store that nobody has open. Raises `StoreError`, also for a damaged one."""

# -- load generator ----------------------------------------------------------------------------------------------------

@final
class Bench:
    """A load generator on the engine's client side: see `strogoff bench --help` for what the workloads do."""

    def __init__(self, workload: str, options: Mapping[str, Any]) -> None:
        """Check the options; nothing is connected yet. Raises `ValueError` that names the option."""

    def start(self) -> None:
        """Start the generator threads."""

    def progress(self) -> dict[str, int | float]:
        """Counters so far: `connected`, `sent`, `received`, `elapsed_s` ... Cheap; for a live display."""

    def wait(self, timeout_ms: int) -> bool:
        """Wait (without the GIL) until the run ended. True when it has."""

    def stop(self) -> None:
        """End the run early; `report()` then tells what was measured until now."""

    def report(self) -> dict[str, Any]:
        """The result of an ended run. Raises `RuntimeError` while it runs."""
