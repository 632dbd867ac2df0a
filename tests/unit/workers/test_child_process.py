from __future__ import annotations

import os
import signal
import subprocess
import sys

CHILD = """
import os, signal, sys, time
from workers.child_process import drain_when_parent_dies
got = []
signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
drain_when_parent_dies(int(sys.argv[1]))
print("watching", flush=True)
while not got:
    time.sleep(0.05)
time.sleep(1)
print(len(got), flush=True)
"""
PARENT = f"""
import os, subprocess, sys, threading, time
started = threading.Event()
def start():
    subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())])
    started.set()
    time.sleep(60)
for target in (start, *[lambda: time.sleep(60)] * 5):
    threading.Thread(target=target).start()
"""


def test_the_end_of_a_parent_of_several_threads_is_one_signal() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"watching\n"
        os.kill(parent.pid, signal.SIGKILL)
        assert parent.stdout.read() == b"1\n"  # the child's, to its end
