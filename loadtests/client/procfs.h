/* What the kernel says of the watched processes. */
#ifndef PROCFS_H
#define PROCFS_H

enum { WATCHED_MAX = 16 };

struct usage {
    double cpu_seconds;
    long long rss_bytes;
    long long writes; /* calls of write and writev; an event loop that uses send is not counted by the kernel */
};

/* All zeros for a process that is gone. */
struct usage usage_of(int pid);

double own_cpu_seconds(void);

#endif
