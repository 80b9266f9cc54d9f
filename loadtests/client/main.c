/* The load: opens WebSocket connections, publishes on a fixed timeline, counts what arrives.
 *
 * Reads lines from standard input: first the conversation, then commands. Each command prints one line of JSON.
 * Latency is counted from when a message was due, not from when it was sent: a server that makes the sender wait does
 * not make the figures better.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "connection.h"
#include "procfs.h"

static uint32_t connection_count, room_count = 1, publisher_count, body_size = 120;
static struct connection *connections;
static int watched[WATCHED_MAX], watched_count;

static int poller, timer;
static uint64_t base_ns; /* "due" in a body is counted from here */

static uint32_t ready_count, lost_count, opening_count;
static char first_loss[160];

/* The step that is running. */
static uint32_t step_number;
static uint64_t marker; /* as it lies in memory */
static struct counts counts;
static struct histogram latency, send_lag;
static uint64_t measured_from, give_up_ns, last_progress;
static uint64_t stale_count, other_count, byte_count, read_count;
static int hopeless;

/* -- what the connections tell ------------------------------------------------------------------------------------ */

static void on_ready(struct connection *connection)
{
    (void)connection;
    ready_count++;
    opening_count--;
}

static void on_lost(struct connection *connection, const char *why)
{
    if (!lost_count++)
        snprintf(first_loss, sizeof first_loss, "%s", why);
    if (connection->state == READY)
        ready_count--;
    else
        opening_count--;
}

static void on_want_write(struct connection *connection, int wanted)
{
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0u), .data.ptr = connection};
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event);
}

static uint32_t publishers_of(uint32_t room)
{
    return (publisher_count + room_count - 1 - room) / room_count;
}

static int marker_is_at(const char *text, size_t size, size_t at)
{
    uint64_t found;
    if (at + BODY_MIN > size)
        return 0;
    memcpy(&found, text + at, sizeof found);
    return found == marker;
}

static void on_message(struct connection *connection, const char *text, size_t size, uint64_t now)
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
        other_count++; /* not from this room */
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

/* -- the loop ----------------------------------------------------------------------------------------------------- */

static char timer_tag, input_tag;

/* Waits for events until the given time at most and handles them. Returns whether there is input to read. */
static int pump(uint64_t until)
{
    static uint64_t armed;
    struct epoll_event happened[256];
    int input = 0, patience = -1;
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
    return input;
}

static uint64_t after(double seconds)
{
    return clock_ns() + (uint64_t)(seconds * 1e9);
}

/* -- what the processes cost -------------------------------------------------------------------------------------- */

struct costs {
    uint64_t at, delivered, bytes, reads;
    double own;
    struct usage used[WATCHED_MAX];
};

static void look(struct costs *costs)
{
    costs->at = clock_ns();
    costs->delivered = counts.delivered;
    costs->bytes = byte_count;
    costs->reads = read_count;
    costs->own = own_cpu_seconds();
    for (int i = 0; i < watched_count; i++)
        costs->used[i] = usage_of(watched[i]);
}

static void print_costs(const struct costs *from, const struct costs *to)
{
    double seconds = (double)(to->at - from->at) / 1e9;
    printf("\"seconds\":%.6f,\"client_cpu_seconds\":%.6f,\"processes\":[", seconds, to->own - from->own);
    for (int i = 0; i < watched_count; i++)
        printf("%s{\"pid\":%d,\"cpu_seconds\":%.6f,\"rss_before\":%lld,\"rss_after\":%lld,\"writes\":%lld}", i ? "," : "",
               watched[i], to->used[i].cpu_seconds - from->used[i].cpu_seconds, from->used[i].rss_bytes,
               to->used[i].rss_bytes, to->used[i].writes - from->used[i].writes);
    printf("],");
}

static void print_text(const char *name, const char *text)
{
    printf("\"%s\":\"", name);
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text >= 32)
            putchar(*text);
    putchar('"');
}

static void print_end(void)
{
    printf("\"lost_connections\":%u,", lost_count);
    print_text("first_loss", first_loss);
    printf("}\n");
    fflush(stdout);
}

/* -- commands ----------------------------------------------------------------------------------------------------- */

/* At most `at_once` handshakes are under way. */
static void open_all(uint32_t at_once, double patience_seconds)
{
    struct costs from, to;
    uint32_t opened = 0;
    connections = calloc(connection_count, sizeof *connections);
    look(&from);
    uint64_t deadline = after(patience_seconds);
    while (ready_count + lost_count < connection_count && clock_ns() < deadline) {
        while (opening_count < at_once && opened < connection_count) {
            struct connection *connection = &connections[opened];
            connection->index = opened++;
            connection->room = connection->index % room_count;
            connection->streams = calloc(publishers_of(connection->room) + 1, sizeof *connection->streams);
            if (connection_open(connection)) {
                if (!lost_count++)
                    snprintf(first_loss, sizeof first_loss, "%s", strerror(errno));
                continue;
            }
            opening_count++;
            struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = connection};
            epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event);
        }
        pump(deadline);
    }
    look(&to);
    printf("{\"ready\":%u,", ready_count);
    print_costs(&from, &to);
    print_end();
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

struct result {
    uint64_t sent, expected;
    struct costs from, to;
};

/* Publishes `rate` messages a second in all, in turn from each publisher, for `warm` and then `measured` seconds; then
 * waits for what is missing until nothing has arrived for `drain` seconds. */
static struct result run(double rate, double warm, double measured, double drain, double give_up_ms)
{
    struct result result = {0};
    step_number++;
    memset(&counts, 0, sizeof counts);
    memset(&latency, 0, sizeof latency);
    memset(&send_lag, 0, sizeof send_lag);
    stale_count = other_count = 0;
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
            uint32_t publisher = (uint32_t)(result.sent++ % publisher_count);
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

static void step(double rate, double warm, double measured, double drain, double give_up_ms)
{
    struct result result = run(rate, warm, measured, drain, give_up_ms);
    printf("{\"rate\":%.3f,\"sent\":%lu,\"expected\":%lu,\"delivered\":%lu,\"duplicates\":%lu,\"disordered\":%lu,"
           "\"stale\":%lu,\"other\":%lu,\"gave_up\":%s,",
           rate, result.sent, result.expected, counts.delivered, counts.duplicates, counts.disordered, stale_count,
           other_count, hopeless ? "true" : "false");
    printf("\"delivered_measured\":%lu,\"bytes_measured\":%lu,\"reads_measured\":%lu,",
           result.to.delivered - result.from.delivered, result.to.bytes - result.from.bytes,
           result.to.reads - result.from.reads);
    printf("\"p50_ms\":%.4f,\"p95_ms\":%.4f,\"p99_ms\":%.4f,\"p999_ms\":%.4f,\"max_ms\":%.4f,\"send_lag_p99_ms\":%.4f,",
           histogram_quantile_ms(&latency, 0.5), histogram_quantile_ms(&latency, 0.95),
           histogram_quantile_ms(&latency, 0.99), histogram_quantile_ms(&latency, 0.999), (double)latency.max_ns / 1e6,
           histogram_quantile_ms(&send_lag, 0.99));
    print_costs(&result.from, &result.to);
    print_end();
}

/* One message from every publisher, again until all of one time have reached everybody: now all are subscribed. */
static void settle(double patience_seconds)
{
    uint64_t deadline = after(patience_seconds);
    struct result result;
    do
        result = run(publisher_count * 10.0, 0, 0.1, 1, 1e9);
    while (counts.delivered < result.expected && !lost_count && clock_ns() < deadline);
    printf("{\"settled\":%s,", counts.delivered >= result.expected ? "true" : "false");
    print_costs(&result.from, &result.to);
    print_end();
}

static void idle(double seconds)
{
    struct costs from, to;
    look(&from);
    for (uint64_t until = after(seconds); clock_ns() < until;)
        pump(until);
    look(&to);
    printf("{");
    print_costs(&from, &to);
    print_end();
}

/* -- input -------------------------------------------------------------------------------------------------------- */

static void obey(const char *word, char *rest)
{
    double n[5] = {0};
    sscanf(rest, "%lf %lf %lf %lf %lf", &n[0], &n[1], &n[2], &n[3], &n[4]);
    if (!strcmp(word, "port"))
        conversation.port = atoi(rest);
    else if (!strcmp(word, "path"))
        conversation.path = strdup(rest);
    else if (!strcmp(word, "header")) {
        char *more = NULL;
        if (asprintf(&more, "%s%s\r\n", conversation.headers, rest) > 0)
            conversation.headers = more;
    } else if ((!strcmp(word, "say") || !strcmp(word, "hear")) && conversation.line_count < 16)
        conversation.lines[conversation.line_count++] = (struct line){*word == 's' ? '>' : '<', strdup(rest)};
    else if (!strcmp(word, "ask"))
        conversation.ask = strdup(rest);
    else if (!strcmp(word, "answer"))
        conversation.answer = strdup(rest);
    else if (!strcmp(word, "publish"))
        conversation.publish = strdup(rest);
    else if (!strcmp(word, "body"))
        body_size = n[0] > BODY_MIN ? (uint32_t)n[0] : BODY_MIN;
    else if (!strcmp(word, "connections"))
        connection_count = (uint32_t)n[0];
    else if (!strcmp(word, "rooms"))
        room_count = (uint32_t)n[0];
    else if (!strcmp(word, "publishers"))
        publisher_count = (uint32_t)n[0];
    else if (!strcmp(word, "watch") && watched_count < WATCHED_MAX)
        watched[watched_count++] = atoi(rest);
    else if (!strcmp(word, "open"))
        open_all((uint32_t)n[0], n[1]);
    else if (!strcmp(word, "settle"))
        settle(n[0]);
    else if (!strcmp(word, "step"))
        step(n[0], n[1], n[2], n[3], n[4]);
    else if (!strcmp(word, "idle"))
        idle(n[0]);
    else {
        fprintf(stderr, "not understood: %s %s\n", word, rest);
        exit(2);
    }
}

int main(void)
{
    static char text[65536];
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event on_timer = {.events = EPOLLIN, .data.ptr = &timer_tag};
    struct epoll_event on_input = {.events = EPOLLIN, .data.ptr = &input_tag};
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &on_timer);
    events = (struct events){on_ready, on_lost, on_message, on_want_write};
    conversation.headers = strdup("");
    base_ns = clock_ns();
    setvbuf(stdin, NULL, _IONBF, 0); /* so that the poller knows whether there is a line to read */
    for (;;) {
        /* Between commands the connections are still read, and pings answered. */
        epoll_ctl(poller, EPOLL_CTL_ADD, 0, &on_input);
        while (!pump(UINT64_MAX))
            ;
        epoll_ctl(poller, EPOLL_CTL_DEL, 0, NULL);
        if (!fgets(text, sizeof text, stdin))
            break;
        text[strcspn(text, "\n")] = 0;
        char *rest = strchr(text, ' ');
        if (rest)
            *rest++ = 0;
        obey(text, rest ? rest : "");
    }
    for (uint32_t i = 0; connections && i < connection_count; i++)
        connection_close(&connections[i]);
    return 0;
}
