import gc
import threading

import pytest

from tvm_balanced.frontend.exporting import OBJECTS, Exporting


@pytest.fixture
def threshold():
    before = gc.get_threshold()
    yield gc.set_threshold
    gc.set_threshold(*before)


def test_cycles_are_looked_for_less_often_until_the_outermost_block_ends(threshold):
    lock = Exporting()
    threshold(700, 10, 10)
    found = []

    def failing():
        with lock:
            with lock:
                found.append(gc.get_threshold())
            found.append(gc.get_threshold())
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert found == [(OBJECTS, 10, 10)] * 2
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("own", [0, 2 * OBJECTS])
def test_who_looks_for_them_less_often_still_does_so(threshold, own):
    threshold(own, 5, 5)
    with Exporting():
        assert gc.get_threshold() == (own, 5, 5)
    assert gc.get_threshold() == (own, 5, 5)


def test_one_thread_at_a_time():
    lock, order = Exporting(), []

    def second():
        with lock:
            order.append("second")

    thread = threading.Thread(target=second)
    with lock:
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
