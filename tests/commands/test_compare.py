"""Comparisons of runs by the command: the page, the table, and what is refused."""

import csv
import re
import shutil

import pytest
from conftest import summary, tiny_config

import ltvr.compare
import ltvr.training
from ltvr.reports.numbers import signed
from ltvr.runs.folder import Run


@pytest.fixture(scope="module")
def runs(finished, tmp_path_factory):
    """Two seeds of two configurations, in ``a0``, ``a1``, ``b0``, ``b1``."""
    folder = tmp_path_factory.mktemp("compared")
    shutil.copytree(finished, folder / "a0")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ltvr.training.write_report", lambda *_: None)
        for name, method, seed in (("a1", None, 1), ("b0", "baseline", 0), ("b1", "baseline", 1)):
            ltvr.training.train(tiny_config(method=method, seed=seed), folder / name)
    return folder


def all_of(folder, stage):
    return summary(folder)["metrics"][stage]["all"]


def test_seeds_of_two_configurations(runs, command, tmp_path):
    page, rows = tmp_path / "page.html", tmp_path / "rows.csv"
    given = [runs / name for name in ("b0", "a1", "a0", "b1")]
    code, out, err = command(ltvr.compare, *given, "--out", page, "--per-class", rows)
    assert code == 0 and err == "", err  # no image is looked at
    features, crt, last = out.split("\n\n")
    assert last == f"page: {page}\n"
    fields = [re.split(" {2,}", line.strip()) for line in crt.splitlines()]
    lines = {name: cells for name, *cells in fields}
    assert lines["cRT"] == ["All", "Many", "Medium", "Few"]
    expected = [(all_of(runs / f"{n}0", "crt") + all_of(runs / f"{n}1", "crt")) / 2 for n in "ba"]
    for name, value in zip(("baseline, seeds 0 1", "ltvr, seeds 0 1"), expected, strict=True):
        assert lines[name][0] == f"{value:.2f}"
    assert lines["gain"][0] == signed(expected[1] - expected[0])
    assert "p, 2 seeds" in lines and "95 % interval" in lines
    assert "classes differ (p < 0.05, Holm)" in crt.splitlines()[-1]

    text = page.read_text()
    assert "prefers-color-scheme: dark" in text and "currentColor" in text
    assert "http" not in text and not re.search(r"""(src|href)=["'](?!#)""", text)
    assert text.count("<svg") == 1 + 2 and "#1f2328;" not in text.split("</style>")[1]
    for words in (
        "<h2>features</h2>",
        "<td>decomposition</td>",
        "<td>seed</td>",
        "Over 2 seeds: paired t-test",
        f"baseline:\n{runs / 'b0'}; {runs / 'b1'}</li>",
    ):
        assert words in text
    assert "McNemar" not in text and "<td>epochs</td>" not in text
    with rows.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 2 * 10 and {row["runs"] for row in found} == {"ltvr"}
    by_class = [summary(runs / f"b{s}")["metrics"]["crt"]["per_class"] for s in (0, 1)]
    for k, row in enumerate(found[10:]):
        assert (row["stage"], row["class"]) == ("cRT", str(k))
        assert float(row["before"]) == pytest.approx((by_class[0][k] + by_class[1][k]) / 2)


def test_one_run_each_by_its_images(runs, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(ltvr.compare, runs / "a0", "--baseline", runs / "b0")
    assert code == 0, err
    assert [line.split("/")[-2:] for line in err.splitlines()] == [
        [run, f"{stage}.pt"] for stage in ("features", "crt") for run in ("b0", "a0")
    ]
    crt = out.split("\n\n")[1].splitlines()
    won, lost = map(int, re.findall(r"\d+", crt[4])[:2])
    assert crt[4].startswith("  images won, lost") and crt[5].startswith(
        "  p of these two networks, 500 images"
    )
    gain = all_of(runs / "a0", "crt") - all_of(runs / "b0", "crt")
    assert (won - lost) / 5 == pytest.approx(gain)
    assert "McNemar" in (tmp_path / "comparison.html").read_text()
    code, out, err = command(ltvr.compare, runs / "b0", runs / "a0", "--no-images")
    assert code == 0 and err == "" and "  p, " not in out and "  p of" not in out
    assert "that over images was left out" in (tmp_path / "comparison.html").read_text()


def test_runs_whose_checkpoints_are_gone_compare_without_the_images(runs, command, tmp_path):
    for name in ("a0", "b0"):
        shutil.copytree(runs / name, tmp_path / name, ignore=shutil.ignore_patterns("*.pt"))
    code, out, err = command(ltvr.compare, tmp_path / "b0", tmp_path / "a0")
    gone = f"{tmp_path / 'b0'} is finished, and its features.pt has been deleted; "
    assert code == 2 and gone in err and err.endswith(", or say --no-images\n")
    page = ["--out", tmp_path / "page.html"]
    code, out, err = command(ltvr.compare, tmp_path / "b0", tmp_path / "a0", "--no-images", *page)
    assert code == 0 and f"{all_of(runs / 'a0', 'crt'):.2f}" in out


@pytest.mark.parametrize(
    "words",
    ["a0 b0 --baseline b0", "b0 a0 b0", "a0 b0 a0 --baseline b0", "a0 a0 --baseline b0"],
)
def test_a_run_that_is_named_twice_keeps_its_first_place(
    words, runs, command, tmp_path, monkeypatch
):
    """So a baseline is what is compared with, whether or not it is one of the RUNs, too."""
    monkeypatch.chdir(runs)
    code, out, err = command(
        ltvr.compare, *words.split(), "--no-images", "--out", tmp_path / "page.html"
    )
    assert code == 0, err
    lines = [line.split()[0] for line in out.splitlines() if "seed 0" in line]
    assert lines == ["baseline,", "ltvr,"] * 2


def test_what_is_there_of_a_run_that_is_not_finished(runs, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stopped = shutil.copytree(runs / "a0", tmp_path / "stopped")
    (stopped / "summary.json").unlink()
    run = Run(stopped)
    run.truncate("features", 2, ["features", "crt"])
    assert len(run.records()) == 1
    code, out, err = command(ltvr.compare, runs / "b0", stopped, runs / "b1")
    assert code == 0 and err == f"{stopped} is not finished: its curves end where it is\n"
    assert out == "page: comparison.html\n"
    text = (tmp_path / "comparison.html").read_text()
    assert "is not finished" in text and text.count("<svg") == 1 and "Gain by class" not in text
    (stopped / "metrics.jsonl").unlink()  # stopped before the end of its first epoch
    assert command(ltvr.compare, stopped, stopped, runs / "b1")[0] == 0


def test_names_of_any_kind_are_shown(runs, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [shutil.copytree(runs / "a0", tmp_path / n) for n in ("<b>\n$x$", "{{ 7 }}\udcff")]
    code, out, err = command(ltvr.compare, *names, "--no-images")
    assert code == 0, err
    text = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;\\n$x$" in text and "{{ 7 }}\\udcff" in text and "<b>" not in text
    assert "<b>\\n$x$, seed 0" in out and "No option in use differs." in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{runs}/a0", "{runs}/a0 is one run; name another to compare it with"),
        ("{runs}/a0 {runs}/a0/ --baseline {runs}/a0", "is one run"),
        ("{runs}/a0 {runs}/b0/final.pt", "final.pt is a checkpoint; name the run folder"),
        ("{runs}/a0 {runs}/a1", "seeds of one configuration; name a run of another"),
        ("{runs}/a0 {runs}/b0 --out x --per-class ./x", "--per-class x is the file of --out as"),
        ("{runs}/a0 {tmp}", "is no run"),
        ("{runs}/a0 {runs}/gone", "is no run"),
        ("{runs}/a0 --baseline", "expected one argument"),
        ("{runs}/a0 {runs}/b0 --out {tmp}", "--out {tmp} is a folder"),
        ("{runs}/a0 {runs}/b0 --out {tmp}/gone/a.html", "there is no folder {tmp}/gone"),
        ("{runs}/a0 {runs}/b0 --per-class /dev/full", "is no regular file"),
        ("{runs}/a0 {runs}/b0 --root {tmp}", "--root changes nothing for digits"),
        ("{runs}/a0 {runs}/b0 --no-images --root {tmp}", "--root is for tests over images"),
        ("", "the following arguments are required: RUN"),
    ],
)
def test_mistakes_are_named_in_a_line(arguments, words, runs, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"runs": runs, "tmp": tmp_path}
    code, out, err = command(ltvr.compare, *arguments.format(**places).split())
    assert code == 2 and out == "" and words.format(**places) in err
    assert err.splitlines()[-1].startswith("error: ") and err.count("error") == 1
    assert not list(tmp_path.iterdir())
