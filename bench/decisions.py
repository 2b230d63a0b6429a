"""How long one decision takes, by the number of rules, of models and of callers: `python bench/decisions.py`.

Times are those of the processor, so that what else the machine does makes little difference.

The table is what requests are decided by; Casbin is asked the same, for comparison. Callers are drawn anew for every
decision, so that nothing could be remembered of them.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
import tracemalloc
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from policies.callers import Account, Caller
from policies.document import PolicyFile
from policies.evaluate import Ask, evaluate, situation_of
from policies.proof import by_authority
from policies.rulebook import Rulebook, compile_rulebook
from policies.terms import AccountId, App, Catalogue, Credential, Model, ModelKey, Price, Tier, UserId

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
TIERS = ("free", "basic", "pro", "enterprise")


def catalogue(models: int) -> Catalogue:
    """Models of ten apps and four tiers."""
    made = {}
    for number in range(models):
        app, model_id = f"app-{number % 10}", f"model-{number}"
        key = ModelKey(f"{app}:{model_id}")
        made[key] = Model(key, app, model_id, model_id, "acme", Tier(TIERS[number % 4]), Price(1_000_000))
    apps = {f"app-{n}": App(f"app-{n}", "", "", "", "", "", True, False, False, n, "") for n in range(10)}
    return Catalogue(1, made, apps, ())


def rulebook(rules: int, things: Catalogue, seed: int = 7) -> Rulebook:
    """The ladder, and rules about users, tags, models, routes and units, of which few can be about any one call."""
    draw = random.Random(seed)
    keys = list(things.models)
    written: list[dict[str, object]] = [{"id": "ladder", "allow": "use", "who": {"tier": "at-least-model"}}]
    for number in range(rules - 1):
        who = [{"user": f"user-{number}"}, {"tag": f"tag-{number}"}, {"tag": f"vip-{number}", "credential": "api_key"}]
        rule: dict[str, object] = {"id": f"r{number}", "who": who[number % 3], "model": draw.choice(keys)}
        rule["deny" if number % 2 else "allow"] = "use"
        if number % 4 == 0:
            rule["when"] = "units.seconds > 10"
        if number % 5 == 0:
            rule["route"] = f"route-{number % 20}"
        written.append(rule)
    compiled = compile_rulebook([("bench", PolicyFile.model_validate({"version": 1, "rules": written}))], things)
    assert isinstance(compiled, Rulebook), compiled
    return compiled


def callers(count: int, of: int) -> list[Caller]:
    """Callers drawn from a population: no two decisions in a row are about the same one."""
    draw = random.Random(3)
    made = []
    for _ in range(count):
        number = draw.randrange(of)
        tags = frozenset({f"tag-{number}", f"vip-{number}"})
        credential = Credential.API_KEY if number % 2 else Credential.JWT
        made.append(Caller(UserId(f"user-{number}"), Account(AccountId(number), 0, tags=tags), credential))
    return made


def measure(rules: int, models: int, population: int, decisions: int) -> dict[str, object]:
    """Microseconds for one decision: the median of five rounds, and the slowest one; and the memory of the rulebook."""
    things = catalogue(models)
    started = time.process_time()
    rulebook(rules, things)
    compiling = time.process_time() - started
    gc.collect()
    tracemalloc.start()
    book = rulebook(rules, things)
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    asking = callers(decisions, population)
    keys = random.Random(5).choices(list(things.models), k=decisions)
    asks = [Ask(key, {"seconds": Decimal(5)}, "make", f"route-{n % 20}") for n, key in enumerate(keys)]
    rounds = []
    for _ in range(5):
        started = time.process_time()
        for caller, ask in zip(asking, asks, strict=True):
            evaluate(caller, ask, book, NOW)
        rounds.append((time.process_time() - started) / decisions * 1e6)
    few = max(2, min(50, 20_000 // rules))
    started = time.process_time()
    for caller, ask in zip(asking[:few], asks[:few], strict=True):
        by_authority(book, situation_of(caller, caller.account, things.models[ask.model_key], ask, book, NOW))
    casbin = (time.process_time() - started) / few * 1e6
    return {
        "rules": rules,
        "models": models,
        "callers": population,
        "decision_us": round(sorted(rounds)[2], 1),
        "slowest_round_us": round(max(rounds), 1),
        "casbin_us": round(casbin),
        "compile_s": round(compiling, 2),
        "rulebook_mb": round(memory / 2**20, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=5_000)
    options = parser.parse_args()
    for rules, models, population in (
        (10, 100, 1_000),
        (100, 100, 1_000),
        (1_000, 100, 1_000),
        (10_000, 100, 1_000),
        (1_000, 100, 1),
        (1_000, 100, 1_000_000),
        (1_000, 10, 1_000),
        (1_000, 1_000, 1_000),
    ):
        print(json.dumps(measure(rules, models, population, options.decisions)), flush=True)


if __name__ == "__main__":
    main()
