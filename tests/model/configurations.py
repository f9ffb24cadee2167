"""What is searched: all rules under every kind of fault, and each rule taken away.

Small ones run with the tests. Deep ones, and all the others again, run with `make prove`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.model import batches, classifying, keys, passes, skipping, state, telling, transactions
from tests.model.batches import BATCH, TEXT, Batches
from tests.model.classifying import OTHER, OURS, Classifying
from tests.model.explore import Harm, Verdict, explore
from tests.model.keys import Keys
from tests.model.passes import Passes
from tests.model.rules import Rules
from tests.model.scripts import IN, OUT, Text
from tests.model.skipping import GAP, UNREADABLE, Skipping
from tests.model.telling import Telling
from tests.model.transactions import Transactions
from tests.model.view import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.model.explore import Model, Outcome
    from tests.model.skipping import Place

STOP, START, STOP_AGAIN = Text(0, 1, OUT), Text(0, 2, IN), Text(0, 3, OUT)
OTHERS_STOP = Text(1, 1, OUT)
SAME_TIME = Text(0, 1, IN)


@dataclass(frozen=True)
class Configuration:
    """One search, and what it must find: `expected` is the harm, None where all must be clean.

    `exercises` are words of steps that must have been possible: a fault that never struck proves nothing.
    """

    name: str
    model: Model[Any]
    expected: Harm | None = None
    exercises: tuple[str, ...] = ()
    liveness: bool = False
    most_states: int = 1_000_000
    removed: str = ""

    def run(self) -> Outcome:
        """Search."""
        return explore(self.model, most_states=self.most_states, liveness=self.liveness)

    def surprise(self, outcome: Outcome) -> str | None:
        """Return what is not as expected, None if all is."""
        verdict = Verdict.CLEAN if self.expected is None else Verdict.BROKEN
        if (outcome.verdict, outcome.harm) != (verdict, self.expected):
            return f"expected {verdict}{f', {self.expected}' if self.expected else ''}; found {outcome}"
        if self.expected is None:
            for word in self.exercises:
                if not any(word in label for label in outcome.labels):
                    return f"no step {word!r} was ever possible"
        return None


# What each kind of fault looks like among the steps

CRASH = ("dies", "aborts", "commit is in doubt", "is committed", "is aborted")
MOVE = ("w1 receives", "is refused by the broker")
LOSS = ("flushed", "meta is lost", "outbox is lost", "is missing", "is damaged", "voucher begins it")
ROLLBACK = ("snapshot is made", "goes on with the snapshot", "may not vouch")
ANEW = ("begins the bucket anew",)
AGAIN = ("again",)
KEYS_LOST = ("set is lost", "state is lost", "`locations` is lost", "finds damage", "counts, and begins", "same data")

FREE: dict[str, Any] = {"in_order": False, "any_time": True}
"""Texts come into the ledger in any order, and vouchers may learn older times too."""
MARKED: dict[str, Any] = {"most_marks": 2, "most_samples": 1, "ledgers": (OURS,)}
"""One classifier that notes marks, and commits the newest one that is done; in the other searches it waits for all."""
TWO_MARKED = MARKED | {"ledgers": (OURS, OURS)}
MARKER = frozenset({(0, 1)})
"""The second record of inbound 0 is the end of a transaction."""
LATE_START = (Text(0, 2, OUT), Text(0, 1, IN))
ALL_KINDS = (STOP, OTHERS_STOP, START)
ROLLED = {"snapshots": 1, "rollbacks": 1}
COPIED: dict[str, Any] = {"copy": True, "ledgers": (OURS,)}
"""One classifier, and the copy of what its group has committed."""
DEEPEST: dict[str, Any] = {"most_states": 8_000_000}


def _split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the search, and those of the model."""
    of_search = ("expected", "exercises", "liveness", "most_states")
    search = {name: value for name, value in options.items() if name in of_search}
    return search, {name: value for name, value in options.items() if name not in of_search}


def _view(name: str, *texts: Text, **options: Any) -> Configuration:
    """Return a search of the view's model; options are those of faults, of the model, and of the search."""
    faults = state.Faults(**{f: options.pop(f) for f in state.Faults._fields if f in options})
    search, options = _split(options)
    model = View(texts, faults, **{"in_order": True, "any_time": False, **options})
    return Configuration(f"view: {name}", model, **search)


def _both(name: str, *ledgers: tuple[Text, ...], **options: Any) -> Configuration:
    """Return a search of the model of two buckets."""
    faults = transactions.Faults(**{f: options.pop(f) for f in transactions.Faults._fields if f in options})
    search, options = _split(options)
    return Configuration(f"two buckets: {name}", Transactions((ledgers[0], ledgers[1]), faults, **options), **search)


def _telling(name: str, end: int, **options: Any) -> Configuration:
    """Return a search of the model of how far changes are told."""
    faults = telling.Faults(**{f: options.pop(f) for f in telling.Faults._fields if f in options})
    search, options = _split(options)
    return Configuration(f"telling: {name}", Telling(end, faults, **options), **search)


def _classifying(name: str, *inbound: int, **options: Any) -> Configuration:
    """Return a search of the classifiers' model."""
    faults = classifying.Faults(**{f: options.pop(f) for f in classifying.Faults._fields if f in options})
    search, options = _split(options)
    return Configuration(f"classifiers: {name}", Classifying(inbound, faults, **options), **search)


def _keys(name: str, *texts: Text, **options: Any) -> Configuration:
    """Return a search of the model of single keys."""
    faults = keys.Faults(**{f: options.pop(f) for f in keys.Faults._fields if f in options})
    search, options = _split(options)
    return Configuration(f"keys: {name}", Keys(texts, faults, **options), **search)


def _passes(name: str, *texts: Text, **options: Any) -> Configuration:
    """Return a search of the model of confirmations."""
    faults = passes.Faults(**{f: options.pop(f) for f in passes.Faults._fields if f in options})
    search, options = _split(options)
    return Configuration(f"passes: {name}", Passes(texts, faults, **options), **search)


def _skipping(name: str, *places: Place, **options: Any) -> Configuration:
    """Return a search of the model of skips."""
    faults = skipping.Faults(**{f: options.pop(f) for f in skipping.Faults._fields if f in options})
    search, options = _split(options)
    return Configuration(f"skips: {name}", Skipping(places, faults, **options), **search)


def _batches(name: str, *topics: tuple[str, ...], **options: Any) -> Configuration:
    """Return a search of the model of skips in inbound."""
    faults = batches.Faults(**{f: options.pop(f) for f in batches.Faults._fields if f in options})
    search, options = _split(options)
    return Configuration(f"batches: {name}", Batches(topics, faults, **options), **search)


SMALL = [
    _view("STOP; crash, rebalance", STOP, crashes=1, rebalances=1, exercises=(*CRASH, *MOVE)),
    _view("STOP; rebalance, loss", STOP, rebalances=1, losses=1, exercises=(*MOVE, *LOSS)),
    _view("STOP and START of one time; loss, again", STOP, SAME_TIME, losses=1, duplicates=1),
    _view(
        "STOP; crash, loss, rollback",
        STOP,
        crashes=1,
        losses=1,
        snapshots=1,
        rollbacks=1,
        exercises=(*CRASH, *ROLLBACK),
    ),
    _view("STOP; begun anew twice, rebalance", STOP, restarts_anew=2, rebalances=1, exercises=(*ANEW, *MOVE)),
    _view(
        "STOP; two failovers, there and back", STOP, snapshots=1, rollbacks=2, run_ids_recur=True, exercises=ROLLBACK
    ),
    _view("STOP, START; two crashes, loss", STOP, START, crashes=2, losses=1, exercises=(*CRASH, *LOSS)),
    _view("STOP, START in any order; rollback", STOP, START, snapshots=1, rollbacks=1, exercises=ROLLBACK, **FREE),
    _view("START before its STOP; crash, loss, again", START, STOP, crashes=1, losses=1, duplicates=1, exercises=AGAIN),
    _view(
        "STOP, START, STOP; one change at a time, crash", STOP, START, STOP_AGAIN, crashes=1, limit=1, exercises=CRASH
    ),
    _view("two patients in any order; crash, loss", STOP, OTHERS_STOP, crashes=1, losses=1, exercises=LOSS, **FREE),
    _view("can finish: STOP; crash, loss", STOP, crashes=1, losses=1, liveness=True),
    _view("can finish: STOP, START; crash, rollback", STOP, START, crashes=1, snapshots=1, rollbacks=1, liveness=True),
    _view(
        "can finish: STOP; a stranger's transaction, crash",
        STOP,
        strangers=1,
        crashes=1,
        liveness=True,
        exercises=("stranger opens", "stranger's transaction ends", *CRASH),
    ),
    _both("crash, rebalance", (STOP,), (STOP,), crashes=1, rebalances=1, exercises=("hears", "refused", *CRASH)),
    _both("two rebalances", (STOP,), (STOP,), rebalances=2, exercises=("hears", "refused")),
    _both("crash, loss", (STOP,), (STOP,), crashes=1, losses=1, exercises=("bucket 0 is lost", "flushed", *CRASH)),
    _both("two changes in one; rebalance", (STOP, START), (STOP,), rebalances=1, exercises=("hears", "refused")),
    _both("can finish: crash, loss", (STOP,), (STOP,), crashes=1, losses=1, liveness=True),
    _telling(
        "can finish: a stranger, a loss, a zombie, crash",
        2,
        strangers=1,
        losses=1,
        rebalances=2,
        crashes=1,
        liveness=True,
        exercises=("in the group", "flushed", "is refused", "again"),
    ),
    _telling(
        "can finish: strangers in the group and its copy",
        2,
        strangers=1,
        intruders=1,
        losses=1,
        crashes=1,
        rebalances=1,
        liveness=True,
        exercises=("in the copy", "and stops", "an operator sets"),
    ),
    _telling(
        "can finish: upgrade, back, and again; a stranger then",
        3,
        upgrade=1,
        returns=1,
        strangers=1,
        crashes=2,
        rebalances=1,
        liveness=True,
        exercises=("the version before tells", "in the group"),
    ),
    _telling("can finish: upgrade of what cannot be", 2, upgrade=1, outside=True, strangers=1, liveness=True),
    _telling(
        "can finish: a stranger before the first worker, others tell; a zombie, crash",
        2,
        early=True,
        strangers=1,
        rebalances=1,
        crashes=1,
        liveness=True,
        exercises=("in the group", "of another bucket", "is refused", "again"),
    ),
    _telling(
        "can finish: two workers begin the copies; a zombie, crash, loss",
        2,
        beginners=1,
        rebalances=1,
        crashes=1,
        losses=1,
        liveness=True,
        exercises=("finds no copy", "writes 0", "is refused", "flushed", "again"),
    ),
    _telling(
        "can finish: everything expires while all are stopped",
        2,
        expiries=1,
        stops=2,
        stopped_for_days=True,
        liveness=True,
        exercises=("expires", "an operator sets"),
    ),
    _telling(
        "can finish: a change that no topic takes; crash, rebalance, loss",
        2,
        unsendable=frozenset({0}),
        crashes=1,
        rebalances=1,
        losses=1,
        liveness=True,
        exercises=("with a letter of 0", "is refused by the group", "flushed"),
    ),
    _classifying("zombie", 1, 0, zombies=1, exercises=("for dead", "hears")),
    _classifying("crash of the only one", 1, crashes=1, ledgers=(OURS,), exercises=("dies",)),
    _classifying("rebalance", 1, 0, rebalances=1, most_samples=1, exercises=("gives inbound",)),
    _classifying("one with another ledger; crash", 1, 0, crashes=1, ledgers=(OURS, OTHER), exercises=("refuses",)),
    _classifying("marks", 3, **MARKED, exercises=("notes (1,", "notes (2,")),
    _classifying("marks; rebalance", 2, rebalances=1, **MARKED, exercises=("notes", "gives inbound")),
    _classifying("marks; inbound is made anew, rebalance", 1, rebalances=1, recreations=1, **MARKED),
    _classifying("a partition is created", 1, 1, late_partitions=1, most_samples=1, exercises=("is created",)),
    _classifying(
        "can finish: crash, transactional producer", 2, 0, controls=MARKER, crashes=1, most_samples=1, liveness=True
    ),
    _classifying(
        "can finish: a transaction stays open",
        2,
        transactions=1,
        most_samples=1,
        ledgers=(OURS,),
        liveness=True,
        exercises=("stays open", "is committed", "is aborted"),
    ),
    _classifying("the clock is set back", 2, 0, clocks=1, ledgers=(OURS,), most_samples=3, exercises=("set back to",)),
    _classifying(
        "the clock is set back while a bucket is behind",
        2,
        clocks=1,
        keeps_claims=True,
        most_samples=1,
        ledgers=(OURS,),
        exercises=("set back to", "is behind", "comes to its end, and the voucher vouches", "nobody may vouch"),
    ),
    _classifying(
        "can finish: inbound is made anew",
        1,
        0,
        recreations=1,
        ledgers=(OURS,),
        liveness=True,
        exercises=("made anew", "is another", "finds no offset"),
    ),
    _classifying(
        "can finish: strangers in the group and in its copy, crash",
        1,
        strangers=2,
        crashes=1,
        liveness=True,
        exercises=("in the group", "in the copy", "commits 1 of inbound 0 again"),
        **COPIED,
    ),
    _classifying(
        "can finish: the group or its copy is silent; crash",
        1,
        silences=True,
        crashes=1,
        liveness=True,
        exercises=("the copy silent", "the group silent", "at 1, the"),
        **COPIED,
    ),
    _classifying("can finish: everything expires, a stranger", 1, expiries=1, strangers=1, liveness=True, **COPIED),
    _classifying(
        "a zombie takes the copy back, a stranger",
        1,
        zombies=1,
        strangers=1,
        copy=True,
        most_samples=1,
        exercises=("for dead", "in the copy"),
    ),
    _keys("keys", STOP, OTHERS_STOP, START, keys=2, restarts=1, liveness=True, exercises=KEYS_LOST),
    _keys("entries", STOP, OTHERS_STOP, entries=2, restarts=1, liveness=True, exercises=("is removed", "is deleted")),
    _keys("keys and entries, answers alone", *ALL_KINDS, keys=1, entries=1, restarts=1, looks_at_changes=False),
    _passes(
        "STOP, START, STOP; loss", STOP, START, STOP_AGAIN, losses=1, liveness=True, exercises=("flushed", "passes")
    ),
    _passes(
        "STOP, START, STOP; rollback", STOP, START, STOP_AGAIN, **ROLLED, exercises=(*ROLLBACK, "passes", "is over")
    ),
    _skipping(
        "unreadable, START; loss, moves, mistake",
        *(UNREADABLE, skipping.START, skipping.STOP_AGAIN),
        losses=1,
        moves=2,
        mistakes=1,
        exercises=("passes over", "an operator", "flushed", "moves", "somebody"),
    ),
    _skipping("STOP, gap, START; two mistakes", skipping.STOP, GAP, skipping.START, losses=1, mistakes=2),
    _skipping("can finish: unreadable, gap; losses, mistake", UNREADABLE, GAP, losses=2, mistakes=1, liveness=True),
    _batches(
        "can finish: text, batch, text; made anew, crashes, mistakes",
        (TEXT, BATCH, TEXT),
        (BATCH, TEXT),
        crashes=2,
        recreations=1,
        mistakes=2,
        liveness=True,
        exercises=("passes over", "an operator", "somebody", "dies", "made anew"),
    ),
]

DEEP = [
    _view("STOP; crash, rebalance, loss", STOP, crashes=1, rebalances=1, losses=1, exercises=(*CRASH, *MOVE, *LOSS)),
    _view("STOP, START; rebalance", STOP, START, rebalances=1, exercises=MOVE),
    _view("STOP and START of one time; crash, loss, again", STOP, SAME_TIME, crashes=1, losses=1, duplicates=1),
    _classifying("two texts; rebalance", 2, 0, rebalances=1, most_samples=1, exercises=("gives inbound",)),
    _classifying("two texts; crash of the only one", 1, 1, crashes=1, ledgers=(OURS,), exercises=("dies",)),
    _view("STOP; crash, rebalance, rollback", STOP, crashes=1, rebalances=1, snapshots=1, rollbacks=1, **DEEPEST),
    _view("STOP; rebalance, loss, rollback", STOP, rebalances=1, losses=1, snapshots=1, rollbacks=1, **DEEPEST),
    _view("STOP twice; crash, rebalance", STOP, duplicates=1, crashes=1, rebalances=1, **DEEPEST),
    _view("STOP, START; rebalance, loss", STOP, START, rebalances=1, losses=1, **DEEPEST),
    _view("STOP, START; crash, rebalance", STOP, START, crashes=1, rebalances=1, **DEEPEST),
    _view(
        "STOP, START in any order; crash, loss, rollback", STOP, START, crashes=1, losses=1, **ROLLED, **FREE, **DEEPEST
    ),
    _view("STOP in any order; rebalance, rollback", STOP, rebalances=1, **ROLLED, **FREE, **DEEPEST),
    _view("two patients; rebalance, loss", STOP, OTHERS_STOP, rebalances=1, losses=1, **DEEPEST),
    _view("can finish: STOP; crash, rebalance, loss", STOP, crashes=1, rebalances=1, losses=1, liveness=True),
    _both("crash, rebalance, loss", (STOP,), (STOP,), crashes=1, rebalances=1, losses=1, **DEEPEST),
    _both("two changes in one; crash, two rebalances", (STOP, START), (STOP,), crashes=1, rebalances=2, **DEEPEST),
    _classifying("marks; two rebalances", 2, rebalances=2, **MARKED, **DEEPEST),
    _classifying("marks; rebalance, zombie", 2, rebalances=1, zombies=1, **TWO_MARKED, **DEEPEST),
    _classifying("marks in two partitions; rebalance", 2, 1, rebalances=1, **MARKED, **DEEPEST),
    _classifying("crash of either", 1, 1, crashes=1, **DEEPEST),
    _classifying("two open transactions", 2, transactions=2, most_samples=1, ledgers=(OURS,), **DEEPEST),
    _classifying("rebalance in two partitions", 1, 1, rebalances=1, **DEEPEST),
    _classifying("two inbound topics, one made anew", 1, 1, recreations=1, ledgers=(OURS,), **DEEPEST),
    _classifying("inbound is made anew; zombie", 1, 0, recreations=1, zombies=1, most_samples=1, **DEEPEST),
    _classifying("zombie in two partitions", 1, 1, zombies=1, most_samples=1, **DEEPEST),
    _classifying("strangers, crash of either", 2, strangers=2, crashes=1, copy=True, most_samples=1, **DEEPEST),
    _classifying(
        "strangers, inbound is made anew", 1, strangers=1, recreations=1, copy=True, most_samples=1, **DEEPEST
    ),
    _classifying("zombie, crash", 2, 0, zombies=1, crashes=1, most_samples=1, **DEEPEST),
    _classifying(
        "one with another ledger; zombie, crash", 1, 1, zombies=1, crashes=1, ledgers=(OURS, OTHER), **DEEPEST
    ),
    _keys("three losses", *ALL_KINDS, STOP_AGAIN, keys=3, restarts=2, **DEEPEST),
    _skipping(
        "STOP, unreadable, gap, START; loss, moves, two mistakes",
        *(skipping.STOP, UNREADABLE, GAP, skipping.START),
        losses=1,
        moves=2,
        mistakes=2,
        **DEEPEST,
    ),
]


def _without(
    name: str,
    build: Callable[..., Configuration],
    *arguments: Any,
    expected: Harm | None,
    value: Any = False,
    variant: str = "",
    **options: Any,
) -> Configuration:
    """Return a search without one rule: small faults, for the shortest trace."""
    made = build("", *arguments, rules=Rules().without(**{name: value}), expected=expected, **options)
    label = name if value is False else f"{name}: {value}"
    model = made.name.split(":")[0] + variant
    return replace(made, name=f"without {label} ({model})", removed=name)


ANSWERS: dict[str, Any] = {"looks_at_changes": False, "expected": Harm.ALLOWED}

REMOVED = [
    # L1
    _without("skips_name_digest", _skipping, UNREADABLE, mistakes=1, **ANSWERS),
    _without("skips_name_ledger", _skipping, UNREADABLE, mistakes=1, **ANSWERS),
    _without("skips_unreadable_only", _skipping, skipping.STOP, mistakes=1, **ANSWERS),
    _without("skips_proven_gaps", _skipping, skipping.STOP, mistakes=1, **ANSWERS),
    _without("skips_need_stand", _skipping, UNREADABLE, moves=1, expected=Harm.LOST),
    _without("skips_untold_only", _skipping, UNREADABLE, skipping.START, moves=2, losses=1, expected=Harm.LOST),
    _without("skips_asked_again", _skipping, GAP, liveness=True, expected=Harm.STUCK),
    _without("skips_kept", _skipping, GAP, losses=1, liveness=True, expected=Harm.STUCK),
    # L2
    _without("continuity", _view, STOP, START, losses=1, expected=Harm.LOST),
    _without("drops_other_epochs", _view, STOP, losses=1, expected=Harm.LOST),
    _without("begins_empty", _view, STOP, START, losses=1, expected=Harm.TWICE),
    _without("counts_outbox", _view, STOP, losses=1, expected=Harm.LOST),
    _without("counts_members", _keys, STOP, keys=1, expected=Harm.ALLOWED),
    _without("counts_records", _keys, *LATE_START, entries=1, looks_at_changes=False, expected=Harm.ALLOWED),
    _without("counts_locations", _keys, STOP, START, keys=1, expected=Harm.LOST),
    _without("state_names_epoch", _keys, STOP, START, keys=1, expected=Harm.LOST),
    # L3
    _without("keeps_changes", _view, STOP, expected=Harm.LOST),
    _without("takes_at_once", _view, STOP, START, expected=Harm.LOST),
    _without("starts_at_published", _view, STOP, START, expected=Harm.TWICE),
    _without("up_to_last_taken", _view, STOP, START, limit=1, expected=Harm.LOST),
    _without("asks_when_settled", _view, STOP, rebalances=1, expected=Harm.TWICE),
    _without("after_doubt", _view, STOP, crashes=1, value="taken as aborted", expected=Harm.TWICE),
    _without(
        "after_doubt", _view, STOP, START, crashes=1, value="taken as done", stops_at_reset=False, expected=Harm.LOST
    ),
    _without("trims_after_commit", _view, STOP, crashes=1, stops_at_reset=False, expected=Harm.LOST),
    _without("one_token", _view, STOP, crashes=1, rebalances=1, expected=Harm.TWICE),
    _without("one_token", _both, (STOP,), (STOP,), rebalances=1, expected=Harm.TWICE),
    _without("fences_zombies", _view, STOP, rebalances=1, expected=Harm.TWICE),
    _without("fences_zombies", _both, (STOP,), (STOP,), rebalances=1, expected=Harm.TWICE),
    _without("asks_when_settled", _both, (STOP,), (STOP,), rebalances=1, expected=Harm.TWICE),
    _without("one_transaction", _view, STOP, crashes=1, expected=Harm.TWICE),
    _without("published_from_copy", _telling, 1, strangers=1, expected=Harm.LOST),
    _without("notes_told", _telling, 2, intruders=1, crashes=1, expected=Harm.LOST),
    _without("fenced_last", _telling, 1, rebalances=1, expected=Harm.TWICE),
    _without("fences_zombies", _telling, 1, rebalances=1, expected=Harm.TWICE),
    _without("asks_when_settled", _telling, 1, rebalances=1, expected=Harm.TWICE),
    _without("adopts_once", _telling, 1, strangers=1, expected=Harm.LOST),
    _without("adopts_in_bounds", _telling, 2, upgrade=1, outside=True, strangers=1, expected=Harm.TWICE),
    _without("begins_copies", _telling, 1, early=True, strangers=1, value="none", expected=Harm.LOST),
    _without("begins_copies", _telling, 1, early=True, strangers=1, value="own", expected=Harm.LOST),
    _without("checks_told", _telling, 1, expiries=1, stops=1, stopped_for_days=True, expected=Harm.TWICE),
    _without("renews", _telling, 1, expiries=1, losses=1, rebalances=1, expected=Harm.TWICE),
    _without("puts_aside", _telling, 1, unsendable=frozenset({0}), liveness=True, expected=Harm.STUCK),
    _without("letter_with_offset", _telling, 1, unsendable=frozenset({0}), crashes=1, expected=Harm.LOST),
    # L4
    _without("time_before_end", _view, STOP, expected=Harm.ALLOWED),
    _without("time_before_end", _classifying, 1, 0, expected=Harm.ALLOWED),
    _without("vouches_for_run", _view, STOP, snapshots=1, rollbacks=1, expected=Harm.ALLOWED),
    _without("replication_counts", _view, STOP, snapshots=1, rollbacks=2, run_ids_recur=True, expected=Harm.ALLOWED),
    _without("vouches_for_epoch", _view, STOP, losses=1, expected=Harm.ALLOWED),
    _without("vouches_at_end", _view, STOP, expected=Harm.ALLOWED),
    _without("ledger_as_held", _view, STOP, strangers=1, expected=Harm.ALLOWED),
    _without("refuses_ahead", _classifying, 2, clocks=1, ledgers=(OURS,), expected=Harm.ALLOWED),
    _without("counts_first", _keys, STOP, keys=1, restarts=1, expected=Harm.ALLOWED),
    _without("counts_again", _keys, STOP, keys=1, liveness=True, expected=Harm.STUCK),
    # L5
    _without("commits_acknowledged", _classifying, 1, 0, expected=Harm.ALLOWED),
    _without("commits_acknowledged", _classifying, 1, **MARKED, variant=", marks", expected=Harm.ALLOWED),
    _without("completes_its_mark", _classifying, 2, **MARKED, expected=Harm.ALLOWED),
    _without("completes_in_order", _classifying, 2, **MARKED, expected=Harm.ALLOWED),
    _without("leaves_marks", _classifying, 1, recreations=1, rebalances=1, **MARKED, expected=Harm.ALLOWED),
    _without("batch_skips_unreadable_only", _batches, (TEXT,), mistakes=1, expected=Harm.ALLOWED),
    _without("batch_skips_name_topic", _batches, (BATCH,), (BATCH,), recreations=1, expected=Harm.ALLOWED),
    _without("batch_skips_kept", _batches, (BATCH,), crashes=1, liveness=True, expected=Harm.STUCK),
    _without("commits_at_takeover", _classifying, 1, 0, liveness=True, expected=Harm.STUCK),
    _without("commits_at_end", _classifying, 2, 0, controls=MARKER, liveness=True, expected=Harm.STUCK),
    _without("resumes_at_committed", _classifying, 2, 0, crashes=1, expected=Harm.ALLOWED),
    _without("begins_at_first", _classifying, 1, 0, expected=Harm.ALLOWED),
    _without("resumes_at_noted", _classifying, 1, crashes=1, strangers=1, **COPIED, expected=Harm.ALLOWED),
    _without("counts_noted", _classifying, 1, strangers=1, **COPIED, expected=Harm.ALLOWED),
    _without("writes_again", _classifying, 1, strangers=2, **COPIED, liveness=True, expected=Harm.STUCK),
    _without("names_ledger", _classifying, 1, 0, ledgers=(OURS, OTHER), liveness=True, expected=Harm.STUCK),
    _without("refuses_other_ledger", _classifying, 1, 0, crashes=1, ledgers=(OURS, OTHER), expected=Harm.ALLOWED),
    _without("counts_own_ledger", _classifying, 1, 0, ledgers=(OURS, OTHER), expected=Harm.ALLOWED),
    _without("names_topic", _classifying, 1, recreations=1, ledgers=(OURS,), liveness=True, expected=Harm.STUCK),
    _without("rereads_other_topic", _classifying, 2, recreations=1, crashes=1, ledgers=(OURS,), expected=Harm.ALLOWED),
    _without(
        "notices_other_topic", _classifying, 1, 0, recreations=1, ledgers=(OURS,), liveness=True, expected=Harm.STUCK
    ),
    _without("counts_own_topic", _classifying, 1, 0, recreations=1, expected=Harm.ALLOWED),
    _without("clock_before_topics", _classifying, 1, 0, recreations=1, expected=Harm.ALLOWED),
    _without("unread_holds_back", _classifying, 1, 1, expected=Harm.ALLOWED),
    _without("every_partition", _classifying, 1, 1, expected=Harm.ALLOWED),
    _without("clock_before_sample", _classifying, 1, 0, expected=Harm.ALLOWED),
    _without("samples_as_held", _classifying, 2, transactions=1, expected=Harm.ALLOWED),
    _without("drops_claims", _classifying, 2, clocks=1, keeps_claims=True, ledgers=(OURS,), expected=Harm.ALLOWED),
    _without("lists_live", _classifying, 1, 1, late_partitions=1, expected=Harm.ALLOWED),
    # L6
    _without("guard_identity", _view, STOP, snapshots=1, rollbacks=1, expected=Harm.ALLOWED),
    _without("guard_at_once", _view, STOP, expected=Harm.ALLOWED),
    # Confirmations
    _without("passes_at_once", _passes, STOP, expected=Harm.CONFIRMED_TWICE),
    _without("passes_by_offset", _passes, STOP, START, STOP_AGAIN, expected=Harm.CONFIRMED_TWICE),
    _without("passes_by_kind", _passes, STOP, START, STOP_AGAIN, expected=Harm.CONFIRMED_UNWELCOME),
    _without("passes_in_window", _passes, STOP, expected=Harm.CONFIRMED_LATE),
    _without("passes_when_vouched", _passes, STOP, losses=1, expected=Harm.CONFIRMED_TWICE),
    _without("first_vouching_drops_passes", _passes, STOP, losses=1, expected=Harm.CONFIRMED_TWICE, variant=", loss"),
    _without(
        "first_vouching_drops_passes", _passes, STOP, **ROLLED, expected=Harm.CONFIRMED_TWICE, variant=", rollback"
    ),
]

HARMLESS = [
    _without("commits_as_member", _classifying, 1, zombies=1, expected=None, exercises=("for dead",)),
    _without(
        "commits_as_member",
        _classifying,
        1,
        zombies=1,
        ledgers=(OURS, OTHER),
        expected=None,
        variant=", other ledger",
    ),
]
"""Taken away, and nothing goes wrong: whoever commits says what is true of its own ledger, whenever it says it."""

DEEP_HARMLESS = [
    _without(
        "commits_as_member",
        _classifying,
        1,
        0,
        zombies=1,
        ledgers=ledgers,
        expected=None,
        exercises=("for dead",),
        variant=f", two partitions, {' and '.join(ledgers)}",
    )
    for ledgers in ((OURS, OURS), (OURS, OTHER))
]

OPEN = [
    _keys("a record is deleted, changes too", *ALL_KINDS, entries=1, expected=Harm.LOST),
    _telling("two workers begin; a stranger, crash", 1, beginners=1, strangers=1, crashes=1, expected=Harm.TWICE),
    _telling("everything expires after a crash", 1, expiries=1, crashes=1, stopped_for_days=True, expected=Harm.TWICE),
    _telling(
        "everything expires, and Redis is flushed",
        1,
        expiries=1,
        stops=1,
        losses=1,
        stopped_for_days=True,
        expected=Harm.TWICE,
    ),
]
"""All rules are kept, and something goes wrong all the same: README.md says what. Repaired, it belongs to SMALL."""
