"""The app learns that its client left: in every phase, by FIN, RST or half-close, with requests queued behind."""

from __future__ import annotations

import itertools
import select
import time
from collections.abc import Callable

import pytest
from front_peer import GET_OK, Peer, get, post, wait_until_gone

PHASES = ("queued", "whole", "stream", "silent")
BEHIND = {
    "alone": b"",
    "a GET behind": GET_OK,
    "60 GETs behind": GET_OK * 60,
    "a 300 KB body behind": post("/see", b"x" * 300_000),
    "garbage behind": b"\x00\x01\x02",
}
WAYS = {"close": Peer.close, "reset": Peer.reset, "half-close": Peer.half_close}
_numbers = itertools.count()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize("phase", PHASES)
def test_the_app_is_told_that_its_client_left(
    front: int, phase: str, behind: bytes, way: Callable[[Peer], object]
) -> None:
    name = f"hangup-{next(_numbers)}"
    with Peer(front) as peer:
        peer.send(get(f"/{phase}?name={name}"))
        if phase in {"stream", "silent"}:
            peer.receive()
        peer.send(behind)
        time.sleep(0.02)
        way(peer)
        assert wait_until_gone(front, name) == phase


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux shows a hang-up behind unread input")
@pytest.mark.parametrize("behind", [GET_OK * 60, b"\x00" * 20_000], ids=["requests", "garbage"])
def test_the_app_is_told_also_when_no_more_input_is_taken(hurried: int, behind: bytes) -> None:
    name = f"paused-{next(_numbers)}"
    with Peer(hurried) as peer:
        peer.send(get(f"/queued?name={name}"))
        for _ in range(3):
            time.sleep(0.02)
            peer.send(behind)
        peer.close()
        assert wait_until_gone(hurried, name) == "queued"


def test_the_app_of_a_request_that_was_queued_at_first_is_told(front: int) -> None:
    name = f"was-queued-{next(_numbers)}"
    with Peer(front) as peer:
        peer.send(get("/whole?s=0.1") + get(f"/queued?name={name}") + GET_OK)
        assert peer.answer().status == 200
        time.sleep(0.02)
        peer.close()
        assert wait_until_gone(front, name) == "queued"


def test_an_app_that_waits_to_send_is_let_go(front: int) -> None:
    with Peer(front, receive_buffer=4096) as peer:
        peer.send(get("/blind?name=blind"))
        time.sleep(0.2)
        peer.half_close()
        assert wait_until_gone(front, "blind") == "blind"
