"""WebSockets on many workers: rooms as topics, one log behind them, nothing lost in between."""

from .auth import Authenticator, Identity, TokenVerifier, WebSocketOAuth2PasswordBearer, issue_token
from .brokers import (
    BrokerInterface,
    BrokerT,
    InMemoryBroker,
    LogBroker,
    RedisBroker,
    RedisPubSubBroker,
    create_broker,
    is_valid_broker,
)
from .codes import CloseCode, ErrorCode
from .connection import Connection
from .exceptions import (
    BrokerError,
    InvalidMessage,
    InvalidSubscription,
    InvalidSubscriptionMessage,
    InvalidToken,
    LimitExceeded,
    NotAllowed,
    Overloaded,
    WebSocketException,
)
from .handlers import ahandle, handle
from .limits import Limits
from .manager import WebSocketManager
from .message import Message
from .origin import OriginPolicy
from .policy import Policy
from .proxy import WebSocketProxy
from .subscriptions import handle_subscription_message, subscribe, unsubscribe
from .topics import matches

__all__ = [
    "Authenticator",
    "BrokerError",
    "BrokerInterface",
    "BrokerT",
    "CloseCode",
    "Connection",
    "ErrorCode",
    "Identity",
    "InMemoryBroker",
    "InvalidMessage",
    "InvalidSubscription",
    "InvalidSubscriptionMessage",
    "InvalidToken",
    "LimitExceeded",
    "Limits",
    "LogBroker",
    "Message",
    "NotAllowed",
    "OriginPolicy",
    "Overloaded",
    "Policy",
    "RedisBroker",
    "RedisPubSubBroker",
    "TokenVerifier",
    "WebSocketException",
    "WebSocketManager",
    "WebSocketOAuth2PasswordBearer",
    "WebSocketProxy",
    "ahandle",
    "create_broker",
    "handle",
    "handle_subscription_message",
    "is_valid_broker",
    "issue_token",
    "matches",
    "subscribe",
    "unsubscribe",
]
