"""Both families, one after the other."""

import pytest


@pytest.fixture(params=["neo", "gpt2"])
def hooked(request):
    return request.getfixturevalue(request.param)
