import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import InputError, ModelError


class Encoder(nn.Module):
    """Blocks in a row, and tokens that a mask leaves out."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Dropout(0.5)) for _ in range(3))
        self.head = nn.Linear(32, 8)

    def forward(self, x, attention_mask):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def setup():
    torch.manual_seed(0)
    teacher = Encoder()
    mask = torch.ones(4, 6, dtype=torch.int64)
    mask[:, 4:] = 0
    batches = [(torch.randn(4, 6, 32), mask) for _ in range(5)]
    student = copy.deepcopy(teacher)
    tb.prune(student, "4:16")
    return student, teacher, batches


def error(student, teacher, batches):
    with torch.no_grad():
        return sum(float((student.eval()(*b) - teacher.eval()(*b))[:, :4].square().mean()) for b in batches)


def test_the_student_comes_closer_and_its_zeros_stay():
    student, teacher, batches = setup()
    teacher_before, zeros = copy.deepcopy(teacher.state_dict()), {n: p == 0 for n, p in student.named_parameters()}
    student.train()
    before = error(copy.deepcopy(student), teacher.train(), batches)
    lines = []
    done = tb.distill(student, teacher.train(), batches, steps=80, learning_rate=1e-2, progress=lines.append)
    assert student.training
    assert error(student, teacher, batches) < 0.5 * before
    assert done.last_loss < 0.5 * done.first_loss
    assert done.steps == 80
    assert lines[0].startswith("step 10 of 80,")
    for name, parameter in student.named_parameters():
        assert not parameter[zeros[name]].any()
        assert parameter.grad is None
    assert all(torch.equal(value, teacher_before[name]) for name, value in teacher.state_dict().items())


def test_bfloat16_is_what_matrices_are_multiplied_in_and_weights_stay_float32():
    student, teacher, batches = setup()
    before, seen = error(copy.deepcopy(student), teacher, batches), []
    for model in (student, teacher):
        model.blocks[0][0].register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    tb.distill(student, teacher, batches, steps=40, learning_rate=1e-2, precision="bfloat16")
    assert seen.count(torch.bfloat16) == 80
    assert student.head.weight.dtype == torch.float32
    assert error(student, teacher, batches) < 0.7 * before
    with pytest.raises(InputError, match='precision is "fp8"; give one of float32, bfloat16'):
        tb.distill(student, teacher, batches, steps=1, precision="fp8")


def test_tokens_that_are_masked_do_not_count():
    student, teacher, batches = setup()
    other = copy.deepcopy(student)
    noisy = [(torch.where(mask[..., None] == 0, 100 * torch.randn_like(x), x), mask) for x, mask in batches]
    tb.distill(student, teacher, batches, steps=5)
    tb.distill(other, teacher, noisy, steps=5)
    torch.testing.assert_close(student.state_dict(), other.state_dict())


def test_a_run_goes_on_from_its_checkpoint(tmp_path):
    student, teacher, batches = setup()
    again = copy.deepcopy(student)
    first = copy.deepcopy(student)
    tb.distill(student, teacher, batches, steps=14)
    path = tmp_path / "distill.pt"

    class Interruption(Exception):
        pass

    def interrupted():
        yield from batches
        yield from batches[:2]
        raise Interruption

    class Once:
        def __iter__(self):
            return interrupted()

    with pytest.raises(Interruption):
        tb.distill(first, teacher, Once(), steps=14, checkpoint=path)
    assert not torch.equal(first.head.weight, student.head.weight)
    done = tb.distill(again, teacher, batches, steps=14, checkpoint=path)
    assert done.steps == 14
    torch.testing.assert_close(again.state_dict(), student.state_dict())


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    student, teacher, batches = setup()
    path = tmp_path / "distill.pt"
    tb.distill(student, teacher, batches, steps=2, checkpoint=path)
    before = path.read_bytes()

    def torn(_state, file):
        file.write_bytes(before[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(InputError, match=r"distill.pt cannot be written \(.*No space left"):
        tb.distill(student, teacher, batches, steps=4, checkpoint=path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    trained = copy.deepcopy(student.state_dict())
    with pytest.raises(InputError, match="none is no folder"):  # before anything is trained
        tb.distill(student, teacher, batches, steps=1, checkpoint=tmp_path / "none" / "distill.pt")
    assert all(torch.equal(value, trained[name]) for name, value in student.state_dict().items())


def test_the_budget_of_minutes_ends_a_run(monkeypatch):
    from tvm_balanced.frontend.pruning import distill as module

    student, teacher, batches = setup()
    clock = iter(range(0, 10000, 5))
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    done = tb.distill(student, teacher, batches, minutes=1)
    assert 3 <= done.steps <= 12
    assert done.seconds >= 60


def test_without_a_budget_nothing_is_trained():
    student, teacher, batches = setup()
    before = copy.deepcopy(student.state_dict())
    assert tb.distill(student, teacher, batches, minutes=0).steps == 0
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_what_a_user_can_get_wrong(tmp_path):
    student, teacher, batches = setup()
    with pytest.raises(InputError, match="no batch"):
        tb.distill(student, teacher, [], steps=1)
    with pytest.raises(InputError, match="second time"):
        tb.distill(student, teacher, iter(batches), steps=9)
    with pytest.raises(InputError, match="minutes is -1"):
        tb.distill(student, teacher, batches, minutes=-1)
    with pytest.raises(InputError, match="steps is 0"):
        tb.distill(student, teacher, batches, steps=0)
    (tmp_path / "c.pt").write_text("no checkpoint")
    with pytest.raises(InputError, match="no distillation"):
        tb.distill(student, teacher, batches, steps=1, checkpoint=tmp_path / "c.pt")
    teacher.head = nn.Linear(32, 4)
    with pytest.raises(ModelError, match="differ in number or shape"):
        tb.distill(student, teacher, batches, steps=1)
