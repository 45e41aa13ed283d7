"""An error names what the user called, a warning the line that called it."""

import inspect
import warnings

import pytest

from localize.errors import LocalizeError, called_as, caller, public, warn


def fail():
    raise LocalizeError(f"{caller()}: no.")


@public
def inner():
    return fail()


@public
def outer(function=inner):
    return function()


@public("plots.drawn")
def drawn(function=inner):
    return function()


def message(function, *given):
    with pytest.raises(LocalizeError) as error:
        function(*given)
    return str(error.value)


def test_an_error_names_the_outermost_public_function():
    assert message(inner) == "inner: no."
    assert message(outer) == "outer: no."
    assert message(drawn) == "plots.drawn: no."
    assert message(outer, drawn) == "outer: no."


def test_one_call_after_another_is_named_by_itself_whatever_became_of_the_first():
    assert [message(function) for function in (drawn, inner, outer, inner)] == [
        "plots.drawn: no.",
        "inner: no.",
        "outer: no.",
        "inner: no.",
    ]


def test_below_no_public_function_the_package_is_named():
    assert message(fail) == "localize: no."


def test_what_is_called_as_an_option_is_named_as_it_and_only_there():
    @public
    def given():
        with called_as(f"{caller()}, run 'b'"):
            assert message(inner) == "given, run 'b': no."
        fail()

    assert message(given) == "given: no."
    with called_as("--fraction"):
        assert message(inner) == "--fraction: no."
    assert message(inner) == "inner: no."


def test_a_public_function_is_what_it_was_but_for_that():
    @public
    def double(number: int = 2) -> int:
        """Twice as much."""
        return 2 * number

    assert (double.__name__, double.__doc__) == ("double", "Twice as much.")
    assert (double(), double(3), double(number=4)) == (4, 6, 8)


@public
def noted():
    warn("one")


def test_a_warning_is_at_the_line_that_called_into_the_package_and_not_at_one_between():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        noted()
        line = inspect.currentframe().f_lineno - 1
    assert [(str(note.message), note.filename, note.lineno) for note in caught] == [("one", __file__, line)]
