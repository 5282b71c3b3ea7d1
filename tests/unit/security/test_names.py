from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parleyd.security.names import (
    MAX_ACCOUNT_NAME,
    MAX_NODE_NAME,
    MAX_PASSWORD_BYTES,
    InvalidInputError,
    password_is_readable,
    validate_account_name,
    validate_node_name,
    validate_password,
    validate_pattern,
)

ALPHANUMERIC = string.ascii_letters + string.digits


@given(
    st.text(ALPHANUMERIC + "._-", min_size=1, max_size=MAX_ACCOUNT_NAME).filter(lambda name: name[0] in ALPHANUMERIC)
)
def test_account_names_of_the_allowed_characters_pass_unchanged(name: str) -> None:
    assert validate_account_name(name) == name


@given(st.text(min_size=1, max_size=80))
def test_an_account_name_that_passes_keeps_every_rule(name: str) -> None:
    try:
        validate_account_name(name)
    except InvalidInputError:
        allowed = False
    else:
        allowed = True
    assert allowed == (
        len(name) <= MAX_ACCOUNT_NAME and name[0] in ALPHANUMERIC and set(name) <= set(ALPHANUMERIC + "._-")
    )


@pytest.mark.parametrize(
    "name", ["", " anna", "anna ", "anna\n", ".anna", "-anna", "_anna", "an/na", "аnna", "annа", "ａnna", "٣", "a\0b"]
)
def test_account_names_that_could_be_mistaken_for_others_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError):
        validate_account_name(name)


def test_a_long_account_name_is_refused_with_its_length() -> None:
    validate_account_name("a" * 64)
    with pytest.raises(InvalidInputError, match="has 65 characters; at most 64") as caught:
        validate_account_name("a" * 65, "recipient")
    assert caught.value.field == "recipient"
    assert str(caught.value).startswith("recipient has 65")


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True))
def test_node_names_that_are_dns_labels_pass(name: str) -> None:
    assert len(name) <= MAX_NODE_NAME
    assert validate_node_name(name) == name


@given(st.text(max_size=40))
def test_a_node_name_that_passes_is_a_lower_case_dns_label(name: str) -> None:
    try:
        validate_node_name(name)
    except InvalidInputError:
        return
    assert name.isascii()
    assert name == name.lower()
    assert 1 <= len(name) <= MAX_NODE_NAME
    assert "." not in name


@pytest.mark.parametrize("password", ["", "1234567", "ñandú12"])
def test_short_passwords_are_refused_by_characters(password: str) -> None:
    with pytest.raises(InvalidInputError, match="at least 8"):
        validate_password(password)


@pytest.mark.parametrize("password", ["1234567ü", "a" * 1024, "é" * 512, "pass\0word", "   spaces   ", "🔑" * 8])
def test_passwords_within_the_limits_pass_unchanged(password: str) -> None:
    assert validate_password(password) == password


@pytest.mark.parametrize("password", ["password", "PASSWORD", "12345678", "qwertyuiop"])
def test_the_most_common_passwords_are_refused(password: str) -> None:
    with pytest.raises(InvalidInputError, match="most common"):
        validate_password(password)


@pytest.mark.parametrize("password", [" " * 8, "\t" * 10, "\u00a0" * 9, " \u2003\t " * 3])
def test_blank_passwords_are_refused(password: str) -> None:
    with pytest.raises(InvalidInputError, match="is blank"):
        validate_password(password)


def test_the_name_of_the_account_is_no_password() -> None:
    with pytest.raises(InvalidInputError, match="is the name of the account"):
        validate_password("Anna.Baker", account="anna.baker")
    assert validate_password("anna.baker", account="anna") == "anna.baker"


@pytest.mark.parametrize("password", ["a" * 1025, "é" * 513, "broken\udc80surrogate"])
def test_passwords_beyond_the_limits_are_refused_without_being_quoted(password: str) -> None:
    assert not password_is_readable(password)
    with pytest.raises(InvalidInputError, match=f"at most {MAX_PASSWORD_BYTES} bytes") as caught:
        validate_password(password)
    assert password not in str(caught.value)


@pytest.mark.parametrize("pattern", ["", "*", "a*", "?nna", "an.na_-*"])
def test_patterns_of_name_characters_and_wildcards_pass(pattern: str) -> None:
    assert validate_pattern(pattern) == pattern


@pytest.mark.parametrize("pattern", ["[a]", "%", "a b", "é*", "a\n", "*" * 65, "a'--"])
def test_patterns_no_name_can_match_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        validate_pattern(pattern)
    assert caught.value.field == "pattern"
