"""Where these tests run: on a GPU, or in Numba's CUDA simulator."""

import pytest
from numba import config


def require_device():
    """Skip the module unless kernels can run."""
    if config.ENABLE_CUDASIM:
        import strict

        strict.install()
        return
    try:
        from subsampled_newton.backends import _cuda_device

        _cuda_device.check_device()
    except (ImportError, RuntimeError) as error:
        pytest.skip(
            f"no GPU ({error}), and NUMBA_ENABLE_CUDASIM is not set: "
            "tests/test_cuda.py runs these tests in the simulator",
            allow_module_level=True,
        )
