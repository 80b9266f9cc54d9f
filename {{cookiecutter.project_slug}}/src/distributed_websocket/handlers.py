"""`handle` and `ahandle`: decorators that give the exceptions of one type, raised in or below a function, to a handler.

What the handler returns, the function returns. If the handler raises, the exception it got stays in `__context__`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar, overload

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound=BaseException)
H = TypeVar("H")
H_co = TypeVar("H_co", covariant=True)


class Handle(Protocol[H_co]):
    """What `handle` returns: a function stays sync or async."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R | H_co]]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> Callable[P, R | H_co]: ...


class AsyncHandle(Protocol[H_co]):
    """What `ahandle` returns: every function becomes a coroutine function."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R | H_co]]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R | H_co]]: ...


def handle(exc: type[E], handler: Callable[[E], H]) -> Handle[H]:
    """Let the plain function `handler` handle exceptions of type `exc` of a function, sync or async.

    Raises TypeError for a coroutine function as the handler (use `ahandle`), and for decorating a generator function,
    whose exceptions are raised where it is iterated over: decorate the function that does that.
    """
    if inspect.iscoroutinefunction(handler):
        raise TypeError(f"{_name(handler)} is a coroutine function: use ahandle")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        _refuse_generators(function)

        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                try:
                    return await function(*args, **kwargs)
                except exc as error:
                    return handler(error)

            return coroutine

        @wraps(function)
        def plain(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except exc as error:
                return handler(error)

        return plain

    return decorate


def ahandle(exc: type[E], handler: Callable[[E], Awaitable[H]]) -> AsyncHandle[H]:
    """Let the coroutine function `handler` handle exceptions of type `exc` of a function, sync or async.

    The decorated function must be awaited either way. Raises TypeError for decorating a generator function, as `handle`
    does.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        _refuse_generators(function)

        @wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            try:
                result = function(*args, **kwargs)
                return await result if inspect.isawaitable(result) else result
            except exc as error:
                return await handler(error)

        return coroutine

    return decorate


def _refuse_generators(function: Callable[..., Any]) -> None:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{_name(function)} is a generator function: decorate the function that iterates over it")


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
