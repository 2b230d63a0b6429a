"""Any text as `farebox.yaml`: all that it says is in the settings, or everything that is wrong with it is told."""

from __future__ import annotations

from decimal import Decimal

import yaml

from config.documents import parse_document
from config.findings import InvalidDocument
from config.settings import FareboxSettings
from tests.config.test_any_text import SETTINGS
from tests.fuzz.targets.yaml_texts import can_be_told

_WORDS = rb"""id match upstream app model units json path query header form multipart const max min default optional
usage job deadline poll access open account url identity jwt upstreams routes limits listen admin token database : - ,
{ } [ ] ' " 5s 10m 1MiB GET POST /a {a} /** * http:// free 127.0.0.1:8080 ${A} 0 -1 1.5 1e9 true null ~ # | &a *a"""
WORDS = [*_WORDS.split(), b"\n", b"\n  ", b"\n    ", b": ", b"  - {id: "]
SLOW = True
SEEDS = [SETTINGS.encode()]


def check(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        settings, source = parse_document("farebox.yaml", text, FareboxSettings)
    except InvalidDocument as error:
        can_be_told(error, text)
        if error.rest is not None:
            assert error.rest.unsure, "what was mended is known to be"
        return
    written = yaml.safe_load(text)
    assert set(written) <= set(FareboxSettings.model_fields), "no key without a meaning"
    assert [str(route["id"]) for route in written["routes"]] == [route.id for route in settings.routes]
    assert set(map(str, written["upstreams"])) == set(settings.upstreams)
    for route in settings.routes:
        assert (route.access == "metered") == (route.model is not None)
        bounds = [unit.most for unit in route.units.values() if not hasattr(unit, "product")]
        assert all(Decimal(0) <= bound for bound in bounds)
    assert not [issuer.secret for issuer in settings.identity.jwt if str(issuer.secret) != "**********"]
    assert source.positions
