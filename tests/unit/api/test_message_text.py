"""Texts are stored in one form, and a retry is still known by what the client repeats."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_proto.v1 import model_pb2
from parleyd.api import message_text
from parleyd.api.message_text import MAX_MARKS, normal_sends, normal_text
from parleyd.machine.features.sends import digest_of


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("hello", "hello"),
        ("  hello  ", "hello"),
        ("\n\thello\n", "hello"),
        ("a\tb\nc", "a\tb\nc"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\x00b\x1b[31mc\x7f\x85", "ab[31mc"),
        ("e\u0301", "\u00e9"),
        ("\u212b", "\u00c5"),
        ("\u3000wide\u00a0", "wide"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
        (" \t\r\n\x0b ", ""),
        ("\u200b", ""),
        (" \u2060\ufeff\u00ad \u202e", ""),
        ("\u3164\u2800", ""),
        ("\u200b\ufe0f", ""),
        ("\u200ba", "\u200ba"),
        ("\u2764\ufe0f", "\u2764\ufe0f"),
        ("\x07", ""),
        ("", ""),
    ],
)
def test_a_text_has_one_form(sent: str, stored: str) -> None:
    assert normal_text(sent) == stored


def test_a_text_of_nothing_but_marks_takes_no_longer_than_others() -> None:
    """NFC sorts a run of marks in a time that grows with its square: this one took 24 s, and the node stood still."""
    marks = "\u0301\u0327"
    began_s = time.process_time()
    stored = normal_text("e" + marks * 75_000 + " and e" + marks * 10)
    assert time.process_time() - began_s < 2
    assert len(stored) < 2 * MAX_MARKS + 10, "the marks that nobody can read are gone"
    assert normal_text("e" + marks * (MAX_MARKS // 2)) == unicodedata.normalize("NFC", "e" + marks * (MAX_MARKS // 2))


@given(st.text(st.sampled_from("ae\u0301\u0327\u0344\u0345 \ufb1d\u0f73"), max_size=200))
def test_the_form_of_many_marks_is_final(text: str) -> None:
    once = normal_text(text)
    assert normal_text(once) == once
    assert unicodedata.is_normalized("NFC", once)


@given(st.text(max_size=30))
def test_the_form_is_final(text: str) -> None:
    once = normal_text(text)
    assert normal_text(once) == once
    assert once == once.strip()
    assert unicodedata.is_normalized("NFC", once)
    assert not any(unicodedata.category(char) == "Cc" and char not in "\t\n" for char in once)


def test_a_changed_send_says_what_the_client_sent_and_another_one_is_as_it_was() -> None:
    plain = model_pb2.Send(number=1, account_name="ben", body="hello")
    padded = model_pb2.Send(number=2, account_name="ben", body=" hello", known_index=7)
    [first, second] = normal_sends([plain, padded])
    assert first is plain
    assert (second.number, second.body, second.known_index) == (2, "hello", 7)
    assert second.original_digest == digest_of(padded) != digest_of(plain)
    assert padded.body == " hello", "what the client sent is left alone"


def test_a_digest_that_a_client_claims_counts_for_nothing() -> None:
    forged = model_pb2.Send(number=1, account_name="ben", body="hello", original_digest=5)
    [taken] = normal_sends([forged])
    assert taken.original_digest == 0


def test_no_combining_mark_is_outside_the_planes_that_are_looked_at() -> None:
    others = range(message_text._WITH_MARKS.stop, sys.maxunicode + 1)
    assert not [one for one in map(chr, others) if unicodedata.combining(one)]
