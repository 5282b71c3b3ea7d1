from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parleyd.security.tokens import DIGEST_BYTES, MalformedTokenError, digest, new_token


def test_a_new_token_comes_with_its_digest() -> None:
    token, its_digest = new_token()
    assert digest(token) == its_digest == hashlib.sha256(token.encode()).digest()
    assert len(its_digest) == DIGEST_BYTES


def test_tokens_never_repeat() -> None:
    tokens = [new_token() for _ in range(1_000)]
    assert len({token for token, _ in tokens}) == len({its_digest for _, its_digest in tokens}) == 1_000


@given(st.text(max_size=100))
def test_a_text_of_another_form_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(MalformedTokenError) as caught:
        digest(text)
    assert str(caught.value) == str(MalformedTokenError())


def test_a_token_with_anything_before_or_after_it_is_refused() -> None:
    token, _ = new_token()
    for text in (token + "\n", " " + token, token + "=", token[:-1], token + "A", token[:-1] + "é", "Bearer " + token):
        with pytest.raises(MalformedTokenError):
            digest(text)
