"""A clock that can be set back in a process and in all that it starts, as no name space of Linux has one of its own.

By hand, because libfaketime 0.9.10 breaks ``time.sleep`` of Python where it leaves the monotonic clock alone.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

CLOCK = "CRASH_CLOCK"
"""The variable that names a file which holds by how many seconds the clock is ahead."""
_FORMAT = "<q"
_LIBRARY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static const volatile long long *ahead;
static int (*real)(clockid_t, struct timespec *);
__attribute__((constructor)) static void begin(void) {
    real = dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("CRASH_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *place = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (place != MAP_FAILED) ahead = place;
    close(file);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real) begin();
    int code = real(clock, now);
    if (!code && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *ahead;
    return code;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    if (clock_gettime(CLOCK_REALTIME, &found)) return -1;
    now->tv_sec = found.tv_sec, now->tv_usec = found.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}
"""


def can_be_set() -> bool:
    """Whether this process's clock can, or that of one which it starts."""
    return CLOCK in os.environ or shutil.which("cc") is not None


def set_clock(seconds: int) -> None:
    """Set the clock to so many seconds ahead, where this process has one of its own."""
    if CLOCK in os.environ:
        with Path(os.environ[CLOCK]).open("r+b") as file:
            file.write(struct.pack(_FORMAT, seconds))


def again_with_a_clock(*more: str) -> int:
    """Run this program again, in a process whose clock can be set; gives its exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "clock.c").write_text(_LIBRARY)
        (folder / "clock").write_bytes(struct.pack(_FORMAT, 0))
        line = ["cc", "-O1", "-shared", "-fPIC", "-o", f"{name}/clock.so", f"{name}/clock.c", "-ldl"]
        subprocess.run(line, check=True)
        variables = {"LD_PRELOAD": f"{name}/clock.so", CLOCK: f"{name}/clock"}
        return subprocess.run([sys.executable, *sys.argv, *more], env=os.environ | variables, check=False).returncode
