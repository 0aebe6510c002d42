from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_balanced.transform.note_variables import NoteVariables


@I.ir_module
class Model:
    @R.function
    def main(x: R.Tensor((4, 8), "float32")) -> R.Tensor((4, 8), "float32"):
        with R.dataflow():
            first = R.exp(x)
            second = R.add(first, x)
            third = R.nn.softmax(second)
            R.output(third)
        return third


def test_a_fused_function_computes_the_variables_of_what_is_in_it():
    noting = NoteVariables()
    passes = [relax.transform.LegalizeOps(), relax.transform.AnnotateTIROpPattern()]
    mod = Model
    for one in (*passes, noting, relax.transform.FuseOps(), noting, relax.transform.FuseTIR()):
        mod = one(mod)
    found = {var.name_hint: noting.variables[var.name_hint] for var in mod.get_global_vars() if var.name_hint != "main"}
    assert set().union(*found.values()) == {"first", "second", "third"}
    assert {"first", "second"} <= next(names for names in found.values() if "first" in names)
    assert len(found) < 3
