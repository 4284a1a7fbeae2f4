"""The page of a finished run, made anew, and what is refused."""

import shutil

import pytest

import ltvr.report


@pytest.fixture
def run(finished, tmp_path):
    """A finished run whose page is gone."""
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "report.html").unlink()
    return folder


def test_the_page_is_made_anew(run, finished, command):
    page = run / "report.html"
    assert command(ltvr.report, run) == (0, f"{page}\n", "")
    assert page.read_text() == (finished / "report.html").read_text()


def test_the_page_without_masks_says_so(run, command):
    assert command(ltvr.report, run, "--no-masks")[0] == 0
    page = (run / "report.html").read_text()
    assert "masks are left out" in page and "<h2>Masks</h2>" not in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--root", "x"], "--root changes nothing for digits; leave it out"),
        (["--lists", "x"], "--lists changes nothing for digits; leave it out"),
        (["--no-masks", "--root", "x"], "--root is for the masks; leave out --no-masks"),
        (["--no-masks", "--lists", "x"], "--lists is for the masks; leave out --no-masks"),
    ],
)
def test_places_that_change_nothing_are_refused(arguments, words, run, command):
    assert command(ltvr.report, run, *arguments) == (2, "", f"error: {words}\n")
    assert not (run / "report.html").exists()
