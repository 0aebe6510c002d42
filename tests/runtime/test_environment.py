import sys

import pytest

from tvm_balanced.errors import EnvironmentFaultError
from tvm_balanced.runtime import environment


def faults(**installed):
    return [f.text for f in environment.version_findings({k.replace("_", "-"): v for k, v in installed.items()}) if f.fault]


def test_working_versions():
    assert faults(apache_tvm="0.27.0.post1", apache_tvm_ffi="0.1.14.post1") == []
    environment.require_working_tvm()


@pytest.mark.parametrize("ffi", ["0.1.15.post1", "0.1.15", "0.1.13", "0.2.0"])
def test_broken_ffi_is_named_with_the_remedy(ffi):
    (text,) = faults(apache_tvm="0.27.0", apache_tvm_ffi=ffi)
    assert f"apache-tvm-ffi {ffi} does not work" in text
    assert "pip install" in text


def test_missing_tvm():
    assert "apache-tvm is not installed" in faults(apache_tvm_ffi="0.1.14.post1")[0]


def test_require_raises(monkeypatch):
    monkeypatch.setattr(environment, "versions", lambda: {})
    with pytest.raises(EnvironmentFaultError, match="not installed"):
        environment.require_working_tvm()


def test_describe_has_what_a_bug_report_needs():
    facts = environment.describe()
    assert {"versions", "system", "cpu", "c_compiler", "gpu", "cores", "target", "target_key", "features"} <= set(facts)
    assert {"python", "apache-tvm", "apache-tvm-ffi", "torch", "numpy"} <= set(facts["versions"])


def test_what_is_wrong_is_said(monkeypatch):
    monkeypatch.setattr(environment, "c_compiler", lambda: None)
    texts = [f.text for f in environment.describe()["findings"] if f.fault]
    assert any("no C compiler" in text for text in texts)


def test_compiler_can_be_chosen(monkeypatch):
    monkeypatch.setenv("CXX", "/bin/sh")
    assert environment.c_compiler() == "/bin/sh"
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert environment.c_compiler() is None


def test_a_package_of_an_extra_that_is_missing(monkeypatch):
    environment.require_extra("tune", ["numpy", "tvm"])
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(EnvironmentFaultError, match=r"^psutil is not installed; run pip install 'tvm-balanced\[tune\]'$"):
        environment.require_extra("tune", ["numpy", "psutil"])
