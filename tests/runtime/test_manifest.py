import json
import os
import shutil

import pytest

import tvm_balanced as tb
from tvm_balanced.errors import ArtifactError, InputError
from tvm_balanced.runtime.manifest import read_manifest, write_manifest


@pytest.fixture
def copy(artifact, tmp_path):
    return shutil.copytree(artifact, tmp_path / "copy.tb")


def refused(directory, said, **options):
    """Loading it fails with one sentence that says this."""
    with pytest.raises(ArtifactError, match=said) as error:
        tb.load(directory, **options)
    assert "\n" not in str(error.value)


def edit(directory, change):
    manifest = read_manifest(directory)
    change(manifest)
    write_manifest(directory, manifest)


def put(*keys, value):
    """A change of a manifest: the value at the end of these keys becomes this one."""

    def change(manifest):
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = value

    return change


MAIN = ("entry_points", "main")


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("threads",), None, "threads is None"),
        (("threads",), "2", "threads is '2'"),
        (("threads",), 0, "threads is 0"),
        (("threads",), 2**31, "threads is 2147483648"),
        (("threads",), True, "threads is True"),
        (("features",), "avx", "features is 'avx'"),
        (("versions",), [], "versions is"),
        (("max_error",), "small", "max_error is"),
        (("report",), {}, "report is"),
        (("source",), None, "source is None"),
        (("sha256", "lib.so"), "0", "checksum of lib.so"),
        (("weights", 0, "dtype"), "float31", "dtype of .* is 'float31'"),
        (("weights", 0, "shape"), [-1], "shape of"),
        (("weights", 0, "shape"), "5", "shape of"),
        (("entry_points",), {}, "entry_points is"),
        ((*MAIN, "inputs", 0, "shape"), [5, None], "shape of input"),
        ((*MAIN, "ranges"), {"n": [5, 2]}, "range of n"),
        ((*MAIN, "ranges"), {"n": [1, 2]}, "range of n"),
        ((*MAIN, "weights"), [0, 99], "weights of main"),
        ((*MAIN, "weights"), [0, -1], "weights of main"),
        ((*MAIN, "weights"), [0], "main takes 7 tensors; the manifest lists 2"),
        ((*MAIN, "donate"), {"input": "nothing"}, "donate is"),
        ((*MAIN, "result"), 3, "a structure is 3"),
        ((*MAIN, "result"), {"tensor": 5}, "names tensor 5 of 1"),
        ((*MAIN, "call"), [["x", {"tensor": 0, "value": 1}]], "it must be one of"),
        ((*MAIN, "call"), [["x", {"tensor": 0}]] * 2, "a list of pairs, each of another name"),
        (("generation",), {"length": 8}, "of entry points prefill and decode"),
    ],
)
def test_a_field_with_nonsense_gets_one_sentence(copy, keys, value, said):
    edit(copy, put(*keys, value=value))
    refused(copy, said)


def test_a_field_that_is_missing(copy):
    edit(copy, lambda manifest: manifest.pop("weights"))
    refused(copy, "it has no 'weights'")


def test_another_shape_or_dtype_of_an_input_is_said_by_the_call(mlp, copy):
    _, (x,) = mlp
    edit(copy, put("self_test", value=None))  # with it, loading says that the two differ
    edit(copy, put(*MAIN, "inputs", 0, "shape", value=[4, 64]))
    with pytest.raises(ArtifactError, match="does not take what its manifest lists") as error:
        tb.load(copy)(x[:4])
    assert "\n" not in str(error.value)
    edit(copy, put(*MAIN, "inputs", 0, value={"name": "input", "shape": [5, 64], "dtype": "float64"}))
    with pytest.raises(ArtifactError, match="does not take what its manifest lists"):
        tb.load(copy)(x.double())


def test_deep_json(copy):
    (copy / "manifest.json").write_text("[" * 100_000)
    refused(copy, "no readable manifest")


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_weight_outside_the_artifact_is_not_read(copy, tmp_path, verify, absolute):
    manifest = read_manifest(copy)
    file = manifest["weights"][0]["file"]
    outside = shutil.copy(copy / file, tmp_path / "outside.npy")
    place = str(outside) if absolute else "../outside.npy"
    edit(copy, put("weights", 0, "file", value=place))
    refused(copy, "a weight's file is", verify=verify)
    manifest["sha256"][place] = manifest["sha256"].pop(file)
    manifest["weights"][0]["file"] = place
    write_manifest(copy, manifest)
    refused(copy, "a file is", verify=verify)


@pytest.mark.parametrize("name", ["/tmp", "..", ".", "", "a/b", "a\0"])
def test_a_variant_outside_the_artifact_is_not_read(copy, name):
    (copy / "manifest.json").write_text(json.dumps({"format": 3, "variants": [name]}))
    refused(copy, "a variant is")


def test_variants_of_variants(copy):
    (copy / "a").mkdir()
    for folder, inner in ((copy, "a"), (copy / "a", "b")):
        for name in ("weights", "self_test"):
            shutil.rmtree(copy / name, ignore_errors=True)
        (copy / "lib.so").unlink(missing_ok=True)
        (folder / "manifest.json").write_text(json.dumps({"format": 3, "variants": [inner]}))
    refused(copy, "a variant has no variants")


@pytest.mark.parametrize("verify", [True, False])
def test_a_file_that_is_not_listed_is_refused(copy, verify):
    (copy / "weights" / "more.npy").write_bytes(b"")
    refused(copy, r"holds weights/more\.npy, which its manifest does not list", verify=verify)


@pytest.mark.parametrize("file", ["lib.so", "weights", "manifest.json", "one weight"])
def test_links_are_not_followed(copy, tmp_path, file):
    path = next((copy / "weights").iterdir()) if file == "one weight" else copy / file
    (tmp_path / "elsewhere").mkdir()
    shutil.move(path, tmp_path / "elsewhere" / path.name)
    path.symlink_to(tmp_path / "elsewhere" / path.name)
    refused(copy, "no readable manifest" if file == "manifest.json" else "is a symbolic link")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("file", ["lib.so", "manifest.json", "one weight"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["fifo", "/dev/zero"])
def test_a_fifo_or_device_is_refused_and_does_not_hang(copy, file, make):
    path = next((copy / "weights").iterdir()) if file == "one weight" else copy / file
    path.unlink()
    make(path)
    refused(copy, "no readable manifest" if file == "manifest.json" else "a symbolic link|neither a file nor a directory")


def test_the_artifact_itself_may_be_a_link(mlp, compiled_mlp, artifact, tmp_path):
    (tmp_path / "current.tb").symlink_to(artifact)
    assert tb.load(tmp_path / "current.tb").facts == compiled_mlp.facts


@pytest.mark.parametrize("name", ["a\0b", "n" * 300])
def test_names_that_no_file_can_have(compiled_mlp, tmp_path, name):
    for use in (tb.load, compiled_mlp.save):
        with pytest.raises(InputError, match=r"NUL|300 bytes"):
            use(tmp_path / name)


def test_a_name_that_is_too_long_while_it_is_written(compiled_mlp, tmp_path):
    with pytest.raises(ArtifactError, match="cannot be written"):
        compiled_mlp.save(tmp_path / ("n" * 250))
