"""The page of a run: made of its files alone, with or without the masks."""

import shutil

import ltvr.report


def test_report_is_made_again_from_the_files_of_a_run(finished, tmp_path, command):
    copy = shutil.copytree(finished, tmp_path / "copy")
    before = (copy / "report.html").read_text()
    (copy / "report.html").unlink()
    code, out, err = command(ltvr.report, copy)
    assert code == 0 and str(copy / "report.html") in out, err
    assert (copy / "report.html").read_text() == before
    assert command(ltvr.report, copy, "--no-masks")[0] == 0
    page = (copy / "report.html").read_text()
    assert "<h2>Masks</h2>" not in page and "the masks are left out" in page
    (copy / "summary.json").unlink()
    code, _, err = command(ltvr.report, copy)
    assert code == 2 and "is not finished" in err
