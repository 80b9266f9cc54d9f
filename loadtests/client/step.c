#define _GNU_SOURCE
#include "step.h"

#include <stdlib.h>
#include <string.h>

#include "loop.h"

uint32_t connection_count, room_count = 1, publisher_count, body_size = 120;
struct connection *connections;
int watched[WATCHED_MAX], watched_count;
struct counts counts;
struct histogram latency, send_lag;
uint64_t stale_count, misdelivered_count, other_count;
int hopeless;

static uint32_t step_number;
static uint64_t base_ns; /* "due" in a body is counted from here */
static uint64_t marker;  /* as it lies in memory */
static uint64_t measured_from, give_up_ns, last_progress;

uint32_t publishers_of(uint32_t room)
{
    return (publisher_count + room_count - 1 - room) / room_count;
}

void look(struct costs *costs)
{
    costs->at = clock_ns();
    costs->delivered = counts.delivered;
    costs->bytes = byte_count;
    costs->reads = read_count;
    costs->own = own_cpu_seconds();
    for (int i = 0; i < watched_count; i++)
        costs->used[i] = usage_of(watched[i]);
}

static int marker_is_at(const char *text, size_t size, size_t at)
{
    uint64_t found;
    if (at + BODY_MIN > size)
        return 0;
    memcpy(&found, text + at, sizeof found);
    return found == marker;
}

void step_take(struct connection *connection, const char *text, size_t size, uint64_t now)
{
    if (__builtin_expect(!marker_is_at(text, size, connection->marker_at), 0)) {
        const char *found = memmem(text, size, &marker, sizeof marker);
        if (!found || !marker_is_at(text, size, (size_t)(found - text))) {
            if (memmem(text, size, "\"@", 2))
                stale_count++;
            else
                other_count++;
            return;
        }
        connection->marker_at = (uint32_t)(found - text);
    }
    const char *body = text + connection->marker_at;
    uint32_t publisher = read_digits(body + PUBLISHER_AT);
    if (publisher >= publisher_count || publisher % room_count != connection->room) {
        misdelivered_count++;
        return;
    }
    stream_take(&connection->streams[publisher / room_count], read_digits(body + SEQUENCE_AT), &counts);
    uint64_t due = base_ns + read_digits16(body + DUE_AT), took = now > due ? now - due : 0;
    if (due >= measured_from)
        histogram_add(&latency, took);
    if (took > give_up_ns)
        hopeless = 1;
    last_progress = now;
}

struct publication {
    char *frame;
    size_t size, body_at;
    uint32_t sequence, receivers;
};

static struct publication *prepare(void)
{
    struct publication *publications = calloc(publisher_count, sizeof *publications);
    char *body = malloc(body_size + 1);
    memset(body, 'x', body_size);
    body[body_size] = 0;
    body[0] = '@';
    write_digits(body + 1, MARKER_SIZE - 1, step_number);
    memcpy(&marker, body, sizeof marker);
    for (uint32_t i = 0; i < publisher_count; i++) {
        struct publication *publication = &publications[i];
        write_digits(body + PUBLISHER_AT, 8, i);
        uint32_t room = i % room_count;
        char *text = fill_in(conversation.publish, room, i, body);
        size_t payload_at;
        publication->frame = make_frame(text, strlen(text), &publication->size, &payload_at);
        publication->body_at = payload_at + (size_t)(strstr(text, body) - text);
        publication->receivers = (connection_count + room_count - 1 - room) / room_count;
        free(text);
    }
    free(body);
    return publications;
}

static void publish(struct publication *publication, uint32_t publisher, uint64_t due)
{
    char *body = publication->frame + publication->body_at;
    write_digits(body + SEQUENCE_AT, 8, publication->sequence++);
    write_digits(body + DUE_AT, 16, due - base_ns);
    connection_send(&connections[publisher], publication->frame, publication->size);
}

struct result run(uint32_t publishers, double rate, double warm, double measured, double drain, double give_up_ms)
{
    struct result result = {0};
    if (!step_number++)
        base_ns = clock_ns();
    memset(&counts, 0, sizeof counts);
    memset(&latency, 0, sizeof latency);
    memset(&send_lag, 0, sizeof send_lag);
    stale_count = misdelivered_count = other_count = 0;
    hopeless = 0;
    give_up_ns = (uint64_t)(give_up_ms * 1e6);
    for (uint32_t i = 0; i < connection_count; i++)
        memset(connections[i].streams, 0, (publishers_of(connections[i].room) + 1) * sizeof(struct stream));
    struct publication *publications = prepare();

    uint64_t start = after(0.02), total = (uint64_t)(rate * (warm + measured) + 0.5);
    uint64_t measured_until = start + (uint64_t)((warm + measured) * 1e9);
    measured_from = start + (uint64_t)(warm * 1e9);
    last_progress = start;
    int begun = 0;
    for (;;) {
        uint64_t now = clock_ns();
        if (!begun && now >= measured_from) {
            look(&result.from);
            begun = 1;
        }
        if (now >= measured_until)
            break;
        if (result.expected > counts.delivered && now > last_progress + give_up_ns)
            hopeless = 1;
        if (hopeless && begun)
            break;
        uint64_t due = measured_until;
        for (int burst = 0; result.sent < total && burst < 64; burst++) {
            due = start + (uint64_t)((double)result.sent * 1e9 / rate);
            if (due > now || hopeless)
                break;
            uint32_t publisher = (uint32_t)(result.sent++ % publishers);
            if (result.expected == counts.delivered)
                last_progress = now; /* nothing was outstanding: patience begins here */
            result.expected += publications[publisher].receivers;
            histogram_add(&send_lag, now - due);
            publish(&publications[publisher], publisher, due);
        }
        if (!begun && due > measured_from)
            due = measured_from;
        pump(hopeless ? measured_from : due);
    }
    look(&result.to);
    uint64_t patience = (uint64_t)(drain * 1e9), deadline = after(drain * 5), complete_at = 0;
    for (uint64_t now = clock_ns(); now < deadline && now < last_progress + patience; now = clock_ns()) {
        if (counts.delivered >= result.expected) {
            if (!complete_at)
                complete_at = now;
            if (now > complete_at + 30000000) /* a repetition would come right behind */
                break;
        }
        pump(now + 10000000);
    }
    for (uint32_t i = 0; i < publisher_count; i++)
        free(publications[i].frame);
    free(publications);
    return result;
}
