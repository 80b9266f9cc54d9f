#include "procfs.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int slurp(int pid, const char *name, char *text, int size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    size_t got = fread(text, 1, (size_t)size - 1, file);
    fclose(file);
    text[got] = 0;
    return got > 0;
}

struct usage usage_of(int pid)
{
    struct usage usage = {0, 0, 0};
    char text[4096];
    if (slurp(pid, "stat", text, sizeof text)) {
        unsigned long long user = 0, system = 0;
        long pages = 0;
        char *after_name = strrchr(text, ')'); /* fields 14, 15 and 24; a name may hold spaces */
        if (after_name &&
            sscanf(after_name + 2,
                   "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %*u %*u %ld",
                   &user, &system, &pages) == 3) {
            usage.cpu_seconds = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
            usage.rss_bytes = (long long)pages * sysconf(_SC_PAGESIZE);
        }
    }
    if (slurp(pid, "io", text, sizeof text)) {
        char *writes = strstr(text, "syscw: ");
        if (writes)
            sscanf(writes, "syscw: %lld", &usage.writes);
    }
    return usage;
}

double own_cpu_seconds(void)
{
    struct rusage own;
    getrusage(RUSAGE_SELF, &own);
    return (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
           (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6;
}
