"""What open calls have reserved of budgets, in the transaction of their ledger lines; decides no rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update

from dashbelle.errors import BudgetUsedUp
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
_held = select(holds).where(holds.c.request_id.in_(bindparam("ids", expanding=True)))
_forget = delete(holds).where(holds.c.request_id.in_(bindparam("ids", expanding=True)))


def budgets_in_force(connection: Connection) -> list[Budget]:
    """All of them."""
    return [
        Budget(row.id, LimitScope(row.scope), row.name, LimitKind(row.kind), BudgetPeriod(row.period), row.amount)
        for row in connection.execute(_budgets)
    ]


def take(connection: Connection, budgets: Sequence[Budget], calls: Sequence[Reservation]) -> list[BudgetUsedUp | None]:
    """Reserve what each call may cost at most, of every budget that it falls under; or of none, and say why."""
    priced = any(budget.kind is LimitKind.MONEY for budget in budgets)
    charges_of = partial(_charges_of, budgets, _all_prices(connection) if priced else {})
    charges = [charges_of(call) for call in calls]
    refusals: list[BudgetUsedUp | None] = [None] * len(calls)
    if _reserve_all(connection, [charge for of_call in charges for charge in of_call]) is not None:
        refusals = [_take_one(connection, call, of_call) for call, of_call in zip(calls, charges, strict=True)]
    taken = [of_call for of_call, refused in zip(charges, refusals, strict=True) if refused is None]
    rows = [charge.hold() for of_call in taken for charge in of_call]
    if rows:
        connection.execute(insert(holds), rows)
    return refusals


@dataclass(frozen=True, slots=True)
class _Charge:
    """What one call may cost at most in one balance."""

    request_id: str
    budget: Budget
    place: _Place
    price: Price
    asked: int

    def hold(self) -> dict[str, object]:
        return {
            **self.place.row(),
            "request_id": self.request_id,
            "amount": self.asked,
            "input_price": self.price.input,
            "output_price": self.price.output,
        }


class _Place(NamedTuple):
    """Which balance."""

    limit_id: int
    name: str
    period_name: str

    def row(self) -> dict[str, object]:
        return dict(self._asdict())

    def where(self) -> dict[str, object]:
        return {"of_limit": self.limit_id, "of_name": self.name, "of_period": self.period_name}


def _charges_of(budgets: Sequence[Budget], known: Mapping[str, Price], call: Reservation) -> list[_Charge]:
    charges = []
    for budget, name in covering(budgets, call.key_name, (call.model, call.served_model)):
        price = TOKENS_THEMSELVES if budget.kind is LimitKind.TOKENS else known.get(call.served_model, FREE)
        asked = price.of(call.input_tokens, call.max_output_tokens)
        place = _Place(budget.id, name, period_name(budget.period, call.started_at))
        charges.append(_Charge(call.request_id, budget, place, price, asked))
    return charges


def _all_prices(connection: Connection) -> dict[str, Price]:
    return {row.model: Price(row.input_price, row.output_price) for row in connection.execute(select(prices))}


def _take_one(connection: Connection, call: Reservation, charges: Sequence[_Charge]) -> BudgetUsedUp | None:
    full = _reserve_all(connection, charges)
    if full is None:
        return None
    balance = connection.execute(_balance, full.place.where()).one_or_none()
    known = Balance(0, 0) if balance is None else Balance(*balance)
    return refusal(full.budget, full.place.name, known, full.asked, call.started_at)


def _reserve_all(connection: Connection, charges: Sequence[_Charge]) -> _Charge | None:
    """Reserve the sums of all charges, or nothing; then one of them is told whose balance has no room."""
    sums: Counter[_Place] = Counter()
    for charge in charges:
        sums[charge.place] += charge.asked
    done: list[_Place] = []
    for charge in {each.place: each for each in charges}.values():
        if not _reserve_at(connection, charge.place, sums[charge.place], charge.budget.amount):
            for place in done:
                connection.execute(_spend, {**place.where(), "held": sums[place], "cost": 0})
            return charge
        done.append(charge.place)
    return None


def _reserve_at(connection: Connection, place: _Place, asked: int, amount: int) -> bool:
    if connection.execute(_reserve, {**place.where(), "asked": asked}).rowcount == 1:
        return True
    if asked > amount or connection.execute(_balance, place.where()).one_or_none() is not None:
        return False
    connection.execute(insert(spending), {**place.row(), "spent": 0, "reserved": asked})
    return True


def settle(connection: Connection, settled: Sequence[Settlement]) -> None:
    """Turn what these calls had reserved into what they cost, by the prices of the time when they were reserved."""
    by_id = {settlement.request_id: settlement for settlement in settled}
    rows = connection.execute(_held, {"ids": list(by_id)}).all()
    held: Counter[_Place] = Counter()
    costs: Counter[_Place] = Counter()
    for row in rows:
        one = by_id[row.request_id]
        place = _Place(row.limit_id, row.name, row.period_name)
        held[place] += row.amount
        costs[place] += Price(row.input_price, row.output_price).of(one.input_tokens, one.output_tokens)
    for place, amount in held.items():
        connection.execute(_spend, {**place.where(), "held": amount, "cost": costs[place]})
    connection.execute(_forget, {"ids": list(by_id)})
