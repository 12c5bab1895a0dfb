"""Publisher and subscribers over real sockets."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from skyfix.runtime.errors import PublishError
from skyfix.runtime.publish.bus import (
    DEFAULT_ENDPOINT,
    FIX_TOPIC,
    HEARTBEAT_TOPIC,
    Publisher,
    Subscriber,
)
from skyfix.runtime.publish.messages import FixMessage, Heartbeat, message_from_fix
from skyfix.runtime.types import Fix, Reason, Status

ANY_PORT = "tcp://127.0.0.1:*"
WAIT_S = 5.0  # generous: reached only where the test fails


def message(publisher: Publisher, sequence: int) -> FixMessage:
    fix = Fix(str(sequence), sequence * 100, sequence, Status.SEARCHING, Reason.BLANK, "m", "p")
    return message_from_fix(fix, publisher.session, None)


def next_fix(subscriber: Subscriber) -> FixMessage:
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        received = subscriber.receive(WAIT_S)
        if isinstance(received, FixMessage):
            return received
    raise AssertionError("no fix came")


@pytest.fixture(params=["tcp", "ipc"])
def publisher(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Publisher]:
    endpoint = ANY_PORT if request.param == "tcp" else f"ipc://{tmp_path}/fix"
    with Publisher(endpoint) as bound:
        yield bound


def test_fixes_arrive_in_order_and_once(publisher: Publisher) -> None:
    with Subscriber(publisher.endpoint) as subscriber:
        assert publisher.serve(WAIT_S)
        sent = [message(publisher, sequence) for sequence in range(20)]
        for fix in sent:
            publisher.publish(fix)
        assert [next_fix(subscriber) for _ in sent] == sent


def test_a_late_subscriber_gets_the_last_fix_at_once(publisher: Publisher) -> None:
    for sequence in range(3):
        publisher.publish(message(publisher, sequence))
    with Subscriber(publisher.endpoint) as subscriber:
        assert publisher.serve(WAIT_S)
        assert next_fix(subscriber).sequence == 2


def test_a_late_subscriber_is_served_by_the_next_publication(publisher: Publisher) -> None:
    publisher.publish(message(publisher, 0))
    with Subscriber(publisher.endpoint) as subscriber:
        assert publisher._socket.poll(int(WAIT_S * 1000))  # the subscription has arrived
        publisher.publish(message(publisher, 1))
        assert [next_fix(subscriber).sequence for _ in range(2)] == [0, 1]


def test_a_second_late_subscriber_does_not_repeat_a_fix_to_the_first(publisher: Publisher) -> None:
    publisher.publish(message(publisher, 0))
    with Subscriber(publisher.endpoint) as first, Subscriber(publisher.endpoint) as second:
        assert publisher.serve(WAIT_S)
        publisher.serve(0.3)  # the other one
        assert next_fix(first).sequence == next_fix(second).sequence == 0
        publisher.publish(message(publisher, 1))
        assert next_fix(first).sequence == next_fix(second).sequence == 1


def test_a_subscriber_outlives_a_publisher_that_starts_again(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/fix"
    with Subscriber(endpoint) as subscriber:
        for _ in range(2):
            with Publisher(endpoint) as publisher:
                publisher.publish(message(publisher, 0))
                deadline_s = time.monotonic() + WAIT_S
                received = None
                while not isinstance(received, FixMessage) and time.monotonic() < deadline_s:
                    publisher.serve(0.02)
                    received = subscriber.receive(0.02)  # ZeroMQ subscribes anew in this call
                assert isinstance(received, FixMessage)
                assert received.session == publisher.session


def test_iteration_ends_when_nothing_comes_for_the_time_limit(publisher: Publisher) -> None:
    with Subscriber(publisher.endpoint, timeout_s=0.3) as subscriber:
        assert publisher.serve(WAIT_S)
        for sequence in range(2):
            publisher.publish(message(publisher, sequence))
        assert [fix.sequence for fix in subscriber] == [0, 1]


def test_heartbeats_come_while_there_are_no_fixes(publisher: Publisher) -> None:
    with Subscriber(publisher.endpoint) as subscriber:
        assert publisher.serve(WAIT_S)
        publisher.serve(1.2)
        beat = subscriber.receive(WAIT_S)
    assert isinstance(beat, Heartbeat)
    assert (beat.session, beat.fixes) == (publisher.session, 0)
    assert abs(beat.utc_ns - time.time_ns()) < 60e9


def burst_s(publisher: Publisher) -> float:
    started_s = time.monotonic()
    for sequence in range(20_000):
        publisher.publish(message(publisher, sequence))
    return time.monotonic() - started_s


def test_publishing_never_waits_for_a_subscriber_that_does_not_read(publisher: Publisher) -> None:
    with Subscriber(publisher.endpoint):
        assert publisher.serve(WAIT_S)
        # a second; tried again, because a starved machine is not a publisher that waits
        assert any(burst_s(publisher) < WAIT_S for _ in range(5))


def test_json_on_request_is_readable_by_any_subscriber() -> None:
    with Publisher(ANY_PORT, encoding="json") as publisher, zmq.Context() as context:
        plain = context.socket(zmq.SUB)
        plain.linger = 0
        plain.connect(publisher.endpoint)
        plain.subscribe(b"skyfix/")
        assert publisher.serve(WAIT_S)
        publisher.publish(message(publisher, 4))
        topics = {}
        while FIX_TOPIC not in topics and plain.poll(int(WAIT_S * 1000)):
            topic, payload = plain.recv_multipart()
            topics[topic] = payload
        plain.close()
    assert topics[FIX_TOPIC].startswith(b'{"schema":1,')
    assert set(topics) <= {FIX_TOPIC, HEARTBEAT_TOPIC}


def test_foreign_messages_are_skipped() -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as foreign:
        foreign.linger = 0
        port = foreign.bind_to_random_port("tcp://127.0.0.1")
        with Subscriber(f"tcp://127.0.0.1:{port}") as subscriber:
            deadline_s = time.monotonic() + 0.5
            while time.monotonic() < deadline_s:
                foreign.send_multipart([FIX_TOPIC, b"not a fix"])
                foreign.send_multipart([FIX_TOPIC])
                assert subscriber.receive(0.02) is None


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
def test_another_process_subscribes(encoding: str) -> None:
    program = (
        "import sys; from skyfix.runtime.cli import main; "
        "main(['listen', sys.argv[1], '--json', '--count', '2'])"
    )
    with Publisher(ANY_PORT, "json" if encoding == "json" else "msgpack") as publisher:
        command = [sys.executable, "-c", program, publisher.endpoint]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
            assert publisher.serve(30.0)
            publisher.publish(message(publisher, 5))
            publisher.publish(message(publisher, 6))
            output, _ = listener.communicate(timeout=30)
    assert listener.returncode == 0
    first, second = output.splitlines()
    assert '"sequence":5,' in first
    assert '"sequence":6,' in second


def test_an_endpoint_in_use_is_refused_with_a_way_out(publisher: Publisher) -> None:
    with pytest.raises(PublishError, match="in use by another process"):
        Publisher(publisher.endpoint)
    with Subscriber(publisher.endpoint) as subscriber:  # the first goes on
        assert publisher.serve(WAIT_S)
        publisher.publish(message(publisher, 1))
        assert next_fix(subscriber).sequence == 1


def test_an_ipc_path_that_a_crash_left_behind_is_used_again(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "fix"))
    with Publisher(f"ipc://{tmp_path}/fix") as publisher:
        assert publisher.endpoint.endswith("/fix")


@pytest.mark.parametrize(
    "endpoint", ["", "5556", "tcp://", "tcp://127.0.0.1", "udp5://x", "tcp://1.2.3.4.5:99999"]
)
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(PublishError, match="cannot be used"):
        Publisher(endpoint)


def test_an_ipc_socket_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="folder of the socket"):
        Publisher(f"ipc://{tmp_path}/gone/fix")


def test_a_subscriber_refuses_an_endpoint_that_is_none() -> None:
    with pytest.raises(PublishError, match=DEFAULT_ENDPOINT):
        Subscriber("5556")
