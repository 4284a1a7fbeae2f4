"""Rows of heads on a run's features: read from what ``ltvr.heads`` leaves in the run folder."""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest

from ltvr.errors import UserError
from ltvr.posthoc.catalogue import names
from ltvr.reproduction.catalogue import CATALOGUE, Catalogue
from ltvr.reproduction.heads import Heads
from ltvr.reproduction.sheet import Sheet, each_once
from ltvr.reproduction.wanted import Wants
from ltvr.settings import save_config

CHOSEN = {"value": 0.7, "metrics": {"all": 47.3, "many": 56.6, "medium": 45.3, "few": None}}
NOT_AVAILABLE = {"tde": "the classifier has no moving feature"}


MADE = [
    {"head": name, "reason": NOT_AVAILABLE.get(name), "chosen": None if name == "tde" else CHOSEN}
    for name in names()
]


def write(job, **changes):
    """What ``ltvr.heads RUN`` leaves, with other fields."""
    folder = job.run.folder
    folder.mkdir(parents=True, exist_ok=True)
    save_config(job.run.config, folder / "config.yaml")
    (folder / "features.pt").write_bytes(b"weights")
    (folder / "summary.json").write_text("{}")  # it is finished
    digest = hashlib.sha256(b"weights").hexdigest()
    found = {"weights": "features.pt", "sha256": digest, "options": {}, "heads": MADE}
    (folder / "heads.json").write_text(json.dumps({**found, **changes}))


@pytest.fixture
def heads(tmp_path):
    catalogue = Catalogue.read(CATALOGUE)
    wants = Wants(catalogue, catalogue.budgets["cpu"]["cifar100"], tmp_path)
    return Heads(wants.run("baseline", 0))


def test_a_head_is_what_was_chosen_without_the_test_images(heads):
    assert heads.look().state == "missing" and heads.needs is heads.run
    assert heads.command(heads.look()) == ["-m", "ltvr.heads", str(heads.run.folder)]
    elsewhere = Heads(replace(heads.run, options={"device": "cpu", "root": "x"}))
    assert elsewhere.command(heads.look())[3:] == ["--root", "x", "--device", "cpu"]
    write(heads)
    assert heads.look().state == "done" and heads.metrics("ncm-cl2n") == CHOSEN["metrics"]
    with pytest.raises(UserError, match="tde is n/a, the classifier has no moving feature"):
        heads.metrics("tde")
    with pytest.raises(UserError, match="has no head 'none'; run python -m ltvr.heads again"):
        heads.metrics("none")


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "best-features.pt"},
        {"sha256": hashlib.sha256(b"others").hexdigest()},
        {"options": {"choose_on": 5}},
        {"options": {"crt_lr": 0.1}},
        {"heads": [each for each in MADE if each["head"] != "tau-norm"]},
        {"heads": 1},
    ],
)
def test_heads_that_are_others_than_the_wanted_ones_are_made_again(changes, heads):
    write(heads)
    assert heads.look().state == "done"
    write(heads, **changes)
    assert heads.look().state == "missing"


def test_heads_stand_when_the_weights_that_they_are_of_are_gone(heads):
    write(heads)
    (heads.run.folder / "features.pt").unlink()
    assert heads.look().state == "done"
    save_config(heads.run.config.replaced(amp="bf16"), heads.run.folder / "config.yaml")
    assert heads.look().state == "in the way" and "amp = 'bf16' there" in heads.look().why
    write(heads, heads=MADE[:1])
    (heads.run.folder / "features.pt").unlink()
    assert heads.look().state == "missing"


def reduced(job, folder):
    """A finished run in the place of a job, without checkpoints."""
    shutil.copytree(folder, job.folder, ignore=shutil.ignore_patterns("*.pt", "heads*"))
    save_config(job.config, job.folder / "config.yaml")


def test_heads_and_weights_of_a_run_without_them_are_of_the_same_run_once_more(finished, tmp_path):
    catalogue = Catalogue.read(CATALOGUE)
    setting = catalogue.budgets["cpu"]["cifar100"]
    wants = Wants(catalogue, setting, tmp_path)
    run = wants.run("baseline", 0)
    assert wants.again(run) == [run]
    reduced(run, finished)
    wants = Wants(catalogue, setting, tmp_path)
    sheet = Sheet.of(catalogue.tables["table4"], wants, [0], every=False)
    assert sheet.jobs["Cross Entropy(CE)", 0].look().state == "done"
    again = sheet.jobs["Cross Entropy(CE) + NCM", 0].run
    assert again.folder == run.out / "again" / run.name and again.instead_of.folder == run.folder
    assert sheet.jobs["Cross Entropy(CE) + T-norm", 0].run is again
    assert sheet.jobs["Cross Entropy(CE) + LWS", 0].source is again
    assert Sheet.of(catalogue.tables["fig4"], wants, [0], every=False).jobs["Baseline", 0] is again
    fig2 = Sheet.of(catalogue.tables["fig2"], wants, [0], every=False)
    assert fig2.jobs["Baseline", 0] is wants.run("baseline", 0)  # it reads the manifest alone
    write(Heads(wants.run("baseline", 0)))
    (run.folder / "features.pt").unlink()
    kept = Sheet.of(catalogue.tables["table4"], wants, [0], every=False)
    assert kept.jobs["Cross Entropy(CE) + NCM", 0].run.folder == run.folder


def test_all_heads_of_a_run_are_one_job_after_it(tmp_path):
    catalogue = Catalogue.read(CATALOGUE)
    wants = Wants(catalogue, catalogue.budgets["cpu"]["cifar100"], tmp_path)
    sheet = Sheet.of(catalogue.tables["table4"], wants, [0], every=False)
    todo = each_once(sheet.jobs.values())
    names = [job.name for job in todo]
    assert names.count("baseline-seed0-heads") == 1 and len(set(names)) == len(names)
    assert names.index("baseline-seed0") < names.index("baseline-seed0-heads")
