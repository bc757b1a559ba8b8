"""GET /api/v1/models: every name that can be asked, and who really answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from asgi_client import AUTHORIZED, Gateway, Reply, error_of, same_error

from dashbelle.engine.catalog import Catalog, Served
from dashbelle.engine.echo import EchoEngine
from dashbelle.errors import InvalidApiKey, MethodNotSupported
from dashbelle.models.templates import BelleTemplate
from dashbelle.vocabulary import Defaults

PATH = "/api/v1/models"
BELLE = "belle-llama-13b-2m-v1"
GOLDEN = Path(__file__).parents[2] / "golden"
ECHO = Served("echo", EchoEngine(), BelleTemplate(), Defaults(1.0, 1.0, 0, 1.0, 100))
CATALOG = Catalog({"echo": ECHO}, {BELLE: "echo"}, {"absent-13b": "Pull it first."})


async def get(path: str = PATH, query: str = "") -> Reply:
    return await Gateway(catalog=CATALOG).request("GET", path, AUTHORIZED, query)


async def test_the_list_names_each_model_and_what_answers_for_it() -> None:
    reply = await get(query="page_no=1&page_size=10")
    assert (reply.status, reply.body) == (200, (GOLDEN / "models-list.json").read_bytes())


async def test_one_model_may_be_asked_for_by_path_or_by_query() -> None:
    by_path = await get(f"{PATH}/{BELLE}")
    assert (by_path.status, by_path.body) == (200, (GOLDEN / "models-one.json").read_bytes())
    by_query = await get(query=f"model={BELLE}&page_no=1&page_size=1")
    assert by_query.json["output"]["models"] == [by_path.json["output"]]


async def test_an_unknown_model_is_404_by_path_and_an_empty_list_by_query() -> None:
    assert error_of(await get(f"{PATH}/nothing"))[:2] == (404, "ModelNotFound")
    reply = await get(query="model=nothing&page_no=1&page_size=1")
    assert (reply.status, reply.body) == (200, (GOLDEN / "models-none.json").read_bytes())


async def test_a_known_model_without_weights_is_not_listed_and_says_how_to_get_them() -> None:
    assert "absent-13b" not in (await get()).body.decode()
    assert error_of(await get(f"{PATH}/absent-13b")) == (404, "ModelNotFound", "Pull it first.")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("page_size=1", [BELLE]),
        ("page_no=2&page_size=1", ["echo"]),
        ("page_no=3&page_size=1", []),
        ("", [BELLE, "echo"]),
    ],
)
async def test_the_list_has_pages(query: str, names: list[str]) -> None:
    output = (await get(query=query)).json["output"]
    assert [model["model"] for model in output["models"]] == names
    assert output["total"] == 2


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("page_no=0", "Range of page_no should be [1, 1000000]"),
        ("page_no=-1", "Range of page_no should be [1, 1000000]"),
        ("page_no=%D9%A3", "Range of page_no should be [1, 1000000]"),
        ("page_no=" + "9" * 5000, "Range of page_no should be [1, 1000000]"),
        ("page_size=", "Range of page_size should be [1, 1000]"),
        ("page_size=1001", "Range of page_size should be [1, 1000]"),
    ],
)
async def test_a_page_out_of_range_is_refused(query: str, message: str) -> None:
    assert error_of(await get(query=query)) == (400, "InvalidParameter", message)


@pytest.mark.parametrize("path", [PATH, f"{PATH}/echo"])
async def test_the_key_is_needed_and_only_get_is_served(path: str) -> None:
    app = Gateway(catalog=CATALOG)
    assert same_error(await app.request("GET", path), InvalidApiKey())
    assert same_error(await app.request("POST", path, AUTHORIZED), MethodNotSupported("POST"))
