/* Loaded before a server, gives it a clock of its own: the time of day is as many seconds ahead of the
 * host's as the file named by CLOCK_AHEAD says, a long in the machine's byte order. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile long *ahead = MAP_FAILED;

__attribute__((constructor)) static void open_clock(void)
{
    const char *name = getenv("CLOCK_AHEAD");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    ahead = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (file >= 0)
        close(file);
}

int clock_gettime(clockid_t which, struct timespec *time)
{
    int result = (int)syscall(SYS_clock_gettime, which, time);
    if (result == 0 && which == CLOCK_REALTIME && ahead != MAP_FAILED)
        time->tv_sec += *ahead;
    return result;
}
