"""The page policy-language.md, from the models of `policies` and the sentences and examples of their fields.

Imported by generate.py. A test compiles every example.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from policies.conditions import KINDS, WEEKDAYS
from policies.document import Exemption, Limit, Payg, PolicyFile, Rule, SubscriptionTerms
from policies.scope import AtLeast, ModelAttributes, Scope, Who
from proxy.operations.imagined import CaseCaller
from proxy.operations.policy_cases import Case, CasesFile

FOLDER = Path(__file__).parent

TITLES: dict[type[BaseModel], str] = {
    PolicyFile: "The file",
    Payg: "`payg`",
    SubscriptionTerms: "`subscription`",
    Scope: "What every entry may say",
    Who: "`who`",
    AtLeast: "`tier` as a mapping",
    ModelAttributes: "`model` as a mapping",
    Rule: "`rules`",
    Exemption: "`exemptions`",
    Limit: "`limits`",
    CasesFile: "A file of cases",
    CaseCaller: "`callers`",
    Case: "`cases`",
}
"""Every mapping of the language, in the order in which it is explained."""

MEANINGS = {
    "time.hour": "0 to 23, in the policy's `timezone`",
    "time.minute": "0 to 59",
    "time.weekday": " ".join(WEEKDAYS),
    "time.day": "of the month, 1 to 31",
    "time.month": "1 to 12",
    "caller.tier": "the tier of the caller",
    "caller.account_type": "`payg` or `subscription`",
    "caller.credential": "`jwt`, `api_key` or `trusted_header`",
    "caller.user": "the user id",
    "caller.tags": "the tags of the account",
    "model.app": "the app of the model",
    "model.tier": "the tier of the model",
    "model.provider": "its provider",
    "model.beta": "whether it is in beta",
}


def own_fields(model: type[BaseModel]) -> list[str]:
    """The fields that a mapping has beyond what every entry has."""
    inherited = Scope.model_fields if issubclass(model, Scope) and model is not Scope else {}
    return [name for name in model.model_fields if name not in inherited]


def page() -> str:
    """The whole page."""
    intro = (FOLDER / "policy-language.intro.md").read_text("utf-8")
    title, _, rest = intro.partition("\n")
    marked = "<!-- Written by docs/generate.py: change the docstrings it reads, then run `make docs`. -->"
    sections = [_section(model) for model in TITLES]
    return "\n\n".join([title, marked, rest.strip(), *sections[:10], _conditions(), *sections[10:]]) + "\n"


def _section(model: type[BaseModel]) -> str:
    rows = ["| key | meaning | without it | example |", "|---|---|---|---|"]
    for name in own_fields(model):
        info = model.model_fields[name]
        examples = "<br>".join(f"`{written(example)}`" for example in info.examples or ())
        cells = (f"`{info.alias or name}`", info.description or "", _default(info.default), examples)
        rows.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n\n".join([f"## {TITLES[model]}", inspect.cleandoc(model.__doc__ or ""), "\n".join(rows)])


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "has to be there"
    if value is None or isinstance(value, BaseModel | list):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def written(value: object) -> str:
    """A value on one line, as it may stand in a file."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip()
    return text.removesuffix("...").strip()


def _conditions() -> str:
    rows = ["| name | kind | meaning |", "|---|---|---|"]
    rows.append("| `units.NAME` | a number | a unit that the route of the request reads (`units` in farebox.yaml) |")
    rows += [f"| `{name}` | {kind} | {MEANINGS[name]} |" for name, kind in KINDS.items()]
    text = (FOLDER / "policy-conditions.intro.md").read_text("utf-8")
    return "\n\n".join([text.strip(), "\n".join(rows)])
