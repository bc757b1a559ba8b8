"""Keys: shown once, stored as a digest, refused alike, and gone within a second."""

from __future__ import annotations

import hashlib
import hmac
import stat
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from dashbelle.admission.keys import (
    REMEMBERED_KEYS,
    REMEMBERED_S,
    BadKeyName,
    KeyNameTaken,
    Keys,
    NoSuchKey,
    PepperUnusable,
    load_pepper,
)
from dashbelle.errors import InvalidApiKey
from dashbelle.store import Store
from dashbelle.vocabulary import Caller

PEPPER = bytes(range(32))
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds - 1000.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store.open(f"sqlite:///{tmp_path}/dashbelle.db") as store:
        yield store


@pytest.fixture
def keys(store: Store, clock: Clock) -> Keys:
    return Keys(store, PEPPER, clock=clock, now=clock.now)


def elsewhere(store: Store, clock: Clock) -> Keys:
    """The keys as another process sees them: the same database, its own memory."""
    return Keys(store, PEPPER, clock=clock, now=clock.now)


def all_bytes(folder: Path) -> bytes:
    """Of the database and its write-ahead log."""
    files = list(folder.iterdir())
    assert any(file.name.endswith("-wal") for file in files)
    return b"".join(file.read_bytes() for file in files)


async def test_a_new_key_has_256_random_bits_and_says_who_calls(keys: Keys) -> None:
    secret = await keys.create("laptop")
    assert secret.startswith("sk-")
    assert len(bytes.fromhex(secret.removeprefix("sk-"))) == 32
    assert secret != await keys.create("other")
    assert await keys.identify(secret) == Caller(key_id=1, key_name="laptop")


async def test_only_a_keyed_digest_and_a_prefix_are_stored(keys: Keys, store: Store) -> None:
    def stored(connection: Connection) -> dict[str, object]:
        return dict(connection.execute(text("SELECT * FROM keys")).mappings().one())

    secret = await keys.create("laptop")
    row = await store.read(stored)
    assert row["digest"] == hmac.digest(PEPPER, secret.encode(), "sha256")
    assert row["digest"] != hashlib.sha256(secret.encode()).digest()
    assert row["prefix"] == secret[:6]
    assert secret not in str(row)


async def test_the_files_hold_no_usable_part_of_a_key(keys: Keys, tmp_path: Path) -> None:
    secrets = [await keys.create(f"key-{number}") for number in range(20)]
    for secret in secrets:
        await keys.identify(secret)
    raw = all_bytes(tmp_path)
    assert b"key-19" in raw
    for secret in secrets:
        assert secret[3:].encode() not in raw
        assert secret[6:16].encode() not in raw
        assert bytes.fromhex(secret[3:])[2:8] not in raw
    assert PEPPER not in raw


async def test_missing_malformed_unknown_and_revoked_keys_are_refused_alike(keys: Keys) -> None:
    revoked = await keys.create("gone")
    await keys.revoke("gone")
    unknown = "sk-" + "0" * 64
    messages = set()
    for secret in (None, "", "sk-", revoked.upper(), f"{revoked}\n", f" {revoked}", "密钥", unknown, revoked):
        with pytest.raises(InvalidApiKey) as caught:
            await keys.identify(secret)
        messages.add((str(caught.value), caught.value.retry_after_s))
    assert messages == {("Invalid API-key provided.", None)}


async def test_a_key_of_another_pepper_is_refused(keys: Keys, store: Store) -> None:
    secret = await keys.create("laptop")
    with pytest.raises(InvalidApiKey):
        await Keys(store, bytes(32)).identify(secret)


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "9" * 64])
async def test_a_good_name_is_taken(keys: Keys, name: str) -> None:
    await keys.create(name)
    assert [record.name for record in await keys.list()] == [name]


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a\n", "a" * 65, "名字", "=1+1", "a/../b"])
async def test_a_bad_name_is_refused_with_the_rule(keys: Keys, name: str) -> None:
    with pytest.raises(BadKeyName, match="use 1 to 64 letters"):
        await keys.create(name)
    assert await keys.list() == []


async def test_a_live_name_is_taken_and_a_revoked_one_is_free(keys: Keys) -> None:
    await keys.create("laptop")
    with pytest.raises(KeyNameTaken, match="'laptop'"):
        await keys.create("laptop")
    await keys.revoke("laptop")
    again = await keys.create("laptop")
    assert (await keys.identify(again)).key_id == 2


async def test_the_list_shows_when_keys_were_made_and_revoked(keys: Keys, clock: Clock) -> None:
    secret = await keys.create("laptop")
    clock.seconds += 60
    await keys.revoke("laptop")
    await keys.create("phone")
    old, new = await keys.list()
    assert (old.name, old.prefix, old.created_at) == ("laptop", secret[:6], NOW)
    assert old.revoked_at == NOW + timedelta(seconds=60)
    assert (new.name, new.revoked_at) == ("phone", None)


async def test_revoking_twice_or_a_stranger_is_refused(keys: Keys) -> None:
    await keys.create("laptop")
    await keys.revoke("laptop")
    for name in ("laptop", "nobody"):
        with pytest.raises(NoSuchKey, match=name):
            await keys.revoke(name)


async def test_a_revoked_key_is_refused_at_once_here(keys: Keys) -> None:
    secret = await keys.create("laptop")
    await keys.identify(secret)
    await keys.revoke("laptop")
    with pytest.raises(InvalidApiKey):
        await keys.identify(secret)


async def test_a_key_revoked_elsewhere_is_refused_after_its_half_second(keys: Keys, store: Store, clock: Clock) -> None:
    secret = await keys.create("laptop")
    await keys.identify(secret)
    await elsewhere(store, clock).revoke("laptop")
    clock.seconds += REMEMBERED_S - 0.01
    assert (await keys.identify(secret)).key_name == "laptop"  # remembered: the database was not asked
    clock.seconds += 0.01
    with pytest.raises(InvalidApiKey):
        await keys.identify(secret)
    assert REMEMBERED_S < 1


async def test_use_does_not_lengthen_the_half_second(keys: Keys, store: Store, clock: Clock) -> None:
    secret = await keys.create("laptop")
    await keys.identify(secret)
    await elsewhere(store, clock).revoke("laptop")
    for _ in range(4):
        clock.seconds += REMEMBERED_S / 5
        await keys.identify(secret)
    clock.seconds += REMEMBERED_S / 5
    with pytest.raises(InvalidApiKey):
        await keys.identify(secret)


async def test_a_refused_key_is_not_remembered(keys: Keys, store: Store) -> None:
    secret = await keys.create("laptop")
    await store.transact(lambda connection: connection.execute(text("UPDATE keys SET revoked_at = created_at")).close())
    with pytest.raises(InvalidApiKey):
        await keys.identify(secret)
    await store.transact(lambda connection: connection.execute(text("UPDATE keys SET revoked_at = NULL")).close())
    assert (await keys.identify(secret)).key_name == "laptop"


async def test_what_is_remembered_is_bounded(keys: Keys) -> None:
    caller = Caller(1, "k")
    for number in range(2 * REMEMBERED_KEYS):
        keys._remember(number.to_bytes(32), caller, 2000.0)
    assert len(keys._remembered) == REMEMBERED_KEYS
    assert (2 * REMEMBERED_KEYS - 1).to_bytes(32) in keys._remembered


async def test_no_secret_shows_in_a_repr(keys: Keys) -> None:
    secret = await keys.create("laptop")
    await keys.identify(secret)
    shown = repr(keys) + repr(await keys.list()) + repr(keys._remembered)
    assert secret[6:] not in shown
    assert repr(PEPPER)[2:-1] not in shown


def test_the_pepper_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    pepper = load_pepper(home)
    assert len(pepper) == 32
    assert load_pepper(home) == pepper
    assert stat.S_IMODE((home / "pepper").stat().st_mode) == 0o600
    assert [file.name for file in home.iterdir()] == ["pepper"]


def test_all_who_make_the_pepper_at_the_same_time_get_the_same_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        peppers = set(pool.map(load_pepper, [tmp_path] * 64))
    assert len(peppers) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["pepper"]


def test_a_damaged_pepper_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pepper").write_bytes(b"short")
    with pytest.raises(PepperUnusable, match="has 5 bytes instead of 32"):
        load_pepper(tmp_path)
    assert (tmp_path / "pepper").read_bytes() == b"short"


def test_a_home_that_cannot_hold_a_pepper_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PepperUnusable, match="file/pepper"):
        load_pepper(tmp_path / "file")
