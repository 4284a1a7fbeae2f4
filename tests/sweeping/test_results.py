"""Lines, gains and rungs of made-up results, and what the table says of them."""

import csv
import json
import math
from collections import defaultdict

import pytest
from scipy import stats

from ltvr.runs.folder import Run
from ltvr.settings import PRESETS
from ltvr.sweeping.configurations import Design
from ltvr.sweeping.file import read
from ltvr.sweeping.plots import draw
from ltvr.sweeping.results import Result, Results
from ltvr.sweeping.tables import _on_the_test_set, by_score, write

FILE = """
preset: digits
options: {holdout: 10}
seeds: [0, 1, 2]
compare_with: plain
arms: {plain: {method: baseline}, ours: {}}
grid: {lr: [0.3, 0.6]}
"""
SCORES = {
    "plain, lr 0.3": (50.0, 52.0, 51.0),
    "plain, lr 0.6": (60.0, 58.0, 62.0),
    "ours, lr 0.3": (61.0, 60.0, 62.5),
    "ours, lr 0.6": (40.0, 40.0, 40.0),
}


@pytest.fixture
def made(tmp_path):
    """The results of a file, as if runs of these scores by seed were there; None: it diverged."""

    def make(scores, lines="", file=FILE, epochs=(None,)):
        (tmp_path / "made.yaml").write_text(file + lines)
        design = Design.of(read(tmp_path / "made.yaml", {}))
        results = Results(design, tmp_path / "runs")
        results.out.mkdir(exist_ok=True)
        for rung in range(len(epochs)):
            for each in design.configurations:
                for repeat, score in zip(design.sweep.repeats, scores[each.label], strict=False):
                    run = results._training(each, rung, repeat)
                    if score is None:
                        run.folder.mkdir()
                        Run(run.folder).note_diverged("diverged: the loss became nan")
                    else:
                        results._found[run] = Result(
                            _metrics(score + 10 * rung), 60.0, "judged", "cpu"
                        )
        return design, results

    return make


def _metrics(score):
    shots = {"many": score + 5, "medium": None, "few": score - 5}
    return {"balanced_accuracy": score, "balanced_accuracy_error": 1.5, **shots}


def test_the_command_for_the_test_set_is_accepted(made):
    """Without a hold-out --data-seed changes nothing, and would be refused."""
    file = FILE.replace("{holdout: 10}", "{holdout: 10, data_seed: 3, imbalance: 1.0}")
    (rung,) = made(SCORES, file=file)[1].rungs()
    command = _on_the_test_set(rung.best())
    assert command[3:] == [
        *("--preset", "digits", "--method", "ltvr"), *("--imbalance", "1.0", "--lr", "0.3"),
    ]  # fmt: skip


def test_the_command_for_the_test_set_has_no_hold_out_of_the_preset(made, tmp_path):
    preset = tmp_path / "held.yaml"
    preset.write_text((PRESETS / "digits.yaml").read_text() + "\nholdout: 10\n")
    file = FILE.replace("preset: digits", f"preset: {preset}").replace(
        "holdout: 10", "momentum: 0.8"
    )
    (rung,) = made(SCORES, file=file)[1].rungs()
    command = _on_the_test_set(rung.best())
    assert "--holdout 0.0" in " ".join(command)


def test_gains_are_over_the_best_of_the_arm_paired_by_seed(made):
    design, results = made(SCORES)
    (rung,) = results.rungs()
    assert rung.complete and rung.best("plain").configuration.label == "plain, lr 0.6"
    assert [line.configuration.label for line in by_score(rung)] == [
        "ours, lr 0.3", "plain, lr 0.6", "plain, lr 0.3", "ours, lr 0.6",
    ]  # fmt: skip
    ours = rung.best()
    gain = ours.over(rung.best("plain"))
    differences = [1.0, 2.0, 0.5]
    assert gain.mean == pytest.approx(sum(differences) / 3)
    error = stats.sem(differences)
    assert gain.half == pytest.approx(stats.t.ppf(0.975, 2) * error)
    assert ours.error == pytest.approx(1.5)  # of the same images each time
    assert ours.spread("medium") is None and ours.spread("few").mean == pytest.approx(56 + 1 / 6)


def test_folds_have_images_of_their_own(made):
    _, results = made(SCORES, file=FILE.replace("seeds", "folds"))
    assert results.rungs()[0].best().error == pytest.approx(1.5 / math.sqrt(3))


def test_what_is_not_there_has_no_score_and_what_diverged_never_wins(made, tmp_path):
    scores = SCORES | {"ours, lr 0.3": (61.0, None, 62.5), "ours, lr 0.6": (90.0, 91.0)}
    design, results = made(scores)
    (rung,) = results.rungs()
    assert not rung.complete
    assert [line.score is None for line in rung.lines] == [False, False, True, True]
    assert rung.best().configuration.label == "plain, lr 0.6"
    write(design, [rung], tmp_path / "sweep")
    page, record = (
        (tmp_path / "sweep.md").read_text(),
        json.loads((tmp_path / "sweep.json").read_text()),
    )
    row = next(line for line in page.splitlines() if line.startswith("| ours, lr 0.3"))
    assert "| 2 of 3 | 61.75 ± 1.06; diverged: seed1 |" in row
    assert "Not finished: ours-" in page and "Best:" not in page and record["best"] is None
    assert "diverged: the loss became nan" in page
    states = [run["state"] for run in record["rungs"][0][2]["runs"].values()]
    assert states == ["done", "diverged", "done"]


def test_the_table_ends_with_what_was_chosen(made, tmp_path):
    design, results = made(SCORES)
    write(design, results.rungs(), tmp_path / "sweep")
    page = (tmp_path / "sweep.md").read_text()
    assert "Best: ours, lr 0.3." in page
    assert "python -m ltvr.train --preset digits --method ltvr --lr 0.3`" in page  # no hold-out
    assert "| ours, lr 0.3 | 3 | 61.17 ± 1.26 | 1.50 | +1.17 ± 1.90 |" in page
    assert json.loads((tmp_path / "sweep.json").read_text())["best"] == "ours, lr 0.3"


def test_halving_takes_the_best_and_the_baseline_up(made, tmp_path):
    lines = "halving: {epochs: [6, 18], keep: 0.25}\n"
    design, results = made(SCORES, lines, epochs=(6, 18))
    first, last = results.rungs()
    names = [line.configuration.label for line in last.lines]
    assert names == ["plain, lr 0.6", "ours, lr 0.3"] and len(first.lines) == 4
    assert [line.epochs["features"] for line in (first.lines[0], last.lines[0])] == [6, 18]
    write(design, [first, last], tmp_path / "sweep")
    page = (tmp_path / "sweep.md").read_text()
    assert page.index("at 18 epochs") < page.index("at 6 epochs")
    assert "the best 4 for 6, 1 for 18 epochs, and the best of plain in any case" in page


def test_where_all_have_diverged_nothing_goes_on(made, tmp_path):
    lines = "halving: {epochs: [6, 18]}\n"
    design, results = made(dict.fromkeys(SCORES, (None, None, None)), lines)
    (rung,) = results.rungs()
    assert rung.stuck
    write(design, [rung], tmp_path / "sweep")
    assert "Best:" not in (tmp_path / "sweep.md").read_text()


def drawn(paths):
    """The names of the figures, and the numbers in them by name."""
    assert {path.suffix for path in paths} <= {".svg", ".png", ".csv", ".txt"}
    tables = [path for path in paths if path.suffix == ".csv"]
    return {path.stem[6:]: list(csv.DictReader(path.open(newline=""))) for path in tables}


def test_figures_have_every_score_and_every_gain(made, tmp_path):
    design, results = made(SCORES)
    found = drawn(draw(design, results.rungs(), tmp_path))
    assert [*found] == ["values", "gains"]
    values = {row["configuration"]: row["score"] for row in found["values"]}
    assert len(values) == 4 and values["plain, lr 0.6"] == "60.0000"
    gains = {row["configuration"]: row["gain"] for row in found["gains"]}
    assert [*gains] == ["ours, lr 0.3", "plain, lr 0.3", "ours, lr 0.6"]
    assert gains["ours, lr 0.6"] == "-20.0000"


def test_a_grid_of_two_options_has_a_map_and_values_that_are_no_numbers_a_place(made, tmp_path):
    file = FILE.replace("compare_with: plain\n", "").replace("[0, 1, 2]", "[0]")
    lines = file.replace(
        "{lr: [0.3, 0.6]}", "{mixing: [mixup, none], milestones: [[], [0.5, 0.8]]}"
    )
    labels = [f"mixing {m}, milestones {s}" for m in ("mixup", "none") for s in ("none", "0.5 0.8")]
    scores = {
        f"{arm}, {each}": (50.0 + n,) for arm in ("plain", "ours") for n, each in enumerate(labels)
    }
    design, results = made(scores, file=lines)
    found = drawn(draw(design, results.rungs(), tmp_path))
    assert [*found] == ["values", "map"] and len(found["values"]) == 16
    row = {"arm": "ours", "mixing": "none", "milestones": "0.5 0.8", "score": "53.0000"}
    assert row in found["map"]


def test_sobol_points_have_a_panel_an_option(made, tmp_path):
    points = (
        "{points: 4, over: [ours], lr: {from: 0.01, to: 1, log: true}, gamma: {from: 0, to: 1}}"
    )
    file = FILE.replace("grid: {lr: [0.3, 0.6]}", f"sobol: {points}")
    design, results = made(defaultdict(lambda: (49.0, 50.0, 51.0)), file=file)
    found = drawn(draw(design, results.rungs(), tmp_path))
    assert [row["option"] for row in found["values"]] == ["lr"] * 4 + ["gamma"] * 4
    assert {row["score"] for row in found["values"]} == {"50.0000"}
