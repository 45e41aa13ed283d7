"""`localize sweep`: what it leaves and prints, and how it refuses."""

import pytest

import localize as lz


@pytest.fixture
def grid(write, checkpoint, good):
    """One model, the good paragraphs, gradients and what cannot be measured."""
    return write(
        "grid.toml",
        f"""
        [[model]]
        source = "{checkpoint}"
        [[paragraphs]]
        source = "{good}"
        prefix = 16
        continuation = 16
        [[measure]]
        measurement = "gradients"
        """,
    )


def test_a_sweep_is_listed_run_shown_and_not_run_again(localize, grid, tmp_path):
    out = tmp_path / "s.zarr"
    code, listed, _ = localize("sweep", grid, "--out", out, "--dry-run")
    assert code == 0 and not out.exists()
    assert "2 cells, 2 units to do, about" in listed
    code, told, _ = localize("sweep", grid, "--out", out)
    assert code == 0
    assert told.splitlines()[0] == "0 of 2 units are there; 2 to do."
    assert told.count("12 of 12") == 2
    code, again, _ = localize("sweep", grid, "--out", out)
    assert again.splitlines()[0] == "2 of 2 units are there; 0 to do."
    code, shown, _ = localize("show", out)
    assert code == 0 and shown.count("finished") == 2
    assert "gradient_norm" in lz.open_sweep(out).signature()


def test_a_failed_cell_is_exit_code_2_and_the_others_are_kept(localize, grid, tmp_path):
    with open(grid, "a") as file:
        file.write('\n[[measure]]\nmeasurement = "patch"\noptions = { metrics = ["x"] }\n')
    out = tmp_path / "s.zarr"
    code, told, stderr = localize("sweep", grid, "--out", out)
    assert code == 2
    assert "failed: model / good / patch: InputError: patch: " in told
    assert stderr.splitlines()[-1].startswith(
        "localize: 1 of 3 cells failed; the first, model / good / patch: InputError: "
    )
    assert set(lz.open_sweep(out).cells()["status"]) == {"finished", "failed"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.toml"], "grid none.toml: no such file."),
        (["GRID", "--resource", "GPU"], "--resource GPU: must be NAME=AMOUNT, such as GPU=1."),
        (["GRID", "--workers", "0"], "run_sweep: workers=0 must be at least 1."),
    ],
)
def test_a_sweep_refuses_in_one_line(localize, grid, tmp_path, arguments, message):
    arguments = [grid if word == "GRID" else word for word in arguments]
    assert localize.refused("sweep", *arguments, "--out", tmp_path / "s.zarr") == message
    assert not (tmp_path / "s.zarr").exists()
