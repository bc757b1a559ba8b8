"""Routing, transport, keys and headers over raw HTTP. Numbers are items of docs/conformance.md."""

from __future__ import annotations

import json
import uuid

import pytest
from raw_calls import (
    PATH,
    STREAM,
    TEXT,
    Refusal,
    ask,
    body,
    connection,
    get,
    head,
    post,
    raw_socket,
    refusal,
    until_closed,
)

from running_server import RunningServer

NO_KEY = Refusal(401, "InvalidApiKey", "Invalid API-key provided.")
LARGE = {**body(), "padding": "x" * 1_200_000}


def test_1_the_generation_path_answers_a_post(echo_server: RunningServer) -> None:
    reply = ask(echo_server)
    assert (reply.status_code, reply.http_version) == (200, "HTTP/1.1")
    assert reply.headers["content-type"] == "application/json"
    assert reply.json()["output"]["text"] == TEXT


@pytest.mark.parametrize("path", [PATH + "/", PATH.replace("/services", "//services"), PATH.replace("v1/", "v1")])
def test_2_other_ways_to_join_the_path_are_the_same_call(echo_server: RunningServer, path: str) -> None:
    reply = post(echo_server, body(), path=path)
    assert reply.status_code == 200
    assert reply.json()["output"]["text"] == TEXT


def test_3_a_get_is_refused_in_json(echo_server: RunningServer) -> None:
    expected = Refusal(400, "InvalidParameter", "Request method 'GET' is not supported.")
    assert refusal(get(echo_server, PATH)) == expected


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/nothing/at/all"])
def test_4_an_unknown_path_is_404_in_json(echo_server: RunningServer, path: str) -> None:
    told = refusal(post(echo_server, body(), path=path))
    assert (told.status, told.code) == (404, "NotFound")


def test_5_a_hundred_requests_go_over_one_connection(echo_server: RunningServer) -> None:
    headers = {"Authorization": f"Bearer {echo_server.key}", "Content-Type": "application/json"}
    with connection(echo_server) as kept:
        kept.connect()
        first = kept.sock
        for _ in range(100):
            kept.request("POST", PATH, json.dumps(body()), headers)
            assert json.loads(kept.getresponse().read())["output"]["text"] == TEXT
            assert kept.sock is first


def test_6_a_client_that_waits_for_100_continue_is_told_to(echo_server: RunningServer) -> None:
    raw = json.dumps(LARGE).encode()
    with raw_socket(echo_server) as opened:
        opened.sendall(head(echo_server, len(raw), "Expect: 100-continue", "Connection: close"))
        assert opened.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        opened.sendall(raw)
        assert until_closed(opened).startswith(b"HTTP/1.1 200 ")


def test_7_a_chunked_body_is_read(echo_server: RunningServer) -> None:
    headers = {"Authorization": f"Bearer {echo_server.key}", "Content-Type": "application/json"}
    raw = json.dumps(LARGE).encode()
    pieces = [raw[:10], raw[10:11], raw[11:]]
    with connection(echo_server) as opened:
        opened.request("POST", PATH, iter(pieces), {**headers, "Transfer-Encoding": "chunked"}, encode_chunked=True)
        assert json.loads(opened.getresponse().read())["output"]["text"] == TEXT


def test_8_a_body_over_the_limit_is_413_in_json_and_harms_nobody(echo_server: RunningServer) -> None:
    told = refusal(post(echo_server, b" " * 20_000_000))
    assert told == Refusal(413, "BadRequest.TooLarge", "Payload Too Large")
    assert ask(echo_server).status_code == 200


@pytest.mark.parametrize(("version", "fields"), [("1.0", []), ("1.1", ["Connection: close"])])
def test_9_a_client_that_wants_one_reply_gets_it_whole(
    echo_server: RunningServer, version: str, fields: list[str]
) -> None:
    raw = json.dumps(body()).encode()
    with raw_socket(echo_server) as opened:
        opened.sendall(head(echo_server, len(raw), *fields, version=version) + raw)
        reply_head, _, reply_body = until_closed(opened).partition(b"\r\n\r\n")
    assert reply_head.split(b" ")[1] == b"200"
    assert json.loads(reply_body)["output"]["text"] == TEXT


def test_11_no_key_is_401_in_json(echo_server: RunningServer) -> None:
    assert refusal(post(echo_server, body(), {"Authorization": ""})) == NO_KEY


@pytest.mark.parametrize("authorization", ["Bearer sk-wrong", "Basic c2s6c2s=", "Bearer", "KEY"])
def test_12_a_wrong_key_or_another_scheme_is_the_same_401(echo_server: RunningServer, authorization: str) -> None:
    sent = authorization.replace("KEY", echo_server.key)
    assert refusal(post(echo_server, body(), {"Authorization": sent})) == NO_KEY


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_12_the_scheme_is_read_in_any_case(echo_server: RunningServer, scheme: str) -> None:
    assert post(echo_server, body(), {"Authorization": f"{scheme} {echo_server.key}"}).status_code == 200


@pytest.mark.parametrize("headers", [{}, STREAM, {"Authorization": "Bearer sk-wrong"}])
def test_15_the_header_and_the_body_name_one_request(echo_server: RunningServer, headers: dict[str, str]) -> None:
    reply = post(echo_server, body(), headers)
    assert f'"request_id":"{reply.headers["x-request-id"]}"' in reply.text


def test_16_each_request_has_a_uuid_of_its_own(echo_server: RunningServer) -> None:
    replies = [ask(echo_server), ask(echo_server), post(echo_server, b"["), post(echo_server, b"[")]
    ids = [reply.json()["request_id"] for reply in replies]
    assert [str(uuid.UUID(each)) for each in ids] == ids
    assert len(set(ids)) == 4


@pytest.mark.parametrize("content_type", ["application/json;charset=UTF-8", "APPLICATION/JSON; charset=utf-8", ""])
def test_19_json_may_be_labelled_with_parameters_or_not_at_all(echo_server: RunningServer, content_type: str) -> None:
    assert post(echo_server, body(), {"Content-Type": content_type}).status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
def test_19_another_type_of_body_is_refused(echo_server: RunningServer, content_type: str) -> None:
    told = refusal(post(echo_server, body(), {"Content-Type": content_type}))
    assert (told.status, told.code) == (400, "InvalidParameter")


def test_90_an_unknown_task_is_unknown_and_cannot_be_cancelled(echo_server: RunningServer) -> None:
    shown = get(echo_server, "/api/v1/tasks/unknown")
    assert (shown.status_code, shown.json()["output"]["task_status"]) == (200, "UNKNOWN")
    told = refusal(post(echo_server, b"", path="/api/v1/tasks/unknown/cancel"))
    assert (told.status, told.code) == (400, "UnsupportedOperation")


def test_91_an_asynchronous_call_is_refused(echo_server: RunningServer) -> None:
    told = refusal(post(echo_server, body(), {"X-DashScope-Async": "enable"}))
    assert (told.status, told.code) == (403, "AccessDenied")
    assert "asynchronous" in told.message
