"""Secrets kept out of what people are shown: a finding quotes the line of a file, which may hold a secret.

Masking works on the text of a file, character for character, so that a caret below a line still points at its place.
It reads lines as people write them and not YAML, because a file that is no YAML is quoted as well. Where it is unsure
it hides more rather than less. References such as `${JWT_SECRET}` are names, not secrets, and stay.
"""

from __future__ import annotations

import difflib
import re

_SECRET_KEY = re.compile(r"(.*[_-])?(secret|token|password|passphrase|private[_-]?key|authorization)|headers")
_SPELT = ("secret", "token", "password")
_KEY = re.compile(r"""(?<![\w-])(?P<key>[A-Za-z][\w-]*+)["']?\s*+:(?=[\s"']|$)""")
_BEFORE_BLOCK_KEY = re.compile(r"""[\s-]*["']?""")
_REFERENCE_VALUE = re.compile(r"""\s*(["']?)\$\{\w+\}\1\s*(#.*)?""")
_FLOW_VALUE = re.compile(
    r"""\s*(?P<reference>(["']?)\$\{\w+\}\2)(?=\s*[,}\]])|\s*("([^"\\]|\\.)*"?|'[^']*'?|\{[^}]*|\[[^\]]*|[^,}\]]*)"""
)
_PRIVATE_KEY = re.compile("PRIVATE KEY-----.*")
# Up to the last `@` before a space: passwords have any characters. A port with a path behind it is none.
_URL_PASSWORD = re.compile(r"""(://[^\s:/@"']{0,200}:)(?!\d{1,5}[/?#])(\S{1,200})(?=@)""")
_QUERY_SECRET = re.compile(r"""([?&][\w-]{0,40}(?:secret|token|password|passwd|key)=)([^\s&]{1,200})""", re.IGNORECASE)
# Where it cannot be told which `@` ends the password of a database, or there is none, what follows it is hidden too.
_DATABASE = re.compile(
    r"""(postgres[\w+]{0,20}://[^\s:/@"']{0,200}:)(?!\d{1,5}(?:[/?"']|\s|$))([^\s@]{1,200}(?:@\S*@\S*|(?!@)))"""
)


def is_secret(key: str) -> bool:
    """Whether the value of `key` is hidden: also when the key is misspelt, since then its line is quoted."""
    word = key.lower()
    if word == "tokens":
        return False
    return bool(_SECRET_KEY.fullmatch(word) or difflib.get_close_matches(word[:20], _SPELT, n=1, cutoff=0.8))


def mask_urls(text: str) -> str:
    """The text without the passwords of the URLs in it, and without the secrets of their queries."""
    for pattern in (_DATABASE, _URL_PASSWORD, _QUERY_SECRET):
        text = pattern.sub(lambda match: match[1] + _stars(match[2]), text)
    return text


def masked_lines(text: str) -> list[str]:
    """The lines of a YAML text with an asterisk for every character of a secret."""
    lines: list[str] = []
    hidden_below: int | None = None
    for line in text.splitlines():
        if hidden_below is not None and (not line.strip() or _indent(line) > hidden_below):
            lines.append(_masked_continuation(line))
            continue
        masked, hidden_below = _masked(line)
        # A private key that was put where a public one belongs, on one line.
        masked = _PRIVATE_KEY.sub(lambda match: _stars(match[0]), masked)
        lines.append(mask_urls(masked))
    return lines


def _masked(line: str) -> tuple[str, int | None]:
    """The line without its secrets; and the indentation below which lines belong to a secret that goes on."""
    shown, at = list[str](), 0
    for key in _KEY.finditer(line):
        if key.start() < at or not is_secret(key["key"]):
            continue
        shown.append(line[at : key.end()])
        if _BEFORE_BLOCK_KEY.fullmatch(line, 0, key.start()):
            # A key at the start of its line: all that follows, and all that is indented more, is its value.
            rest = line[key.end() :]
            shown.append(rest if _REFERENCE_VALUE.fullmatch(rest) else _stars(rest))
            return "".join(shown), key.start()
        value = _FLOW_VALUE.match(line, key.end())
        assert value is not None, "the pattern of a value fits an empty one as well"
        shown.append(value[0] if value["reference"] else _stars(value[0]))
        at = value.end()
    return "".join(shown) + line[at:], None


def _masked_continuation(line: str) -> str:
    """A line below a secret key. A key with a reference, as in `headers`, can be shown."""
    key = _KEY.search(line)
    if key and _BEFORE_BLOCK_KEY.fullmatch(line, 0, key.start()) and _REFERENCE_VALUE.fullmatch(line, key.end()):
        return line
    return _stars(line)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _stars(text: str) -> str:
    return re.sub(r"\S", "*", text)
