/* One WebSocket connection as a client has it (RFC 6455): handshake, frames out, frames in. */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stddef.h>
#include <stdint.h>

#include "ledger.h"

enum state { CLOSED, CONNECTING, UPGRADING, TALKING, READY };

struct connection {
    int fd;
    enum state state;
    uint32_t index, room;
    uint32_t step;       /* how far the conversation that makes it ready has come */
    uint32_t marker_at;  /* where in a message the marker was last time */
    char *rest;          /* the beginning of a frame whose end has not arrived */
    size_t rest_size;
    char *unsent;        /* what the socket did not take */
    size_t unsent_size;
    struct stream *streams; /* one for each publisher of the room */
};

/* What every connection says, from the contender's file; `{room}`, `{conn}` and `{body}` are filled in. */
struct line {
    char kind; /* '>' is said, '<' is waited for: a text frame that begins so */
    char *text;
};

struct conversation {
    int port;
    char *path;
    char *headers; /* whole lines, may be empty */
    struct line lines[16];
    uint32_t line_count;
    char *ask, *answer; /* a frame that is exactly `ask` is answered with `answer` (Engine.IO's ping) */
    char *publish;
};

/* What the connections tell their owner. */
struct events {
    void (*ready)(struct connection *connection);
    void (*lost)(struct connection *connection, const char *why); /* its state is still the last one */
    void (*message)(struct connection *connection, const char *text, size_t size, uint64_t now);
    void (*want_write)(struct connection *connection, int wanted);
};

extern struct conversation conversation;
extern struct events events;

uint64_t clock_ns(void);

/* Returns -1 when there is no socket to be had. */
int connection_open(struct connection *connection);
void connection_writable(struct connection *connection);
/* Returns how many bytes were read. */
size_t connection_readable(struct connection *connection);
void connection_close(struct connection *connection);

/* `frames` are whole, masked frames. What the socket does not take is sent when it does. */
void connection_send(struct connection *connection, const char *frames, size_t size);

/* A masked text frame; the mask is zero, so the payload can be changed in place. The caller frees it. */
char *make_frame(const char *text, size_t size, size_t *frame_size, size_t *payload_at);

/* The text with its placeholders filled in; the caller frees it. */
char *fill_in(const char *text, uint32_t room, uint32_t index, const char *body);

#endif
