"""The file of a sweep: what it says, and one line that names the key where something is wrong."""

from pathlib import Path

import pytest

from ltvr.errors import UserError
from ltvr.sweeping.configurations import Design
from ltvr.sweeping.file import read
from ltvr.sweeping.plan import Repeat

EXAMPLE = Path(__file__).parents[2] / "examples" / "sweep_digits.yaml"
HEAD = """
preset: digits
options: {holdout: 10, evaluate_every: 40}
"""
ON_IMAGES = HEAD.replace("digits", "cifar10-ir100-cpu")


@pytest.fixture
def plan(tmp_path):
    """The configurations of a file with these lines, on the digits."""

    def made(lines, head=HEAD, **said):
        (tmp_path / "tries.yaml").write_text(head + lines)
        return Design.of(read(tmp_path / "tries.yaml", said))

    return made


def labels(design):
    return [each.label for each in design.configurations]


def config(design, at, rung=0, repeat=0):
    """The options of a run."""
    repeat = design.sweep.repeats[repeat]
    return design.training(design.configurations[at], rung, repeat, Path("runs")).config.flat()


def test_a_file_with_a_preset_alone_is_one_run(plan, tmp_path):
    design = plan("")
    assert (design.sweep.name, labels(design)) == ("tries", ["ltvr"])
    assert design.sweep.repeats == (Repeat(0),) and design.sweep.metric == "balanced_accuracy"


def test_a_method_of_a_file_is_the_arm_of_its_name(plan, tmp_path):
    (tmp_path / "mine.yaml").write_text("loss: focal")
    assert labels(plan(f"method: {tmp_path}/mine.yaml")) == ["mine"]


def test_arms_by_a_grid_each_with_its_method_and_its_options(plan):
    design = plan("""
method: ltvr
arms:
  baseline: {method: baseline}
  late: {lay_back_start: 0.8}
  light:
    gamma: 0.25
grid:
  over: [late, light]
  lr: [0.3, 1]
  loss_weight: [1, 2]
""", head=ON_IMAGES, root="/elsewhere")  # fmt: skip
    points = [f"lr {lr}, loss_weight {weight}" for lr in ("0.3", "1") for weight in (1, 2)]
    expected = ["baseline", *(f"{arm}, {each}" for arm in ("late", "light") for each in points)]
    assert labels(design) == expected
    values = config(design, 3)
    assert (values["method"], values["lay_back_start"], values["lr"]) == ("ltvr", 0.8, 1.0)
    assert (values["loss_weight"], values["holdout"], values["root"]) == (1.0, 10, "/elsewhere")
    assert config(design, 0)["decomposition"] == "none"


def test_the_example_is_a_sweep():
    design = Design.of(read(EXAMPLE, {}))
    assert len(design.configurations) == 8 and not design.notes


def test_folds_go_with_seeds(plan):
    assert plan("folds: [0, 2]").sweep.repeats == (Repeat(0, 0), Repeat(2, 2))
    design = plan("seeds: [7, 8]\nfolds: [0, 1]")
    assert design.sweep.repeats == (Repeat(7, 0), Repeat(8, 1))
    values = config(design, 0, repeat=1)
    assert (values["seed"], values["holdout_fold"]) == (8, 1)


def test_rungs_have_their_own_epochs(plan):
    design = plan("halving: {epochs: [5, 15]}\narms: {a: {}, b: {lr: 0.1}}")
    assert [config(design, 1, rung)["epochs"] for rung in (0, 1)] == [5, 15]


def test_a_command_says_what_differs_from_preset_and_method_alone(plan):
    """Else training would refuse an option that only other arms use."""
    design = plan("""
arms:
  baseline: {method: baseline, milestones: []}
  ltvr: {milestones: [0.5, 0.8], ema: 0.99, image_size: 16}
options: {holdout: 10, fused: true, gamma: 0.25, lr_decay: 0.5}
""", head="preset: digits")  # fmt: skip
    runs = [design.training(each, 0, Repeat(3), Path("runs")) for each in design.configurations]
    assert runs[0].options == {"holdout": 10.0, "seed": 3}
    said = {"fused": True, "gamma": 0.25, "lr_decay": 0.5, "milestones": (0.5, 0.8), "ema": 0.99}
    assert runs[1].options == {"holdout": 10.0, "seed": 3, **said}


def test_the_same_configuration_twice_is_trained_once_and_said(plan):
    design = plan("""
compare_with: plain
arms:
  ours: {gamma: 0.5}
  same: {}
  plain: {method: baseline}
  again: {method: baseline, nesterov: false}
grid: {over: [ours, same], gamma: [0.5, 1.0]}
""")  # fmt: skip
    assert labels(design) == ["ours, gamma 0.5", "ours, gamma 1", "plain"]
    assert len(design.notes) == 3
    assert design.notes[2].startswith("again is the same configuration as plain")
    # The arm that gains are over is the one that stays.
    design = plan("compare_with: b\narms: {a: {}, b: {}, c: {lr: 0.1}}")
    assert labels(design) == ["b", "c"]


def test_a_run_is_named_by_what_decides_it(plan, tmp_path):
    """Not by its seed, its fold, where its images are, or what a reader calls its arm."""

    def names(lines, **said):
        design = plan(lines, head=ON_IMAGES, **said)
        training = design.training(design.configurations[0], 0, design.sweep.repeats[-1], tmp_path)
        return training.name

    first = names("arms: {a: {gamma: 0.25}}")
    assert first == names("arms: {a: {gamma: 0.25}}\nseeds: [1, 0]", root="/elsewhere")
    assert first != names("arms: {a: {gamma: 0.75}}") and first.endswith("-seed0")
    assert first.replace("-seed0", "-seed1-fold1") == names("arms: {a: {gamma: 0.25}}\nfolds: [1]")
    (tmp_path / first).mkdir()
    assert names("arms: {another: {gamma: 0.25}}") == first


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("sedes: [0]", "tries.yaml: unknown key 'sedes'; did you mean seeds?"),
        ("seeds: 3", "tries.yaml, seeds: 3: expected a list of numbers, in brackets"),
        ("seeds: [0, 0]", "seeds: 0 is there twice"),
        ("seeds: [0, -1]", "seeds: -1: expected a whole number, 0 or more"),
        ("seeds: [true]", "seeds: True: expected a whole number"),
        ("seeds: [0]\nfolds: [0, 1]", "folds: 2 folds and 1 seeds"),
        ("name: ../x", "name: '../x': expected a name of letters"),
        ("method: none", "method 'none': expected one of"),
        ("arms: {}", "arms: there is none; expected lines like NAME: {lr: 0.3}"),
        ("arms: [a]", "arms: ['a']: expected lines like NAME"),
        ("arms: {a/b: {}}", "arms: 'a/b': expected a name of letters"),
        ("arms: {a: 3}", "arms, a: 3: expected lines like lr: 0.3"),
        ("arms: {a: {lay_back_strat: 0.8}}", "arms, a: unknown option 'lay_back_strat'; did you "
         "mean lay_back_start?"),
        ("arms: {a: {lr: fast}}", "arms, a: lr = 'fast': expected a number"),
        ("arms: {a: {ema: 1.5}}", "arms, a: ema = 1.5: expected at least 0, below 1"),
        ("arms: {a: {seed: 1}}", "arms, a: seed is not said here; say `seeds: [0, 1]`"),
        ("arms: {a: {method: [x]}}", "arms, a, method: ['x']: expected a name"),
        ("folds: [0]\narms: {a: {holdout_fold: 1}}", "holdout_fold is not said here; `folds`"),
        ("halving: {epochs: [5, 9]}\narms: {a: {epochs: 3}}", "epochs is not said here; `hal"),
        ("compare_with: bas\narms: {base: {}}", "'bas': expected an arm, one of base; did you mean "
         "base?"),
        ("compare_with: [base]\narms: {base: {}}", "compare_with: ['base']: expected an arm"),
        ("grid: {lr: 0.3}", "grid, lr: 0.3: expected a list of values, in brackets"),
        ("grid: {lr: [0.3, 0.3]}", "grid, lr: 0.3 is there twice"),
        ("grid: {lr: [0.3, x]}", "grid, lr: lr = 'x': expected a number"),
        ("grid: {over: [ltvr]}", "grid: it names no option"),
        ("grid: {over: [ltv], lr: [1]}", "grid, over: 'ltv': expected an arm, one of ltvr"),
        ("grid: {batch: [1, 2]}", "grid: unknown option 'batch'"),
        ("grid: {method: [ltvr, baseline]}", "grid: method is not said here; give each method an"),
        (f"grid: {{lr: {[*range(1, 80)]}, gamma: {[*range(1, 80)]}}}", "6241 points; expected"),
        ("grid: {lr: [1]}\nsobol: {lr: [1]}", "there are `grid` and `sobol`"),
        ("sobol: {lr: [1]}", "sobol, points: None: expected a whole number, 1 or more"),
        ("sobol: {points: 100000, lr: [1]}", "sobol: 100000 points; expected 4096 at most"),
        ("sobol: {points: 4, lr: {from: 1}}", "sobol, lr: there is no `to`"),
        ("sobol: {points: 4, lr: {from: 1, to: 2, lg: true}}", "did you mean log?"),
        ("sobol: {points: 4, lr: {from: 2, to: 1}}", "sobol, lr: from 2 to 1: expected two that"),
        ("sobol: {points: 4, lr: {from: 0, to: 1, log: true}}", "with log it has to be above 0"),
        ("sobol: {points: 4, lr: {from: -1, to: 1}}", "sobol, lr: lr = -1.0: expected at least 0"),
        ("sobol: {points: 4, mixing: {from: 1, to: 2}}", "mixing is no number; list its values"),
        ("halving: {epochs: [30, 10]}", "halving, epochs: [30, 10]: expected at least two that"),
        ("halving: {keep: 0.3}", "halving, epochs: None: expected a list of epochs"),
        ("halving: {epochs: [1, 2], keep: 2}", "halving, keep: 2: expected a share"),
        ("judge: {metric: accuracy}", "judge, metric: 'accuracy': expected a metric, one of "
         "balanced_accuracy"),
        ("judge: {stage: cRT}", "judge, stage: 'cRT': expected a stage"),
        # What is wrong with a configuration.
        ("judge: {stage: oltr}", "ltvr has no stage oltr to be judged by, but features, crt"),
        ("arms: {a: {stages: [crt]}}", "a: its first stage, crt, starts from trained features"),
        ("arms: {a: {method: baseline, gamma: 1.0}}", "arm a: --gamma is an option of"),
        ("arms: {a: {lr_decay: 0.5}}", "arm a: --lr-decay changes nothing with milestones = none"),
        ("arms: {a: {}, b: {data_seed: 3}}", "b has other images or subsets than a, as "
         "data_seed is 3 and 0"),
        ("arms: {a: {}, b: {few_below: 50}}", "as few_below is 50 and "),
        ("grid: {holdout: [5, 10]}", "ltvr, holdout 10 has other images or subsets than "
         "ltvr, holdout 5, as"),
        ("method: baseline\ngrid: {gamma: [0.5, 1]}", "arm baseline: --gamma is an option of"),
        ("arms: {a: {}, b: {lay_back_start: 0.9}}\nhalving: {epochs: [3, 9]}", "b at 3 epochs: "
         "lay_back_start = 0.9: generation would begin at epoch 3 of 3"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_that_names_the_key(lines, words, plan):
    with pytest.raises(UserError) as error:
        plan(lines)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("seeds: [0]", "tries.yaml: there is no line `preset: NAME`"),
        ("preset: digit", "preset 'digit': expected one of"),
        ("- a", "expected `option: value` lines"),
        ("preset: digits", "ltvr would be judged on the test set, by which nothing may be chosen; "
         "add a hold-out to `options`: holdout: 0.1"),
        ("preset: digits\narms: {a: {holdout: 10}, b: {holdout: 0}}", "b would be judged on the"),
        ("preset: digits\noptions: {holdout: 10, gamma: 1.0}\nmethod: baseline",
         "options: --gamma is an option of"),
        ("preset: digits\noptions: {holdout: 10, gama: 1.0}", "options: unknown option 'gama'; did "
         "you mean gamma?"),
    ],
)  # fmt: skip
def test_a_file_without_what_a_sweep_needs_is_refused(head, words, plan):
    with pytest.raises(UserError) as error:
        plan("", head=head)
    assert words in str(error.value)
