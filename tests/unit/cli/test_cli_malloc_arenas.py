import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from bulkdl.cli import limit_malloc_arenas
if sys.argv[2] == "limited":
    limit_malloc_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(4)
def allocate():
    barrier.wait()
    libc.malloc(ctypes.c_size_t(100_000))
    barrier.wait()
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


def count_arenas(tmp_path, mode):
    path = tmp_path / "malloc.xml"
    subprocess.run([sys.executable, "-c", PROGRAM, str(path), mode], check=True)
    return path.read_text().count("<heap nr=")


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_limit_malloc_arenas_gives_all_threads_one_arena(tmp_path):
    assert count_arenas(tmp_path, "limited") == 1
    assert count_arenas(tmp_path, "default") > 1
