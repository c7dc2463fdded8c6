"""All threads of the program allocate from one heap."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from bulkdl.cli import limit_malloc_arenas
if sys.argv[2] == "shared":
    limit_malloc_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(4)
def allocate():
    together.wait()
    libc.malloc(ctypes.c_size_t(100_000))
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fopen.restype = ctypes.c_void_p
stream = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(stream))
libc.fclose(ctypes.c_void_p(stream))
"""


def heaps(tmp_path, how):
    told = tmp_path / "malloc.xml"
    subprocess.run([sys.executable, "-c", PROGRAM, str(told), how], check=True)
    return told.read_text().count("<heap nr=")


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_threads_have_one_heap_together_and_not_one_each(tmp_path):
    assert heaps(tmp_path, "shared") == 1
    assert heaps(tmp_path, "as it comes") > 1
