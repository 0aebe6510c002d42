import numpy as np

from benchmarks import grid, plots


def test_figures_from_what_was_measured(tmp_path):
    ratios = {cell: {"onednn": [np.full(5, 2.0), np.full(5, 3.0)]} for cell in grid.draw()[:7]}
    plots.draw_grid(ratios, tmp_path / "figures" / "grid.svg")
    row = {"model": "lstm", "batch": "1", "pattern": "2:16", "threads": "1", "p20": "1.5", "p50": "2", "p80": "2.5"}
    plots.draw_models(
        [row | {"rival": rival} for rival in ("balanced", "eager", "torch.nn.LSTM")], tmp_path / "figures" / "models.svg"
    )
    for name in ("grid", "models"):
        path = tmp_path / "figures" / f"{name}.svg"
        assert path.read_text().startswith("<?xml")
        assert path.stat().st_size < 100_000
    first = (tmp_path / "figures" / "grid.svg").read_bytes()
    plots.draw_grid(ratios, tmp_path / "figures" / "grid.svg")
    assert (tmp_path / "figures" / "grid.svg").read_bytes() == first


def test_nothing_is_drawn_of_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(grid, "GRID_ROUNDS", tmp_path / "none.csv")
    monkeypatch.setattr(plots, "GRID_ROUNDS", tmp_path / "none.csv")
    monkeypatch.setattr(plots, "MODELS", tmp_path / "none.csv")
    monkeypatch.setattr("sys.argv", ["plots"])
    plots.main()
    assert "nothing to draw" in capsys.readouterr().out
