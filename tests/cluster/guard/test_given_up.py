"""A join that is refused as soon as it was begun is given up before anybody has gone on with it."""

import asyncio
from types import SimpleNamespace
from typing import Any

from strogoff.cluster.guard.begun import Begun
from strogoff.cluster.guard.policy import Policy
from strogoff.cluster.joining import Joining


def test_a_join_that_is_given_up_at_once_ends_nothing() -> None:
    """What goes on with joins is woken when one is begun, and finds none."""
    asyncio.run(_begin_and_give_up())


async def _begin_and_give_up() -> None:
    unused: Any = None
    membership: Any = SimpleNamespace(name="b@127.0.0.1", terms=None)
    context: Any = SimpleNamespace(store=None, policy=lambda: Policy.STRICT)
    settling: Any = SimpleNamespace(hold=lambda **_: None)
    joining = Joining(unused, membership, context=context, inventory=unused, joined=unused, start_again=unused)
    joining.begin(settling, None)
    running = asyncio.create_task(joining.run())
    await asyncio.sleep(0)
    joining._go_on_with(Begun("a@127.0.0.1", "127.0.0.1:44053", Policy.STRICT))
    joining._give_up()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not running.done()
    assert not joining.is_under_way
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
