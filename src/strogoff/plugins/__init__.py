"""Plugins: code that decides about clients, changes what they send, or is told what happens.

A plugin is a class derived from `Plugin` whose methods have the names of hooks. `docs/plugins.md` is the chapter on it.
"""

from strogoff._engine import (
    AuthRequest,
    Message,
    MessageEvent,
    PublishRequest,
    RegisterRequest,
    SessionEvent,
    SessionInfo,
    SubscribeRequest,
    SubscriptionEvent,
    SubscriptionInfo,
    UnsubscribeRequest,
)
from strogoff.phases import Phase
from strogoff.plugins.context import PluginContext
from strogoff.plugins.contract import Activation, Plugin, Rows, command
from strogoff.plugins.hooks import blocking
from strogoff.plugins.requests import Change, Delivery, PhaseChange, Properties
from strogoff.plugins.settings import setting
from strogoff.plugins.verdict import NEXT, OK, Answer, ReasonCode, Verdict, deny

__all__ = [
    "NEXT",
    "OK",
    "Activation",
    "Answer",
    "AuthRequest",
    "Change",
    "Delivery",
    "Message",
    "MessageEvent",
    "Phase",
    "PhaseChange",
    "Plugin",
    "PluginContext",
    "Properties",
    "PublishRequest",
    "ReasonCode",
    "RegisterRequest",
    "Rows",
    "SessionEvent",
    "SessionInfo",
    "SubscribeRequest",
    "SubscriptionEvent",
    "SubscriptionInfo",
    "UnsubscribeRequest",
    "Verdict",
    "blocking",
    "command",
    "deny",
    "setting",
]
