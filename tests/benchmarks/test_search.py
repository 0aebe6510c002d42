import pytest

from benchmarks import search


@pytest.mark.slow
def test_what_is_known_of_other_layers_saves_trials_on_recorded_tables():
    pytest.importorskip("xgboost")
    tables = search.cuts()
    assert len(tables) == 5
    assert all(len({len(point) for point in table}) == 1 for table in tables.values())
    together = {
        name: sum(search.replayed(layer, tables, known, 0) for layer in tables) for name, known in search.TRANSFERS.items()
    }
    assert together["all points"] < together["nothing"]
    assert together["the best point"] < together["nothing"]
