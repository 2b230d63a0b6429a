"""Policies with one thing wrong or doubtful each: read, checked and told, as `farebox check` does."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

from config.findings import Finding, InvalidDocument
from policies.terms import MeteredRoute, UnitRange
from proxy.policy_reading import compiled, doubts_of, read_policy
from tests.policies.samples import LADDER

GOLDEN = Path(__file__).with_name("findings.md")

ROUTES = (
    MeteredRoute("make-video", "make", "video", {"seconds": UnitRange(Decimal(1), Decimal(60))}),
    MeteredRoute("paint", "paint", "poster", {"pixels": UnitRange(Decimal(0), Decimal(100), optional=True)}),
)


def told(folder: Path, text: str) -> list[Finding]:
    """Everything that is wrong with a policy of one file, or doubtful about it. `…` stands for many characters."""
    (folder / "main.yaml").write_text(text, "utf-8")
    try:
        policy = read_policy(folder)
        return doubts_of(policy, compiled(policy, LADDER, ROUTES))
    except InvalidDocument as error:
        return list(error.findings)


def golden() -> dict[str, tuple[str, str]]:
    """The policies of the golden page with what is told of them, by their headings."""
    pattern = r"^## ([^\n]*)\n\n```yaml\n(.*?)```\n\n```text\n(.*?)\n```"
    return {
        name: (text, expected) for name, text, expected in re.findall(pattern, GOLDEN.read_text("utf-8"), re.M | re.S)
    }
