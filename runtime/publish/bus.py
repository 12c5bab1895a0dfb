"""Fixes over ZeroMQ: one publisher, any number of subscribers that come and go.

    [topic, payload]    skyfix/fix/v1        one for every frame
                        skyfix/heartbeat/v1  one a second, while `publish` or `serve` is called

XPUB hands subscriptions to the publisher, which answers each with the last fix at its next
`publish` or `serve`: a subscriber that comes late knows the position before the next fix. All
subscribers see that repetition; `Subscriber` drops it by session and sequence. Everything happens
on the thread that calls `publish` or `serve`, and neither waits for a slow subscriber.
"""

import logging
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import final

import zmq

from ..errors import InputError, PublishError
from .messages import (
    Encoding,
    FixMessage,
    Heartbeat,
    decode_fix,
    decode_heartbeat,
    encode,
)

# TCP on the loopback: the kernel refuses a second publisher (an ipc bind takes the path over
# without a word), no file is left behind, and it reaches into containers.
DEFAULT_ENDPOINT = "tcp://127.0.0.1:5556"
FIX_TOPIC = b"skyfix/fix/v1"
HEARTBEAT_TOPIC = b"skyfix/heartbeat/v1"
HEARTBEAT_PERIOD_S = 1.0
QUEUE_MESSAGES = 256  # per subscriber; several seconds of frames, after which fixes are dropped
LINGER_MS = 200  # to hand the last fixes over at the end
SUBSCRIBE = b"\x01"  # first byte of a subscription, RFC 29/PUBSUB of ZeroMQ
MS_PER_S = 1000

log = logging.getLogger(__name__)


@final
class Publisher:
    """Binds an endpoint and publishes fixes on it."""

    def __init__(self, endpoint: str = DEFAULT_ENDPOINT, encoding: Encoding = "msgpack") -> None:
        """Bind; raises PublishError."""
        self.session = uuid.uuid4().hex
        self._encoding: Encoding = encoding
        self._last_fix: bytes | None = None
        self._fixes = 0
        self._next_heartbeat_s = time.monotonic()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # every subscription, not only a topic's first
        self._socket.setsockopt(zmq.SNDHWM, QUEUE_MESSAGES)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        try:
            _bind(self._socket, endpoint)
        except PublishError:
            self.close()
            raise
        # the port itself where the endpoint left it open (tcp://127.0.0.1:*)
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def publish(self, message: FixMessage) -> None:
        """Send a fix to whoever listens, after the one before it to who has just come."""
        self._fixes += 1
        self._answer_subscriptions()
        self._last_fix = encode(message, self._encoding)
        self._send(FIX_TOPIC, self._last_fix)
        self._beat()

    def serve(self, timeout_s: float) -> bool:
        """Wait for a subscriber to the fixes, and say whether one came; for idle time."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._beat()
            if self._answer_subscriptions():
                return True
            now_s = time.monotonic()
            if now_s >= deadline_s:
                return False
            wait_s = min(deadline_s, self._next_heartbeat_s) - now_s
            self._socket.poll(max(1, int(wait_s * MS_PER_S)))

    def close(self) -> None:
        """Hand the last messages over and free the endpoint."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _answer_subscriptions(self) -> bool:
        """Repeat the last fix for every subscription to it that waits, and say whether any did."""
        came = False
        while self._socket.poll(0):
            request = self._socket.recv()
            prefix = request[len(SUBSCRIBE) :]
            if request.startswith(SUBSCRIBE) and FIX_TOPIC.startswith(prefix):
                came = True
                if self._last_fix is not None:
                    self._send(FIX_TOPIC, self._last_fix)
        return came

    def _beat(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_heartbeat_s:
            self._next_heartbeat_s = now_s + HEARTBEAT_PERIOD_S
            beat = Heartbeat(session=self.session, utc_ns=time.time_ns(), fixes=self._fixes)
            self._send(HEARTBEAT_TOPIC, encode(beat, self._encoding))

    def _send(self, topic: bytes, payload: bytes) -> None:
        self._socket.send_multipart([topic, payload], flags=zmq.NOBLOCK)  # XPUB drops, never waits


@final
class Subscriber:
    """Connects to an endpoint and receives what is published there, now or later."""

    def __init__(self, endpoint: str = DEFAULT_ENDPOINT, timeout_s: float | None = None) -> None:
        """Connect; iteration ends after `timeout_s` without a message, None = never."""
        self._timeout_s = timeout_s
        self._seen: tuple[str, int] | None = None  # session and sequence of the newest fix
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SUBSCRIBE, FIX_TOPIC)
        self._socket.setsockopt(zmq.SUBSCRIBE, HEARTBEAT_TOPIC)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise _bad_endpoint(endpoint, error) from error

    def receive(self, timeout_s: float | None = None) -> FixMessage | Heartbeat | None:
        """The next message that was not seen before; None after `timeout_s` without one."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self._socket.poll(_left_ms(deadline_s)):
            message = _decoded(self._socket.recv_multipart())
            if isinstance(message, FixMessage):
                key = (message.session, message.sequence)
                if key == self._seen:
                    continue
                self._seen = key
            if message is not None:
                return message
        return None

    def __iter__(self) -> Iterator[FixMessage]:
        """Fixes until none has come for the time limit."""
        while True:
            deadline_s = None if self._timeout_s is None else time.monotonic() + self._timeout_s
            message: FixMessage | Heartbeat | None = None
            while not isinstance(message, FixMessage):
                left_ms = _left_ms(deadline_s)
                message = self.receive(None if left_ms is None else left_ms / MS_PER_S)
                if message is None:
                    return
            yield message

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> "Subscriber":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _bind(bound: zmq.Socket[bytes], endpoint: str) -> None:
    """Bind, with a sentence for everything that can be wrong."""
    path = endpoint.removeprefix("ipc://") if endpoint.startswith("ipc://") else None
    if path is not None and _is_served(path):
        raise _taken(endpoint)
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise PublishError(f"{endpoint}: the folder of the socket does not exist. Create it.")
    try:
        bound.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise _taken(endpoint) from error
        raise _bad_endpoint(endpoint, error) from error


def _is_served(path: str) -> bool:
    """Whether a process listens on an ipc path; ZeroMQ itself would take the path over."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _taken(endpoint: str) -> PublishError:
    return PublishError(
        f"{endpoint} is in use by another process. End that one, or publish elsewhere, "
        "for example on tcp://127.0.0.1:5557."
    )


def _bad_endpoint(endpoint: str, error: zmq.ZMQError) -> PublishError:
    return PublishError(
        f"{endpoint!r} cannot be used ({error.strerror}). "
        f"Give an address like {DEFAULT_ENDPOINT} or ipc:///tmp/skyfix."
    )


def _left_ms(deadline_s: float | None) -> int | None:
    if deadline_s is None:
        return None
    return max(0, int((deadline_s - time.monotonic()) * MS_PER_S))


def _decoded(parts: list[bytes]) -> FixMessage | Heartbeat | None:
    """The message in the frames of one multipart, None for what is none of ours."""
    try:
        topic, payload = parts
        return decode_heartbeat(payload) if topic == HEARTBEAT_TOPIC else decode_fix(payload)
    except (InputError, ValueError) as error:
        log.warning("a message was skipped: %s", error)
        return None
