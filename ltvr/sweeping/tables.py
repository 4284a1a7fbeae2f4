"""What came out of a sweep as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ltvr.config.command_line import words
from ltvr.data.options import DataOptions
from ltvr.engine.accuracy_table import COLUMNS, SHOTS
from ltvr.errors import shown
from ltvr.reports.markdown import markdown
from ltvr.reports.numbers import number, plain, signed, spread
from ltvr.reports.writing import write_forms
from ltvr.settings import load_config
from ltvr.sweeping.configurations import Design, said
from ltvr.sweeping.plan import METRICS, Repeat
from ltvr.sweeping.results import Line, LineGain, Rung

__all__ = ["at_epochs", "by_score", "chosen", "gain", "reference", "said_gain", "write"]

OF_THE_JUDGING = ("holdout", "holdout_from", "holdout_fold")
"""Options that a run on the test set is without."""


def write(design: Design, rungs: Sequence[Rung], path: Path) -> list[Path]:
    """Write ``path`` with the endings .md, .csv and .json; return them.

    Raises:
        CannotWrite: a disk that is full, read-only or broken.
    """
    title = f"Sweep {design.sweep.name}"
    texts = {
        "md": markdown(title, _tables(design, rungs), _notes(design, rungs)),
        "csv": _csv(design, rungs),
        "json": json.dumps(_record(design, rungs), indent=1) + "\n",
    }
    return write_forms(path, texts)


def by_score(rung: Rung) -> list[Line]:
    """The lines by falling score, those without one last; of equals in the order of the file."""
    return sorted(rung.lines, key=lambda line: (line.score is None, -(line.score or 0.0)))


def reference(design: Design, rung: Rung) -> Line | None:
    """The line that gains are over, where there is one."""
    arm = design.sweep.compare_with
    return rung.best(arm) if arm else None


def gain(design: Design, rung: Rung, line: Line) -> LineGain | None:
    """What a line has over the one that gains are over; None of that one itself."""
    over = reference(design, rung)
    return None if over is None or over is line else line.over(over)


def at_epochs(design: Design, rung: Rung) -> str:
    """Of a rung of halving, its epochs; empty without halving."""
    if not design.sweep.halving:
        return ""
    number = design.sweep.halving.epochs[rung.number]
    return f" at {number} epoch{'s' * (number > 1)}"


def _tables(design: Design, rungs: Sequence[Rung]) -> Iterator[list[list[str]]]:
    """The last rung first."""
    sweep = design.sweep
    for rung in reversed(rungs):
        heads = [f"configuration{at_epochs(design, rung)}", "seeds", f"{METRICS[sweep.metric]}, %"]
        heads += ["error of the hold-out"] if sweep.metric == "balanced_accuracy" else []
        heads += [f"gain over {sweep.compare_with}"] if sweep.compare_with else []
        heads += [*(COLUMNS[shot] for shot in SHOTS), "epochs", "seconds"]
        rows = []
        for line in by_score(rung):
            over = gain(design, rung, line)
            cells = [line.configuration.label, _seeds(line), _score(line)]
            cells += [plain(line.error, 2)] if sweep.metric == "balanced_accuracy" else []
            cells += [said_gain(over) if over else ""] if sweep.compare_with else []
            cells += [spread(line.spread(name)) for name in SHOTS]
            rows.append([*cells, _epochs(line), plain(line.seconds, 0)])
        yield [heads, *rows]


def _seeds(line: Line) -> str:
    """How many are there, and of how many."""
    done, wanted = len(line.found), len(line.runs)
    return str(done) if done == wanted else f"{done} of {wanted}"


def _score(line: Line) -> str:
    """What it is judged by, in the runs that there are."""
    found = spread(line.spread(line.metric))
    if not line.diverged:
        return found
    seeds = ", ".join(repeat.name for repeat in line.diverged)
    return f"{found}; diverged: {seeds}" if found else "diverged"


def said_gain(found: LineGain) -> str:
    """A gain, ± half of its 95 % interval where there is one."""
    return signed(found.mean) + ("" if found.half is None else f" ± {found.half:.2f}")


def _epochs(line: Line) -> str:
    return " + ".join(map(str, line.epochs.values()))


def _notes(design: Design, rungs: Sequence[Rung]) -> Iterator[str]:
    sweep = design.sweep
    lines = [line for rung in rungs for line in rung.lines]
    results = [result for line in lines for result in line.found.values()]
    for judged_on in dict.fromkeys(result.judged_on for result in results):
        yield f"{judged_on[0].upper()}{judged_on[1:]}."
    if any("hold-out" in (result.metrics.get("selected_on") or "") for result in results):
        yield "With select = best the epochs were chosen on the same images, which flatters them."
    stage = f"stage {sweep.stage}" if sweep.stage else "the last stage"
    yield (
        f"By {METRICS[sweep.metric]} of {stage}: mean ± sample standard deviation of the seeds. "
        "Seconds: of a run with what it shares, by one thread."
    )
    if sweep.metric == "balanced_accuracy":
        yield (
            "Error of the hold-out: standard error of the mean by which images happened to be held "
            "out. Configurations are judged on the same images, so that of a difference it is less."
        )
    for rung in rungs:
        over = reference(design, rung)
        if over is not None:
            label, arm = over.configuration.label, sweep.compare_with
            best = "" if label == arm else f", the best of {arm}"
            yield (
                f"Gains{at_epochs(design, rung)} are over {label}{best}: paired by seed, ± half of "
                "the 95 % interval (Student's t)."
            )
    if sweep.how:
        yield f"Points: {sweep.how} of {', '.join(sweep.swept)}."
    if halving := sweep.halving:
        every, at = len(design.configurations), enumerate(halving.epochs)
        steps = ", ".join(f"{halving.number(every, rung)} for {epochs}" for rung, epochs in at)
        always = f", and the best of {sweep.compare_with} in any case" if sweep.compare_with else ""
        yield f"Successive halving: the best {steps} epochs{always}."
    yield from (f"{note}." for note in design.notes)
    yield from _best(design, rungs)
    for line in lines:
        for repeat, why in line.diverged.items():
            yield f"{line.runs[repeat].name}: {shown(why)}"
    missing = [
        run.name
        for line in lines
        for repeat, run in line.runs.items()
        if repeat not in line.found and repeat not in line.diverged
    ]
    if missing:
        yield f"Not finished: {', '.join(missing)}."
    for trained_on in dict.fromkeys(result.trained_on for result in results):
        yield f"Trained on {trained_on}."


def _best(design: Design, rungs: Sequence[Rung]) -> Iterator[str]:
    """What was chosen, once all is there."""
    best = chosen(design, rungs)
    if best is not None:
        yield (
            f"Best: {best.configuration.label}. The figures that chose it among "
            f"{len(design.configurations)} flatter it. What it has the test set says, read once: "
            f"`{shlex.join(_on_the_test_set(best))}`"
        )


def chosen(design: Design, rungs: Sequence[Rung]) -> Line | None:
    """The best configuration, once every run has ended."""
    done = len(rungs) == len(design.sweep.rungs) and rungs[-1].complete
    return rungs[-1].best() if done else None


def _on_the_test_set(line: Line) -> list[str]:
    """The command that trains a configuration with all its images, to be judged on the test set."""
    run = next(iter(line.runs.values()))
    without = run.config.replaced(holdout=0.0).effective()
    idle = run.config.effective().keys() - without.keys()  # --data-seed, say
    left_out = {*OF_THE_JUDGING, *idle, "seed"}
    options = {name: value for name, value in run.options.items() if name not in left_out}
    if load_config(run.preset, run.method, options).of(DataOptions).holdout:
        options["holdout"] = 0.0  # over that of the preset
    named = ["--preset", run.preset, "--method", run.method]
    return ["python", "-m", "ltvr.train", *named, *words(options)]


def _csv(design: Design, rungs: Sequence[Rung]) -> str:
    """A line a configuration and rung (RFC 4180), every number in a field of its own."""
    text = io.StringIO()
    writer = csv.writer(text)
    sweep = design.sweep
    numbers = [
        f"{name}_{what}" for name in (sweep.metric, *SHOTS) for what in ("mean", "deviation")
    ]
    writer.writerow([
        "rung", "configuration", "arm", *sweep.swept, "epochs", "seeds", "diverged", *numbers,
        "error", "gain", "gain_half", "seconds",
    ])  # fmt: skip
    for rung in rungs:
        for line in rung.lines:
            found = gain(design, rung, line)
            values: list[float | None] = []
            for name in (sweep.metric, *SHOTS):
                of = line.spread(name)
                values += [of.mean, of.deviation] if of else [None, None]
            point = line.configuration.point
            writer.writerow([
                rung.number, line.configuration.label, line.configuration.arm.name,
                *(said(point[name]) if name in point else "" for name in sweep.swept),
                _epochs(line), " ".join(repeat.name for repeat in line.found),
                " ".join(repeat.name for repeat in line.diverged), *map(number, values),
                number(line.error), number(found.mean if found else None),
                number(found.half if found else None),
                number(line.seconds),
            ])  # fmt: skip
    return text.getvalue()


def _record(design: Design, rungs: Sequence[Rung]) -> dict[str, Any]:
    """The same for a program, run by run."""
    sweep, best = design.sweep, chosen(design, rungs)
    lines = [line for rung in rungs for line in rung.lines]
    on = dict.fromkeys(result.judged_on for line in lines for result in line.found.values())
    return {
        "name": sweep.name,
        "metric": sweep.metric,
        "stage": sweep.stage,
        "judged_on": list(on),
        "best": None if best is None else best.configuration.label,
        "rungs": [
            [
                {
                    "configuration": line.configuration.label,
                    "arm": line.configuration.arm.name,
                    "point": line.configuration.point,
                    "epochs": line.epochs,
                    "score": line.score,
                    "error": line.error,
                    "gain": None if (of := gain(design, rung, line)) is None else of.mean,
                    "gain_half": None if of is None else of.half,
                    "runs": {
                        run.name: {**repeat.options, **_of_run(line, repeat)}
                        for repeat, run in line.runs.items()
                    },
                }
                for line in rung.lines
            ]
            for rung in rungs
        ],
    }


def _of_run(line: Line, repeat: Repeat) -> dict[str, Any]:
    if repeat in line.found:
        result = line.found[repeat]
        return {"state": "done", "seconds": result.seconds, "metrics": result.metrics}
    if repeat in line.diverged:
        return {"state": "diverged", "why": line.diverged[repeat]}
    return {"state": "not finished"}
