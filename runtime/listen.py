"""`skyfix listen`: what a publisher sends, one line a fix."""

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import typer

from .publish.bus import DEFAULT_ENDPOINT, Subscriber
from .publish.messages import FixMessage, encode

NS_PER_S = 1e9
HEADER = (
    f"{'time_s':>9} {'frame':<14} {'status':<9} {'lat_deg':>12} {'lon_deg':>13} "
    f"{'std_m':>7} {'score':>6} {'margin':>6} {'ms':>6}  reason"
)


def listen(
    endpoint: Annotated[
        str, typer.Argument(help="Address of the publisher.", show_default=True)
    ] = DEFAULT_ENDPOINT,
    json_lines: Annotated[
        bool, typer.Option("--json", help="Print each message as one line of JSON.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, help="End after this many fixes.", show_default=False)
    ] = None,
) -> None:
    """Print the fixes that are published, one line each, until Ctrl-C.

    Example:
        skyfix listen
        skyfix listen tcp://192.168.1.20:5556 --json --count 10
    """
    with Subscriber(endpoint) as subscriber:
        print(f"listening to {endpoint}, Ctrl-C ends", file=sys.stderr)
        if not json_lines:
            print(HEADER, flush=True)
        for message in _first(subscriber, count):
            print(encode(message, "json").decode() if json_lines else line(message), flush=True)


def line(message: FixMessage) -> str:
    """One fix in the columns of HEADER, '-' where there is nothing."""
    return (
        f"{message.time_ns / NS_PER_S:>9.3f} {message.frame:<14} {message.status.value:<9} "
        f"{_number(message.lat_deg, 7):>12} {_number(message.lon_deg, 7):>13} "
        f"{_number(message.std_m, 1):>7} {_number(message.score, 3):>6} "
        f"{_number(message.margin, 3):>6} {_number(message.latency_ms, 1):>6}  "
        f"{message.reason.value if message.reason else '-'}"
    )


def _first(subscriber: Subscriber, count: int | None) -> Iterator[FixMessage]:
    return islice(iter(subscriber), count)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
