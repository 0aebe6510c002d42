import subprocess
import sys
import time

from benchmarks import interference

SPIN = "import time\nwhile time.process_time() < 0.4: pass"


def test_own_work_is_not_that_of_others(monkeypatch):
    seconds = iter([(100.0, 50.0), (104.0, 52.0)])  # for all cores: total, idle
    monkeypatch.setattr(interference, "_machine", lambda: next(seconds))
    monkeypatch.setattr(interference, "_own", lambda: 0.0)
    with interference.other_load() as found:
        pass
    assert found.share == 0.5


def test_children_that_ended_are_own_work():
    before = interference._own()
    subprocess.run([sys.executable, "-c", SPIN], check=True)
    assert interference._own() - before > 0.2


def test_a_machine_that_says_nothing_is_taken_as_quiet(monkeypatch):
    monkeypatch.setattr(interference, "_machine", lambda: (0.0, 0.0))
    with interference.other_load() as found:
        time.sleep(0.01)
    assert found.share == 0
