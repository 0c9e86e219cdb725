"""The report's part on calibration."""

from pathlib import Path

import pytest
from spoken_films import spoken_corpus

from corpus.errors import UserError
from pipeline.calibration import page
from pipeline.calibration.calibrate import calibrate
from pipeline.ledger.status import latest_run
from pipeline.pages.calibrated import calibration_part
from pipeline.pages.report import write_report


def test_the_report_tells_in_short_what_calibration_found(tmp_path: Path) -> None:
    words = {f"film{n}": ["it moves left", "it <b>stays", "it moves up"] for n in range(2)}
    corpus = spoken_corpus(tmp_path, words)
    run, _ = latest_run(corpus)
    assert calibration_part(run) is None
    assert "tv2tv calibrate" not in Path(write_report(corpus, clips=0)).read_text()
    found = calibrate(corpus, kinds=["verb_swap", "negation", "drop"], rate=1.0)
    page.write(found)
    part = calibration_part(run)
    assert part is not None
    assert part.kinds == ("verb_swap", "negation"), "nothing is left to judge of what is dropped"
    assert part.rows[-1][0] == "words alone" and part.rows[-1][1][1] == "1.000"
    assert [name for name, _ in part.rows[:-1]] == [s.score for s in page.ordered(found.scores)][:4]
    text = Path(write_report(corpus, clips=0)).read_text()
    section = text.partition("Which scores notice false captions")[2].partition("</div>\n</div>")[0]
    assert "words alone" in section and "<svg" in section and "drop leaves no text" in section
    run.write_text("calibration.json", '{"corpus": 3}')
    with pytest.raises(UserError, match=r"calibration.json is not what this version"):
        calibration_part(run)
