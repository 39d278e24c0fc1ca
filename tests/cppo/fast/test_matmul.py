import pytest
import torch

from cppo.fast import matmul
from cppo.fast.matmul import OneDNN, Torch, matmul_for

needs_onednn = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="this torch has no oneDNN",
)


@needs_onednn
@pytest.mark.parametrize(("samples", "inputs", "outputs"), [(128, 256, 256), (7, 64, 100), (1, 70, 64)])
def test_onednn_takes_the_products_of_torch(samples, inputs, outputs):
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(samples, inputs, generator=generator), torch.randn(outputs, inputs, generator=generator)
    bias, error = torch.randn(outputs, generator=generator), torch.randn(samples, outputs, generator=generator)
    found = []
    for each in (OneDNN(), Torch()):
        gradient = torch.empty_like(weight)
        each.weight_gradient(error, x, gradient)
        output = each.output(x, weight, bias, torch.empty(samples, outputs))
        found.append((output, gradient, each.input_gradient(error, weight, torch.empty(samples, inputs))))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-4)


@needs_onednn
def test_onednn_is_for_wide_layers_in_single_precision_on_amd_processors_with_avx512(monkeypatch):
    def choice(weight, **processor):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
        matmul.onednn_is_faster.cache_clear()
        return type(matmul_for(weight))

    wide = torch.zeros(256, 64)
    assert choice(wide, cpu_name="AMD EPYC", avx512_f=True) is OneDNN
    assert choice(torch.zeros(256, 28), cpu_name="AMD EPYC", avx512_f=True) is Torch
    assert choice(wide.double(), cpu_name="AMD EPYC", avx512_f=True) is Torch
    assert choice(wide, cpu_name="AMD EPYC", avx512_f=False) is Torch
    assert choice(wide, cpu_name="Intel(R) Xeon(R)", avx512_f=True) is Torch
    assert choice(wide) is Torch
    matmul.onednn_is_faster.cache_clear()
