"""Events for the shell and for Python: an append-only log of JSON lines, with consumers, and no server.

    import evtool

    with evtool.open() as home:
        orders = home.topic("orders")
        offset = orders.append({"amount": 9.5}, key="u1")
        for event in orders.read("1h"):
            print(event.offset, event.data)
        with orders.group("billing") as billing:
            for event in billing:
                handle(event)
                billing.commit(event)

The public names are those in `__all__`; they are loaded when they are first used, since a start of the program needs
none of them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.api import Event, Group, Home, Topic, open  # noqa: A004
    from evtool.errors import (
        BusyError,
        ConditionError,
        ConfigurationError,
        CorruptionError,
        DataError,
        EvtoolError,
        NotFoundError,
        PartialAppendError,
        StorageError,
        SyncError,
        TimedOutError,
        UsageError,
    )

__version__ = "0.1.0"

__all__ = [
    "BusyError",
    "ConditionError",
    "ConfigurationError",
    "CorruptionError",
    "DataError",
    "Event",
    "EvtoolError",
    "Group",
    "Home",
    "NotFoundError",
    "PartialAppendError",
    "StorageError",
    "SyncError",
    "TimedOutError",
    "Topic",
    "UsageError",
    "open",
]


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module("evtool.errors" if name.endswith("Error") else "evtool.api")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
