"""Rows of heads on a run's features: read from what ``ltvr.heads`` leaves in the run folder."""

import json

import pytest

from ltvr.errors import UserError
from ltvr.reproduction.catalogue import CATALOGUE, Catalogue
from ltvr.reproduction.heads import Heads
from ltvr.reproduction.sheet import Sheet, each_once
from ltvr.reproduction.wanted import Wants

CHOSEN = {"value": 0.7, "metrics": {"all": 47.3, "many": 56.6, "medium": 45.3, "few": None}}
FOUND = {
    "heads": [
        {"head": "ncm-cl2n", "reason": None, "chosen": CHOSEN},
        {"head": "tde", "reason": "the classifier has no moving feature", "chosen": None},
    ]
}


@pytest.fixture
def heads(tmp_path):
    catalogue = Catalogue.read(CATALOGUE)
    wants = Wants(catalogue, catalogue.budgets["cpu"]["cifar100"], tmp_path)
    return Heads(wants.run("baseline", 0))


def test_a_head_is_what_was_chosen_without_the_test_images(heads):
    assert heads.look().state == "missing" and heads.needs is heads.run
    assert heads.command(heads.look()) == ["-m", "ltvr.heads", str(heads.run.folder)]
    heads.run.folder.mkdir(parents=True)
    (heads.run.folder / "heads.json").write_text(json.dumps(FOUND))
    assert heads.look().state == "done" and heads.metrics("ncm-cl2n") == CHOSEN["metrics"]
    with pytest.raises(UserError, match="tde is n/a, the classifier has no moving feature"):
        heads.metrics("tde")
    with pytest.raises(UserError, match="has no head 'tau-norm'; run python -m ltvr.heads again"):
        heads.metrics("tau-norm")


def test_all_heads_of_a_run_are_one_job_after_it(tmp_path):
    catalogue = Catalogue.read(CATALOGUE)
    wants = Wants(catalogue, catalogue.budgets["cpu"]["cifar100"], tmp_path)
    sheet = Sheet.of(catalogue.tables["table4"], wants, [0], every=False)
    todo = each_once(sheet.jobs.values())
    names = [job.name for job in todo]
    assert names.count("baseline-seed0-heads") == 1 and len(set(names)) == len(names)
    assert names.index("baseline-seed0") < names.index("baseline-seed0-heads")
