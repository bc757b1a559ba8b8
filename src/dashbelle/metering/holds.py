"""What open calls have reserved of budgets, in the transaction of their ledger lines; decides no rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update

from dashbelle.metering.budgets import (
    FREE,
    TOKENS_THEMSELVES,
    Balance,
    Budget,
    Price,
    covering,
    period_name,
    refusal,
)
from dashbelle.metering.lines import Reservation, Settlement
from dashbelle.metering.tables import holds, limits, prices, spending
from dashbelle.vocabulary import BudgetPeriod, LimitKind, LimitScope

_is_budget = limits.c.kind.in_([LimitKind.TOKENS.value, LimitKind.MONEY.value])
any_budgets = exists().where(_is_budget)
"""Whether `take` has anything to do."""
any_holds = exists(select(holds.c.request_id))
"""Whether `settle` has."""
_budgets = select(*limits.c["id", "scope", "name", "kind", "period", "amount"]).where(_is_budget)
_one = (
    (spending.c.limit_id == bindparam("of_limit"))
    & (spending.c.name == bindparam("of_name"))
    & (spending.c.period_name == bindparam("of_period"))
)
_amount = select(limits.c.amount).where(limits.c.id == spending.c.limit_id).scalar_subquery()
# One statement: between a check and a change that are two, another call could come.
_reserve = (
    update(spending)
    .where(_one, spending.c.spent + spending.c.reserved + bindparam("asked") <= _amount)
    .values(reserved=spending.c.reserved + bindparam("asked"))
)
_balance = select(spending.c.spent, spending.c.reserved).where(_one)
_spend = (
    update(spending)
    .where(_one)
    .values(reserved=spending.c.reserved - bindparam("held"), spent=spending.c.spent + bindparam("cost"))
)
_price = select(prices.c.input_price, prices.c.output_price).where(prices.c.model == bindparam("of_model"))
_held = select(holds).where(holds.c.request_id.in_(bindparam("ids", expanding=True)))
_forget = delete(holds).where(holds.c.request_id.in_(bindparam("ids", expanding=True)))


def budgets_in_force(connection: Connection) -> list[Budget]:
    """All of them."""
    return [
        Budget(row.id, LimitScope(row.scope), row.name, LimitKind(row.kind), BudgetPeriod(row.period), row.amount)
        for row in connection.execute(_budgets)
    ]


def take(connection: Connection, budgets: Sequence[Budget], reservation: Reservation) -> None:
    """Reserve what the call may cost at most, of every budget that it falls under, or of none: BudgetUsedUp."""
    covered = covering(budgets, reservation.key_name, (reservation.model, reservation.served_model))
    if not covered:
        return
    with connection.begin_nested():
        for budget, name in covered:
            _take_one(connection, budget, name, reservation)


def _take_one(connection: Connection, budget: Budget, name: str, reservation: Reservation) -> None:
    price = _price_in(connection, budget, reservation.served_model)
    asked = price.of(reservation.input_tokens, reservation.max_output_tokens)
    place = {
        "of_limit": budget.id,
        "of_name": name,
        "of_period": period_name(budget.period, reservation.started_at),
    }
    if connection.execute(_reserve, {**place, "asked": asked}).rowcount == 0:
        balance = connection.execute(_balance, place).one_or_none()
        if balance is not None or asked > budget.amount:
            known = Balance(*balance) if balance is not None else Balance(0, 0)
            raise refusal(budget, name, known, asked, reservation.started_at)
        connection.execute(insert(spending), _row(place, spent=0, reserved=asked))
    hold = {"request_id": reservation.request_id, "amount": asked}
    connection.execute(insert(holds), _row(place, **hold, input_price=price.input, output_price=price.output))


def _row(place: Mapping[str, Any], **more: object) -> dict[str, object]:
    return {"limit_id": place["of_limit"], "name": place["of_name"], "period_name": place["of_period"], **more}


def _price_in(connection: Connection, budget: Budget, model: str) -> Price:
    if budget.kind is LimitKind.TOKENS:
        return TOKENS_THEMSELVES
    row = connection.execute(_price, {"of_model": model}).one_or_none()
    return FREE if row is None else Price(*row)


def settle(connection: Connection, settled: Sequence[Settlement]) -> None:
    """Turn what these calls had reserved into what they cost, by the prices of the time when they were reserved."""
    by_id = {settlement.request_id: settlement for settlement in settled}
    rows = connection.execute(_held, {"ids": list(by_id)}).all()
    held: Counter[tuple[int, str, str]] = Counter()
    costs: Counter[tuple[int, str, str]] = Counter()
    for row in rows:
        one = by_id[row.request_id]
        place = (row.limit_id, row.name, row.period_name)
        held[place] += row.amount
        costs[place] += Price(row.input_price, row.output_price).of(one.input_tokens, one.output_tokens)
    for place, amount in held.items():
        where = dict(zip(("of_limit", "of_name", "of_period"), place, strict=True))
        connection.execute(_spend, {**where, "held": amount, "cost": costs[place]})
    connection.execute(_forget, {"ids": list(by_id)})
