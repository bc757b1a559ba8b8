"""What `frame-cost` is compared with, run as `python -m benchmarks.bare_events`: same bytes, same pace, no service."""

from __future__ import annotations

import asyncio
import re
import signal

import uvloop

from benchmarks.paced_echo import TOKEN_S

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream;charset=UTF-8\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = (
    b'id:%d\nevent:result\n:HTTP_STATUS/200\ndata:{"output":{"finish_reason":"null","text":"x"},'
    b'"usage":{"total_tokens":%d,"input_tokens":501,"output_tokens":%d},'
    b'"request_id":"00000000-0000-0000-0000-000000000000"}\n\n'
)
_MAX_TOKENS = re.compile(rb'"max_tokens": (\d+)')


class _Paced(asyncio.Protocol):
    """Answers any request that names max_tokens with as many events."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as TCP makes it
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        asked = _MAX_TOKENS.search(data)
        if asked is not None:
            self._task = asyncio.create_task(self._speak(int(asked[1])))

    async def _speak(self, events: int) -> None:
        self._transport.write(_HEAD)
        for number in range(1, events + 1):
            await asyncio.sleep(TOKEN_S)
            event = _EVENT % (number, 501 + number, number)
            self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        self._transport.write(b"0\r\n\r\n")


async def _serve() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    server = await loop.create_server(_Paced, "127.0.0.1", 0, backlog=2048)
    port = server.sockets[0].getsockname()[1]
    print(f"Dashbelle bench is ready on http://127.0.0.1:{port}", flush=True)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    uvloop.run(_serve())
