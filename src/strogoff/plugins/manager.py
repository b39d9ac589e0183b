"""The plugins of a node: started and stopped by the node's phases and by operators, asked through the dispatcher.

A plugin that cannot start leaves everything as it was, with a sentence that says why. Enabling puts a plugin at the end
of the chains; the start of the node orders them by `plugins.NAME.priority`, then by name.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from strogoff._engine import Engine, MessageEvent
from strogoff.config import Configuration, Listener
from strogoff.observe.counters import Counters
from strogoff.observe.logging import get_logger
from strogoff.plugins.access import AccessControl
from strogoff.plugins.chain import Chains, Choice, Link
from strogoff.plugins.context import PluginContext
from strogoff.plugins.contract import Activation, Plugin, PluginCommand, commands_of, settings_model
from strogoff.plugins.discovery import PluginNotFoundError, find_plugin
from strogoff.plugins.dispatcher import Dispatcher, PluginEvent
from strogoff.plugins.hooks import hooks_of
from strogoff.plugins.node import PluginNode
from strogoff.plugins.requests import PhaseChange
from strogoff.plugins.running import RunningPlugin
from strogoff.plugins.selection import Selected, Selection, configured_directory, is_configured
from strogoff.plugins.settings import SettingsError, keys_of, read_settings
from strogoff.plugins.state import StateFile

__all__ = ["COUNTERS", "PluginError", "PluginInfo", "PluginManager"]

COUNTERS: Final[Mapping[str, str]] = {
    "plugin_hook_errors": "Hooks of plugins that raised an exception.",
    "plugin_hook_timeouts": "Hooks of plugins that took longer than plugins.hook_timeout.",
    "plugin_hook_slow_calls": "Hooks of plugins that held up the control plane.",
    "plugin_notifications_dropped": "Notifications that a plugin was not told because too many waited for it.",
    "plugin_start_errors": "Plugins that could not be started.",
}

_log = get_logger("plugins")


class BridgeService(Protocol):
    """The bridges of the node, which the plugin `vmq_bridge` starts and stops."""

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Run them. Raises `ValueError`."""

    async def stop(self) -> None:
        """End them."""


class PluginError(Exception):
    """A plugin cannot be enabled or disabled; the message says why."""


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One plugin that is on. `hooks`: name of the hook -> the function that serves it, `module:Class.function`."""

    name: str
    activation: Activation
    directory: Path | None
    hooks: Mapping[str, str]


class PluginManager:
    """All plugins of one node. `attach` gives it the task group of the node before anything is started.

    `keys_learnt` is told the configuration with the keys of a plugin that it was read without.
    """

    bridges: BridgeService
    """Given by the broker before anything is started."""

    def __init__(
        self,
        engine: Engine,
        configuration: Configuration,
        *,
        node_name: str,
        data_directory: Path,
        counters: Counters,
        keys_learnt: Callable[[Configuration], None],
    ) -> None:
        self._engine = engine
        self._configuration = configuration
        self._counters = counters
        self._keys_learnt = keys_learnt
        self._chains = Chains()
        self._running: dict[str, RunningPlugin] = {}
        self._access = AccessControl(engine, self._chains)
        self._selection = Selection(StateFile(data_directory))
        self._node = PluginNode(engine, self, node_name, self._access)
        self._tasks: asyncio.TaskGroup | None = None
        self._threads: concurrent.futures.ThreadPoolExecutor | None = None
        self._changing = asyncio.Lock()
        self._reserved: frozenset[str] = frozenset()
        self.dispatcher = Dispatcher(
            engine,
            self._chains,
            counters,
            hook_timeout_s=lambda: self._configuration.get("plugins.hook_timeout") / 1_000,
            start_task=lambda work, name: self.task_group.create_task(work, name=name),
            post=self.post,
        )

    # -- the node's life -----------------------------------------------------------------------------------------

    def attach(self, tasks: asyncio.TaskGroup) -> None:
        """Take the group in which everything of the plugins runs."""
        self._tasks = tasks

    @property
    def task_group(self) -> asyncio.TaskGroup:
        """The group of the node's tasks."""
        assert self._tasks is not None, "attach() comes before everything else"
        return self._tasks

    def reserve_commands(self, words: Iterable[str]) -> None:
        """Say which first words of commands belong to the broker, so that no plugin takes them."""
        self._reserved = frozenset(words)

    async def start(self, activation: Activation) -> None:
        """Start the plugins of a phase. One that cannot is logged and left out: what it would allow is refused then."""
        if activation is Activation.BOOT:
            self._chains.choose(_choices(self._configuration.listeners))
            self._apply()
        for selected in self._selection.at_start(self._configuration):
            if selected.name not in self._running:
                await self._start_selected(selected, activation)

    async def stop(self, activation: Activation) -> None:
        """Stop the plugins of a phase, the last one first."""
        for running in reversed(list(self._running.values())):
            if running.plugin.activation is activation:
                async with self._changing:
                    await self._stop(running)
        if not self._running and self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def phase_entered(self, change: PhaseChange) -> None:
        """Tell the plugins."""
        self.dispatcher.notify("on_phase", change)

    def handle(self, events: Iterable[PluginEvent]) -> None:
        """Handle events of the engine."""
        self.dispatcher.handle(events)

    def own_subscriptions(self) -> list[str]:
        """What plugins subscribe to from inside, in words."""
        return self._node.own_subscriptions()

    def received(self, event: MessageEvent) -> None:
        """Hand a message to the plugin that subscribed to it."""
        self._node.received(event)

    # -- what operators do ---------------------------------------------------------------------------------------

    async def enable(self, name: str, directory: Path | None = None) -> PluginInfo:
        """Start a plugin and remember that for the next start of the node.

        Raises `PluginError` with the reason; everything is as it was then.
        """
        async with self._changing:
            if name in self._running:
                raise PluginError(f"the plugin {name} is on already")
            directory = directory or configured_directory(self._configuration, name)
            try:
                plugin = await asyncio.to_thread(find_plugin, name, directory)
            except PluginNotFoundError as error:
                raise PluginError(str(error)) from error
            running = await self._start(plugin, directory)
            self._selection.remember(name, is_enabled=True, directory=directory)
            return _info(running)

    async def disable(self, name: str) -> None:
        """Stop a plugin and all it started, and remember that for the next start. Raises `PluginError`."""
        async with self._changing:
            running = self._running.get(name)
            if running is None:
                raise PluginError(f"the plugin {name} is not on: {', '.join(self._running) or 'none'} is")
            await self._stop(running)
            self._selection.remember(name, is_enabled=False, directory=running.directory)

    def show(self) -> list[PluginInfo]:
        """The plugins that are on, in the order in which they are asked."""
        return [_info(running) for running in self._running.values()]

    def is_fixed(self, name: str) -> bool:
        """Whether the configuration says whether a plugin is on, so that it will say so again at the next start."""
        return is_configured(self._configuration, name)

    async def reauthorize(self, client_id: str, mountpoint: str) -> list[str]:
        """Ask again about the subscriptions of a client; the filters that it has lost."""
        return await self._node.reauthorize(client_id, mountpoint)

    def commands(self) -> list[PluginCommand]:
        """The commands of all plugins that are on."""
        return [command for running in self._running.values() for command in running.commands]

    async def configuration_changed(self, configuration: Configuration) -> None:
        """Let the plugins whose own settings have changed take them over. Raises `ValueError` with what they say."""
        before, self._configuration = self._configuration, configuration
        for running in list(self._running.values()):
            model = settings_model(type(running.plugin))
            settings: Any = read_settings(running.name, model, configuration)
            if settings == read_settings(running.name, model, before):
                continue
            try:
                await running.plugin.settings_changed(settings)
            except Exception as error:
                self._configuration = before
                raise ValueError(f"the plugin {running.name} refuses: {error}") from error

    def listeners_changed(self, listeners: Sequence[Listener]) -> None:
        """Take over which plugins the listeners choose. Raises `ValueError` for a plugin that is not on."""
        for listener in listeners:
            for name in {*(listener.auth_plugins or ()), *(listener.authz_plugins or ())}:
                if name not in self._running:
                    raise ValueError(f"{listener.key} names the plugin {name}, which is not on")
        self._chains.choose(_choices(listeners))
        self._apply()

    # -- one plugin ----------------------------------------------------------------------------------------------

    async def _start_selected(self, selected: Selected, activation: Activation) -> None:
        try:
            plugin = find_plugin(selected.name, selected.directory)
            if plugin.activation is activation:
                async with self._changing:
                    await self._start(plugin, selected.directory)
        except (PluginError, PluginNotFoundError) as error:
            self._counters.add("plugin_start_errors", plugin=selected.name)
            text = "a plugin is not on; what it would have allowed is refused"
            _log.error(text, plugin=selected.name, reason=str(error))

    async def _start(self, plugin_class: type[Plugin], directory: Path | None) -> RunningPlugin:
        name = plugin_class.name
        running = self._made(plugin_class, directory)
        self._node.add(running)
        timeout_s = self._configuration.get("plugins.start_timeout") / 1_000
        try:
            async with asyncio.timeout(timeout_s):
                await running.plugin.start()
        except Exception as error:
            await self._give_up(running)
            if isinstance(error, TimeoutError):
                raise PluginError(f"the plugin {name} did not start within {timeout_s:g} s") from error
            _log.exception("a plugin could not start", plugin=name, error=repr(error))
            raise PluginError(f"the plugin {name} could not start: {error}") from error
        running.start_task(self.task_group, self._tell_from_mailbox(running), "notifications")
        self._running[name] = running
        self._chains.add(name, running.links)
        self._apply()
        hooks = ",".join(link.hook for link in running.links)
        _log.notice("plugin on", plugin=name, hooks=hooks, **({"path": directory} if directory else {}))
        return running

    def _made(self, plugin_class: type[Plugin], directory: Path | None) -> RunningPlugin:
        name = plugin_class.name
        try:
            model = settings_model(plugin_class)
            self._learn_keys(name, model)
            settings: Any = read_settings(name, model, self._configuration)
            plugin = plugin_class(settings, PluginContext(name, self._node))
            links = [Link.of(name, hook, method, self._run_blocking) for hook, method in hooks_of(plugin).items()]
            commands = commands_of(plugin)
        except SettingsError as error:
            raise PluginError(f"the plugin {name} lacks settings: {error}") from error
        except Exception as error:
            raise PluginError(f"the plugin {name} cannot be made: {error}") from error
        self._check_commands(name, commands)
        return RunningPlugin(plugin, directory, links, commands)

    def _learn_keys(self, name: str, model: type) -> None:
        """Make the plugin's keys known to a configuration that was read without them."""
        keys = [key for key in keys_of(name, model) if self._configuration.table.find(key.name) is None]
        if keys:
            table = self._configuration.table.extended(keys)
            self._configuration = replace(self._configuration, table=table)
            self._keys_learnt(self._configuration)

    def _check_commands(self, name: str, commands: Sequence[PluginCommand]) -> None:
        taken = dict.fromkeys(self._reserved, "the broker")
        for other in self._running.values():
            taken |= {command.first_word: f"the plugin {other.name}" for command in other.commands}
        for command in commands:
            if owner := taken.get(command.first_word):
                raise PluginError(f"the plugin {name} cannot have the command {command.path!r}: {owner} has that word")

    async def _stop(self, running: RunningPlugin) -> None:
        self._chains.remove(running.name)
        del self._running[running.name]
        self._apply()
        await self._give_up(running)
        _log.notice("plugin off", plugin=running.name)

    async def _give_up(self, running: RunningPlugin) -> None:
        await running.end_tasks()
        timeout_s = self._configuration.get("plugins.start_timeout") / 1_000
        try:
            async with asyncio.timeout(timeout_s):
                await running.plugin.stop()
        except Exception as error:  # noqa: BLE001 - it is off whatever it says
            _log.exception("a plugin failed while it stopped", plugin=running.name, error=repr(error))
        await running.end_tasks()
        self._node.remove(running)

    def _apply(self) -> None:
        """Bring the engine up to date: which hooks to ask about, what to decide by itself."""
        policies = {name: item.plugin.engine_policy for name, item in self._running.items()}
        self._access.apply(self._listener_names(), policies)
        self._engine.set_hooks([hook for hook in self._chains.hooks() if hook != "on_phase"])

    def _listener_names(self) -> list[str]:
        return [name for name in self._chains.choices if name]

    # -- notifications and threads ---------------------------------------------------------------------------------

    def post(self, link: Link, event: Any) -> None:
        """Put a notification, or a message of a subscription, into the mailbox of the plugin that waits for such."""
        running = self._running.get(link.plugin)
        limit = self._configuration.get("plugins.notification_queue_limit")
        if running is not None and not running.mailbox.put(link, event, limit):
            self._counters.add("plugin_notifications_dropped", plugin=link.plugin)

    async def _tell_from_mailbox(self, running: RunningPlugin) -> None:
        while True:
            link, event = await running.mailbox.take()
            try:
                await link.function(event)
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises is told
                self.dispatcher.failed(link, error)

    async def _run_blocking(self, function: Callable[[Any], Any], request: Any) -> Any:
        if self._threads is None:
            count = self._configuration.get("plugins.threads")
            self._threads = concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix="strogoff-plugin")
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, request)


def _choices(listeners: Sequence[Listener]) -> dict[str, Choice]:
    return {listener.engine_name: Choice(listener.auth_plugins, listener.authz_plugins) for listener in listeners}


def _info(running: RunningPlugin) -> PluginInfo:
    owner = type(running.plugin)
    place = f"{owner.__module__}:{owner.__qualname__}"
    return PluginInfo(
        running.name, owner.activation, running.directory, {link.hook: f"{place}.{link.hook}" for link in running.links}
    )
