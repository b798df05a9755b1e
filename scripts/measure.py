"""Runs a command: what it printed, how long it took, and the most memory that it held."""

import json
import subprocess
import sys
import time

# A process of its own, and a small one: a child counts what its parent held when it was forked.
RUN = """
import json, resource, subprocess, sys
done = subprocess.run(json.loads(sys.argv[1]), stdout=subprocess.PIPE, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([done.returncode, done.stdout, peak]))
"""


def run(command):
    """What the command printed, and a text with seconds and MiB. Fails if the command does."""
    start = time.perf_counter()
    arguments = json.dumps([str(argument) for argument in command])
    told = subprocess.run([sys.executable, "-c", RUN, arguments], stdout=subprocess.PIPE, text=True, check=True).stdout
    seconds = time.perf_counter() - start
    status, said, peak = json.loads(told)
    assert status == 0, said
    return said, f"{seconds:.1f} s, peak {peak / 1024:.0f} MiB"
