/* Adds to the wall clock of one process what the table says: CLOCK_REALTIME, gettimeofday and time. Monotonic clocks stay. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct entry { int64_t pid, offset_ns; };
#define ENTRIES 64
static volatile struct entry *table;

__attribute__((constructor)) static void find_table(void) {
    const char *path = getenv("SUGAR_CLOCK_TABLE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(0, sizeof(struct entry) * ENTRIES, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) table = mapped;
    close(file);
}

static int64_t offset_ns(void) {
    if (!table || !table[0].pid) return 0;
    int64_t pid = getpid();
    for (int at = 0; at < ENTRIES && table[at].pid; at++)
        if (table[at].pid == pid) return table[at].offset_ns;
    return 0;
}

static void add(struct timespec *to) {
    int64_t ns = offset_ns();
    if (!ns) return;
    int64_t all = (int64_t)to->tv_sec * 1000000000 + to->tv_nsec + ns;
    to->tv_sec = all / 1000000000;
    to->tv_nsec = all % 1000000000;
}

int clock_gettime(clockid_t clock, struct timespec *to) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, to);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) add(to);
    return result;
}

int gettimeofday(struct timeval *to, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    to->tv_sec = now.tv_sec;
    to->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
