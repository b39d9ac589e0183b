# ruff: noqa: INP001, T201 - programs of this folder are run by path, and print
"""How fast the core of the replicated metadata is: `python benchmarks/swc.py [--keys 200000] [--batch 100]
[--profile]`.

Without disk and network, but with all that stands before them: messages are encoded and decoded, batches to persist
are made.

    writes      one node puts in batches, its only peer applies the broadcasts; both on this core
    first sync  an empty node joins and fetches everything
    memory      of a node that holds the keys, beside keys' values
"""

import argparse
import cProfile
import gc
import sys
import time
import tracemalloc
from collections.abc import Callable

from strogoff.cluster.swc import Actor, Replica

VALUE = b"v" * 100
WRITES_PER_S_MIN = 40_000
KEYS_PER_S_MIN = 100_000
BYTES_PER_KEY_MAX = 600


def key_of(number: int) -> bytes:
    """As long as a subscriber's key is."""
    return b"vmq/subscriber/client-%09d" % number


def pump(replicas: dict[Actor, Replica]) -> int:
    """Hand messages over until there are none. How many rows were to be persisted."""
    rows = 0
    moved = True
    while moved:
        moved = False
        for actor, replica in replicas.items():
            output = replica.take()
            rows += len(output.writes)
            moved = moved or bool(output.messages) or output.more
            for peer, data in output.messages:
                replicas[peer].receive(actor, data)
    return rows


def writes(count: int, batch: int, *, overwrite: bool) -> float:
    """Replicated writes a second; of keys that are there already with `overwrite`."""
    one, other = Actor("one@host", 1), Actor("other@host", 2)
    replicas = {actor: Replica(actor, members=[one, other], nonce=actor.incarnation << 32) for actor in (one, other)}
    keys = [key_of(number) for number in range(count)]
    if overwrite:
        for key in keys:
            replicas[one].put(key, VALUE)
            if replicas[one].parts.pending.backlog >= 1_000:
                pump(replicas)
        pump(replicas)
    start = time.perf_counter()
    for first in range(0, count, batch):
        put = replicas[one].put
        for key in keys[first : first + batch]:
            put(key, VALUE)
        pump(replicas)
    elapsed = time.perf_counter() - start
    assert len(replicas[other]) == count
    return count / elapsed


def filled(count: int) -> Replica:
    """A node alone that holds so many keys."""
    one = Actor("one@host", 1)
    replica = Replica(one, members=[one], nonce=1 << 32)
    for number in range(count):
        replica.put(key_of(number), VALUE)
        if not number % 1_000:
            replica.take()
            replica.collect()
    replica.take()
    while replica.collect():
        pass
    return replica


def first_sync(count: int) -> float:
    """Keys a second that a joining node gets, the giver's work included."""
    giver = filled(count)
    joining = Actor("joining@host", 2)
    replicas = {giver.actor: giver}
    giver.set_members([giver.actor, joining])
    start = time.perf_counter()
    replicas[joining] = Replica(joining, members=[giver.actor, joining], nonce=2 << 32)
    replicas[joining].pull(giver.actor)
    rows = pump(replicas)
    elapsed = time.perf_counter() - start
    assert len(replicas[joining]) == count <= rows
    return count / elapsed


def memory(count: int) -> tuple[float, float]:
    """Bytes a key beside its value: when all is collected, and when a member that is away keeps all dots needed."""
    gc.collect()
    tracemalloc.start()
    replica = filled(count)
    gc.collect()
    collected = tracemalloc.get_traced_memory()[0] / count - len(VALUE)
    away = Actor("away@host", 2)
    replica.set_members([replica.actor, away])
    for number in range(count):
        replica.put(key_of(number), VALUE)
        if not number % 1_000:
            replica.take()
    replica.take()
    gc.collect()
    needed = tracemalloc.get_traced_memory()[0] / count - len(VALUE)
    tracemalloc.stop()
    return collected, needed


def main() -> int:
    """Measure, print, and say by the exit code whether the bars are reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=100, help="writes a batch")
    parser.add_argument("--profile", action="store_true", help="show where the time goes, measured with a profiler")
    options = parser.parse_args()
    if options.profile:
        profiled("writes", lambda: writes(options.keys, options.batch, overwrite=True))
        profiled("first sync", lambda: first_sync(options.keys))
        return 0
    new = writes(options.keys, options.batch, overwrite=False)
    changed = writes(options.keys, options.batch, overwrite=True)
    single = writes(options.keys // 10, 1, overwrite=True)
    synced = first_sync(options.keys)
    collected, needed = memory(options.keys)
    print(f"replicated writes/s   {new:10,.0f}   new keys, batches of {options.batch} (>= {WRITES_PER_S_MIN:,})")
    print(f"                      {changed:10,.0f}   keys that are there")
    print(f"                      {single:10,.0f}   the same, one at a time")
    print(f"first sync, keys/s    {synced:10,.0f}   (>= {KEYS_PER_S_MIN:,})")
    print(f"memory, bytes/key     {collected:10,.0f}   beside the value (<= {BYTES_PER_KEY_MAX})")
    print(f"                      {needed:10,.0f}   while a member is away")
    reached = min(new, changed) >= WRITES_PER_S_MIN and synced >= KEYS_PER_S_MIN and needed <= BYTES_PER_KEY_MAX
    return 0 if reached else 1


def profiled(name: str, work: Callable[[], float]) -> None:
    """Run under the profiler and print what took most."""
    print(f"-- {name}")
    profile = cProfile.Profile()
    profile.runcall(work)
    profile.print_stats("tottime")


if __name__ == "__main__":
    sys.exit(main())
