/* One step: messages on a fixed timeline, and what arrived of them. */
#ifndef STEP_H
#define STEP_H

#include "connection.h"
#include "procfs.h"

/* What is opened. Connection i is in room i % rooms; so is publisher i, which is connection i. */
extern uint32_t connection_count, room_count, publisher_count, body_size;
extern struct connection *connections;

/* What the watched processes, and we, had used at a time, and what had arrived. */
extern int watched[WATCHED_MAX], watched_count;
struct costs {
    uint64_t at, delivered, bytes, reads;
    double own;
    struct usage used[WATCHED_MAX];
};
void look(struct costs *costs);

/* The step that is running, or was the last. */
extern struct counts counts;
extern struct histogram latency, send_lag;
extern uint64_t stale_count;        /* of an earlier step */
extern uint64_t misdelivered_count; /* of another room */
extern uint64_t other_count;        /* nothing that we published */
extern int hopeless;                /* it was given up: the server fell too far behind */

struct result {
    uint64_t sent, expected;
    struct costs from, to; /* of the measured time */
};

/* Publishes `rate` messages a second in all, in turn from each of so many publishers, for `warm` and then `measured`
 * seconds; then waits for what is missing until nothing has arrived for `drain` seconds. */
struct result run(uint32_t publishers, double rate, double warm, double measured, double drain, double give_up_ms);

uint32_t publishers_of(uint32_t room);

/* For `events.message`. */
void step_take(struct connection *connection, const char *text, size_t size, uint64_t now);

#endif
