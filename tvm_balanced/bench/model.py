"""Benchmark a whole model against PyTorch in one process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tvm_balanced.bench.result import OURS, Row, rows
from tvm_balanced.timing.paired import PAUSE, Implementation, measure_paired


@dataclass(frozen=True)
class ModelBenchmark:
    """What to time: a whole torch module on its example arguments, against PyTorch in three forms and any `others`.

    Those in `rounded` compute in fewer bits, or are another model: their results are not compared.
    """

    module: Any
    args: tuple[Any, ...]
    threads: int
    torch_compile: bool = True
    rounds: int = 31
    others: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    rounded: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def run(self, compiled: Any) -> list[Row]:
        """Time a CompiledModule of this module and every baseline.

        Parameters
        ----------
        compiled : CompiledModule
        """
        import torch

        from tvm_balanced.bench.pytorch_baselines import with_packed_linears

        torch.set_num_threads(self.threads)
        compiled.threads = self.threads
        model = self.module.eval()
        first = self.args[0]  # token ids (batch, tokens), or features (..., K)
        rows_of_x = int(np.prod(first.shape[:-1] if first.is_floating_point() else first.shape))
        forms: dict[str, Callable[..., Any]] = {
            "eager": model,
            "onednn packed linears": with_packed_linears(model, rows_of_x),
            **self.others,
        }
        if self.torch_compile:
            import torch._inductor.config as inductor

            inductor.freezing = True
            forms["torch.compile, freezing"] = torch.compile(model)
        with torch.no_grad():
            expected = model(*self.args)
            for name, form in forms.items():
                torch.testing.assert_close(form(*self.args), expected, rtol=1e-3, atol=1e-4, msg=f"{name} is wrong")
            return rows(
                measure_paired(
                    {OURS: self._call(compiled)}
                    | {name: self._call(form) for name, form in (*forms.items(), *self.rounded.items())},
                    self.rounds,
                    pause=PAUSE if self.threads > 1 else 0.0,
                )
            )

    def _call(self, form: Callable[..., Any]) -> Implementation:
        return lambda _: form(*self.args)
