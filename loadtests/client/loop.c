#define _GNU_SOURCE
#include "loop.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

uint64_t byte_count, read_count;

static int poller, timer, input;
static char timer_tag, input_tag;

void loop_begin(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &timer_tag};
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
}

void loop_add(struct connection *connection)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = connection};
    epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event);
}

void loop_want_write(struct connection *connection, int wanted)
{
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0u), .data.ptr = connection};
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event);
}

void pump(uint64_t until)
{
    static uint64_t armed;
    struct epoll_event happened[256];
    int patience = -1;
    uint64_t now = clock_ns();
    if (until <= now) {
        patience = 0;
    } else if (until != UINT64_MAX && until != armed) {
        struct itimerspec when = {.it_value = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
        armed = until;
    }
    int count = epoll_wait(poller, happened, 256, patience);
    for (int i = 0; i < count; i++) {
        if (happened[i].data.ptr == &timer_tag) {
            uint64_t expirations;
            if (read(timer, &expirations, sizeof expirations) > 0)
                armed = 0;
        } else if (happened[i].data.ptr == &input_tag) {
            input = 1;
        } else {
            struct connection *connection = happened[i].data.ptr;
            if (happened[i].events & EPOLLOUT)
                connection_writable(connection);
            if (connection->state > CONNECTING && happened[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
                read_count++;
                byte_count += connection_readable(connection);
            }
        }
    }
}

void pump_until_input(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &input_tag};
    input = 0;
    epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    while (!input)
        pump(UINT64_MAX);
    epoll_ctl(poller, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
}

uint64_t after(double seconds)
{
    return clock_ns() + (uint64_t)(seconds * 1e9);
}
