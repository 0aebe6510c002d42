import json

from tvm_balanced.cli.app import run


def test_a_model_is_compiled_and_timed_beside_pytorch(folder, capfd):
    assert run(["report", "models:pruned", "-o", "page.html", "--repeat", "2", "--json"]) == 0
    printed, shown = capfd.readouterr()
    found = json.loads(printed)
    assert "addmm" in found["profiles"]["main"]["eager"]
    assert {row["name"] for row in found["profiles"]["main"]["rows"]} >= {"0", "2"}
    assert "USDT" not in shown
    assert (folder / "page.html").read_text().count("2 nonzeros") == 2


def test_an_artifact_is_timed_on_its_stored_inputs(artifact, folder, capfd):
    assert run(["report", str(artifact), "-o", "page.html", "--repeat", "2"]) == 0
    assert "2 nonzeros" in (folder / "page.html").read_text()
    assert capfd.readouterr().out == "wrote page.html\n"


def test_what_does_not_fit_is_refused(artifact, folder, capfd):
    assert run(["report", str(artifact), "-o", "page.txt"]) == 2
    assert run(["report", str(artifact), "-o", "page.html", "--length", "8"]) == 2
    assert "is an artifact" in capfd.readouterr().err
    assert not list(folder.glob("*.html"))
