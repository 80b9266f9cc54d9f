/* Waiting: the sockets, the time of the next message, and the next command. */
#ifndef LOOP_H
#define LOOP_H

#include "connection.h"

/* Counted by `pump`, never reset. */
extern uint64_t byte_count, read_count;

void loop_begin(void);
void loop_add(struct connection *connection);
void loop_want_write(struct connection *connection, int wanted);

/* Waits for events until the given time at most and handles them. */
void pump(uint64_t until);

/* Handles events until there is a line to read on standard input. */
void pump_until_input(void);

uint64_t after(double seconds);

#endif
