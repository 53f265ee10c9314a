/* Set into a program by LD_PRELOAD: its wall clock stands an hour back as long as the file CLOCK_SET_BACK exists.
 * Other clocks are left alone: the kernel's monotonic clock does not jump when somebody sets the time. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    const char *file = getenv("CLOCK_SET_BACK");
    if (failed == 0 && clock == CLOCK_REALTIME && file != NULL && access(file, F_OK) == 0)
        now->tv_sec -= 3600;
    return failed;
}
