r"""The chain string, ``pid|cmd|user;pid|cmd|user``: a child first, its ancestors after.

A chain that was cut after so many ancestors ends in a link that is only ``…``. ``~`` before a
link says that it was only seen as the parent, and may not be the creator.
``|``, ``;``, backslash and what does not print are escaped inside names, so a
process cannot forge a link and every chain can be parsed back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proctree_bpf.core.model import OBSERVED, OMISSION, OMITTED, ProcessLink
from proctree_bpf.core.text import unescape

if TYPE_CHECKING:
    from collections.abc import Iterable

_FIELD = re.compile(r"(?:[^\\|;]|\\.)*", re.DOTALL)
_LINK = re.compile(
    rf"({OBSERVED}?)([0-9]{{1,10}})\|({_FIELD.pattern})\|({_FIELD.pattern})(;|\Z)", re.DOTALL
)


def format_chain(links: Iterable[ProcessLink]) -> str:
    """Return the links joined by ``;``."""
    return ";".join(map(str, links))


def parse_chain_string(text: str) -> list[ProcessLink]:
    """Parse what ``build_chain_string`` wrote; an empty string is an empty chain.

    Raises:
        ValueError: the text is not a chain string.

    """
    links: list[ProcessLink] = []
    position = 0
    while position < len(text):
        if links and text[position:] == OMISSION:
            links.append(OMITTED)
            break
        match = _LINK.match(text, position)
        if match is None or (match[5] and match.end() == len(text)):
            raise ValueError(f"not a chain string at character {position}")
        name, user = unescape(match[3]), unescape(match[4])
        links.append(ProcessLink(int(match[2]), name, user, observed=bool(match[1])))
        position = match.end()
    return links
