"""Draws keyed by what they are for: the same key, the same number; over keys, uniform."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from localize.keyed import keyed_integer, keyed_uniforms

parts = st.lists(st.one_of(st.integers(), st.binary(max_size=20), st.text(max_size=20)), min_size=1, max_size=4)


@given(st.integers(1, 2**32), parts)
def test_the_same_key_gives_the_same_integer_in_range(below, key):
    drawn = keyed_integer(below, *key)
    assert type(drawn) is int
    assert 0 <= drawn < below
    assert keyed_integer(below, *key) == drawn


@given(parts)
def test_of_one_there_is_only_nought(key):
    assert keyed_integer(1, *key) == 0


def test_every_part_of_the_key_counts_and_so_does_their_order():
    keys = [
        ("a", 1, b"x", 2),
        ("b", 1, b"x", 2),
        ("a", 2, b"x", 1),
        ("a", 1, b"y", 2),
        ("a", 1, b"x"),
        ("a", 1, b"x", 2, 0),
        ("a", 12, b"x", 2),
    ]
    assert len({keyed_integer(2**32, *key) for key in keys}) == len(keys)
    # Where one part ends and the next begins counts too.
    assert keyed_integer(2**32, "ab", "c") != keyed_integer(2**32, "a", "bc")
    assert keyed_integer(2**32, 1, 23) != keyed_integer(2**32, 12, 3)


@pytest.mark.parametrize("below", [2, 7, 96, 1000])
def test_over_keys_the_draws_are_uniform(below):
    drawn = [
        keyed_integer(below, "replace", 0, b"paragraph", position, draw)
        for position in range(200)
        for draw in range(100)
    ]
    assert chisquare(np.bincount(drawn, minlength=below)).pvalue > 1e-3


def test_neighbouring_keys_draw_independently():
    drawn = np.array([keyed_integer(8, "seed", seed) for seed in range(20_001)])
    pairs = np.bincount(8 * drawn[:-1] + drawn[1:], minlength=64)
    assert chisquare(pairs).pvalue > 1e-3


def test_another_process_draws_the_same():
    code = "from localize.keyed import keyed_integer as k; print(k(2**32, 'seed', 3, b'hash', 'größe'))"
    drawn = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(drawn) == keyed_integer(2**32, "seed", 3, b"hash", "größe")


def test_numbers_of_a_key_are_uniform_independent_and_begin_alike_for_any_count():
    drawn = keyed_uniforms(20_000, "sinks", 0)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert chisquare(np.bincount((drawn * 50).astype(int), minlength=50)).pvalue > 1e-3
    assert chisquare(np.bincount((drawn[::2] * 8).astype(int) * 8 + (drawn[1::2] * 8).astype(int))).pvalue > 1e-3
    assert np.array_equal(keyed_uniforms(10, "sinks", 0), drawn[:10])
    assert not np.array_equal(keyed_uniforms(10, "sinks", 1), drawn[:10])


def test_the_first_number_of_a_key_is_that_of_the_extendable_hash():
    first = int.from_bytes(hashlib.shake_256(b"a\x1f1").digest(4), "little") / 2**32
    assert keyed_uniforms(1, "a", 1)[0] == first
