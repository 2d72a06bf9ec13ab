r"""What a process calls itself is shown without harm and parsed back without loss.

The characters that matter here are those an attacker would choose: the chain's own
separators, the escape character, newlines, terminal escapes, bidirectional overrides,
and bytes that are no UTF-8.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proctree_bpf.core.chain import format_chain, parse_chain_string
from proctree_bpf.core.model import ProcessLink
from proctree_bpf.core.text import escape, unescape, visible

NASTY = "|;\\\n\r\t\0\x1b\x7f\x85\x9b\u00ad\u061c\u200b\u200e\u2028\u202e\u2066\ufeff\U000e0041"
LOOKS_ESCAPED = ["\\x41", "\\u0041", "\\\\", "\\;", "\\", "\\U00110000", "\\xZZ", "x41", "\\x"]

raw_names = st.binary(max_size=24).map(os.fsdecode)
nasty_names = st.text(st.sampled_from(NASTY + "axuU09é\udc80\udcff"), max_size=12)
names = st.one_of(
    st.text(max_size=16),
    st.text(st.characters(), max_size=16),  # lone surrogates too
    raw_names,
    nasty_names,
    st.sampled_from(LOOKS_ESCAPED),
)
links = st.builds(ProcessLink, st.integers(0, 2**32 - 1), names, names)


@given(names)
@example(NASTY)
def test_what_is_visible_is_always_printable(text: str) -> None:
    assert visible(text).isprintable()


@given(names)
@example(NASTY)
def test_what_is_visible_can_be_written_to_any_utf8_terminal(text: str) -> None:
    visible(text).encode("utf-8")


@given(st.text(st.characters(categories=["L", "N", "P", "Sm", "Sc"]), max_size=16))
def test_harmless_text_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb", "a\\x0ab"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\udcff", "\\xff"),
        ("\U000e0041", "\\U000e0041"),
        ("\x9b", "\\u009b"),
        ("été 日本", "été 日本"),
    ],
)
def test_what_could_drive_a_terminal_is_shown_as_its_code(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(names, st.sampled_from(["", "|;", "\t", " ", ",", "\n", "|;\n", "\\", "\u2028"]))
@example("a\nb", "\n")
def test_escaped_text_is_printable_and_gives_the_text_back(text: str, separators: str) -> None:
    escaped = escape(text, separators)
    assert escaped.isprintable()
    assert unescape(escaped) == text


@given(raw_names)
def test_bytes_that_are_not_utf8_survive_escaping(text: str) -> None:
    assert os.fsencode(unescape(escape(text))) == os.fsencode(text)


@given(names)
def test_a_separator_is_never_bare_in_escaped_text(text: str) -> None:
    escaped = escape(text, "|;").replace("\\\\", "")
    assert "|" not in escaped.replace("\\|", "")
    assert ";" not in escaped.replace("\\;", "")


@given(names, names)
def test_different_texts_stay_different(one: str, other: str) -> None:
    assert (escape(one, "|;") == escape(other, "|;")) is (one == other)


@given(names)
def test_anything_may_be_given_to_unescape(text: str) -> None:
    assert isinstance(unescape(text), str)


@given(st.lists(links, max_size=6))
def test_a_chain_is_parsed_back_as_it_was_built(chain: list[ProcessLink]) -> None:
    text = format_chain(chain)
    assert text.isprintable()
    assert parse_chain_string(text) == chain


@given(st.lists(links, min_size=1, max_size=6))
def test_a_chain_has_as_many_links_as_it_was_built_from(chain: list[ProcessLink]) -> None:
    """No name forges a link."""
    assert [link.pid for link in parse_chain_string(format_chain(chain))] == [
        link.pid for link in chain
    ]


def test_a_plain_chain_reads_as_documented() -> None:
    chain = [ProcessLink(102, "touch", "root"), ProcessLink(1, "systemd", "root")]
    assert format_chain(chain) == "102|touch|root;1|systemd|root"


def test_a_name_cannot_forge_a_link() -> None:
    text = str(ProcessLink(5, "evil|root;1|systemd", "nobody"))
    assert [link.pid for link in parse_chain_string(text)] == [5]


def test_the_empty_chain_is_the_empty_string() -> None:
    assert format_chain([]) == ""
    assert parse_chain_string("") == []


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "1|a",
        "|a|b",
        "x|a|b",
        "-1|a|b",
        "1|a|b;",
        "1|a|b;;2|c|d",
        ";1|a|b",
        "1|a|b|c",
        "1|a|b\\",
        " 1|a|b",
        "99999999999|a|b",
        "\u0663|a|b",
        "1|a|b;2",
    ],
)
def test_what_is_no_chain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a chain"):
        parse_chain_string(text)


@given(st.one_of(names, st.text("0123456789|;\\ab", max_size=30)))
def test_any_text_is_a_chain_or_a_value_error(text: str) -> None:
    try:
        parsed = parse_chain_string(text)
    except ValueError:
        return
    assert parse_chain_string(format_chain(parsed)) == parsed


def test_a_long_chain_of_long_names_is_parsed_in_linear_time() -> None:
    chain = [ProcessLink(pid, "\\|;" * 1_000, "u" * 1_000) for pid in range(200)]
    assert parse_chain_string(format_chain(chain)) == chain
