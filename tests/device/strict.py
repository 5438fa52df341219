"""A simulator that shows what Numba's hides, and takes a third of its time.

Numba's runs the threads of a block all at once. Here one runs after the other, from
barrier to barrier, forwards and backwards in turn, so that a missing barrier is seen in
every run: threads that read before others write, or write before others have read. All
threads of a block have to meet at the same barriers. Memory that nobody has written, or
that has been given back, is nan.
"""

import functools
import sys
import threading

import numpy as np
from numba import cuda
from numba.cuda.simulator import kernel, kernelapi
from numba.cuda.simulator.cudadrv import devicearray

from subsampled_newton.backends import _cuda_device

NOT_SET = 0xFF
"""All bits of a nan, and of -1."""


class Thread(kernel.BlockThread):
    """A thread that runs when it is told to, until the next barrier."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.turn, self.ended = threading.Semaphore(0), threading.Semaphore(0)
        self.barrier = None
        self.start()

    def run(self):
        self.turn.acquire()
        if not self.abort:
            super().run()
        self.barrier = None
        self.ended.release()

    def syncthreads(self):
        frame = sys._getframe(2)  # below the function of the simulator
        self.barrier = (frame.f_code.co_name, frame.f_lineno)
        self.ended.release()
        self.turn.acquire()
        if self.abort:
            raise RuntimeError("another thread has failed")

    def resume(self):
        """Run until the next barrier, or to the end."""
        self.turn.release()
        self.ended.acquire()


class Block(kernel.BlockManager):
    """Threads in turn."""

    def run(self, grid_point, *arguments):
        points = [*np.ndindex(*self._block_dim)]
        f = functools.partial(self._f, *arguments)
        threads = [Thread(f, self, grid_point, p, self._debug) for p in points]
        try:
            barriers = {""}
            while barriers != {None}:
                for thread in threads:
                    thread.resume()
                    if thread.exception is not None:
                        error, where = thread.exception
                        raise error.with_traceback(where)
                barriers = {thread.barrier for thread in threads}
                assert len(barriers) == 1, f"threads wait at {barriers}"
                threads.reverse()
        finally:
            for thread in threads:
                thread.abort = True
                while thread.is_alive():
                    thread.turn.release()
                    thread.join()


def not_set(make):
    """Make an array with nan where it made one with anything."""

    @functools.wraps(make)
    def made(*arguments, **options):
        array = make(*arguments, **options)
        getattr(array, "_ary", array).view(np.uint8).fill(NOT_SET)
        return array

    return made


def install():
    """Put these in the places of Numba's."""
    kernel.BlockManager = Block
    cuda.device_array = not_set(cuda.device_array)
    kernelapi.FakeCUDALocal.array = not_set(kernelapi.FakeCUDALocal.array)
    begin = kernelapi.FakeCUDAShared.__init__

    def shared(self, size):
        begin(self, size)
        self._dynshared.view(np.uint8).fill(NOT_SET)

    kernelapi.FakeCUDAShared.__init__ = shared
    # Numba's transpose is a copy on a device.
    transpose = devicearray.FakeCUDAArray.transpose
    devicearray.FakeCUDAArray.transpose = lambda *a: cuda.to_device(transpose(*a)._ary)
    give_back = _cuda_device._give_back

    def given_back(array):
        array._ary.fill(np.nan)
        give_back(array)

    _cuda_device._give_back = given_back
