"""What each subject has spent, from the entries of a ledger."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reticent.accounting import Charge, Composition, Filter, Mechanism, mechanism_from_dict
from reticent.errors import InputError
from reticent.governance.budget import Budget
from reticent.governance.chain import Entry

History = tuple[int, ...]
"""Numbers of the reservations that a subject is in."""


@dataclass(frozen=True)
class Spending:
    """Subjects with the same history: how many, in which runs, and the mechanism they were exposed to in all."""

    subjects: int
    runs: tuple[str, ...]
    mechanism: Composition | None


def effective_mechanisms(entries: Iterable[Entry]) -> dict[int, Mechanism | None]:
    """By reservation: the settled mechanism, None where nothing was released, else the whole reserved one.

    A reservation that was never settled (a crash) therefore stays charged in full.
    """
    mechanisms: dict[int, Mechanism | None] = {}
    by_run: dict[str, int] = {}
    for entry in entries:
        if entry.event == "reserve":
            by_run[entry.run] = entry.number
        if entry.event in ("reserve", "settle"):
            mechanisms[by_run[entry.run]] = (
                mechanism_from_dict(entry.mechanism) if entry.mechanism is not None else None
            )
    return mechanisms


def histories(connection: sqlite3.Connection, pseudonyms: Sequence[str] | None = None) -> Counter[History]:
    """How many subjects share each history; of the given pseudonyms (new ones have the empty history), or of all."""
    if pseudonyms is None:
        chosen = "WHERE pseudonym IS NOT NULL"
    else:
        connection.execute("CREATE TEMP TABLE IF NOT EXISTS asked (pseudonym TEXT PRIMARY KEY)")
        connection.execute("DELETE FROM asked")
        connection.executemany("INSERT INTO asked VALUES (?)", ((pseudonym,) for pseudonym in pseudonyms))
        chosen = "WHERE pseudonym IN (SELECT pseudonym FROM asked)"
    found: dict[str, list[int]] = {}
    for pseudonym, entry in connection.execute(f"SELECT pseudonym, entry FROM subjects {chosen} ORDER BY entry"):
        found.setdefault(pseudonym, []).append(entry)
    counts = Counter(tuple(numbers) for numbers in found.values())
    if pseudonyms is not None and len(pseudonyms) > len(found):
        counts[()] += len(pseudonyms) - len(found)
    return counts


def compose(history: History, mechanisms: Mapping[int, Mechanism | None]) -> Composition | None:
    """The mechanism of a history; None where nothing was released.

    Raises:
        InputError: its jobs have other neighbouring relations; `by_relation` keeps them apart.
    """
    parts = tuple(part for number in history if (part := mechanisms[number]) is not None)
    return Composition(parts) if parts else None


def by_relation(history: History, mechanisms: Mapping[int, Mechanism | None]) -> dict[str | None, History]:
    """A history's jobs by neighbouring relation, what released nothing with the first; no job is left out.

    Each part is a true statement of its own: nothing is known that would compose both.
    """
    relations = [part.neighbouring_relation if (part := mechanisms[number]) is not None else None for number in history]
    first = next((relation for relation in relations if relation is not None), None)
    found: dict[str | None, History] = {}
    for number, relation in zip(history, relations, strict=True):
        key = relation or first
        found[key] = (*found.get(key, ()), number)
    return found or {None: ()}


def require_room(budget: Budget | None, asked: Mechanism, counts: Counter[History], entries: Sequence[Entry]) -> None:
    """Refuse a job that would take any subject over its budget, or over one that an earlier job put on the subject.

    A filter proves something only if it rules over every later job: a budget once named stays in force.

    Raises:
        InputError: states the budget, what was spent, what is asked for, and how many subjects would exceed it; or
            earlier jobs used another unit, which cannot be added up.
    """
    mechanisms = effective_mechanisms(entries)
    earlier = {e.number: Budget.from_dict(e.budget) for e in entries if e.event == "reserve" and e.budget}
    if budget is not None:
        _require_room(budget, asked, counts, mechanisms, "or raise the budget")
    for limit in dict.fromkeys(earlier.values()):
        under = {h: n for h, n in counts.items() if any(earlier.get(number) == limit for number in h)}
        if limit != budget:
            _require_room(limit, asked, Counter(under), mechanisms, "(an earlier job set it; it stays in force)")


def _require_room(
    budget: Budget,
    asked: Mechanism,
    counts: Counter[History],
    mechanisms: Mapping[int, Mechanism | None],
    ending: str,
) -> None:
    rule = budget.filter()
    charges: dict[Mechanism, Charge] = {}
    new = _charge(rule, asked, charges)
    worst, exceeding = Charge(0.0), 0
    for history, subjects in counts.items():
        spent = Charge(0.0)
        for number in history:
            mechanism = mechanisms[number]
            if mechanism is None:
                continue
            _require_alike(mechanism, asked)
            spent += _charge(rule, mechanism, charges)
        if not rule.admits(spent + new):
            exceeding += subjects
            worst = max(worst, spent, key=lambda charge: charge.amount)
    if exceeding:
        raise InputError(
            f"budget {budget}: {exceeding} of its {counts.total()} subjects would exceed it (spent so far: "
            f"{rule.spent(worst)}; this job asks for {rule.spent(new)}).\n"
            f"Add noise, take fewer steps, or use other subjects {ending}."
        )


def _require_alike(spent: Mechanism, asked: Mechanism) -> None:
    if spent.unit != asked.unit:
        raise InputError(
            f"some subjects were used with unit {spent.unit} before, which does not add up with unit {asked.unit}; use "
            f"--unit {spent.unit} or other subjects"
        )
    if spent.neighbouring_relation != asked.neighbouring_relation:
        raise InputError(
            f"some subjects have a job under {spent.neighbouring_relation} before, which no budget adds up with one "
            f"under {asked.neighbouring_relation} (--private-activations); use other subjects"
        )


def _charge(rule: Filter, mechanism: Mechanism, known: dict[Mechanism, Charge]) -> Charge:
    if mechanism not in known:
        known[mechanism] = rule.charge(mechanism)
    return known[mechanism]
