/* The load: opens WebSocket connections, publishes on a fixed timeline, counts what arrives.
 *
 * Reads lines from standard input: first the conversation, then commands. Each command prints one line of JSON.
 * Latency is counted from when a message was due, not from when it was sent: a server that makes the sender wait does
 * not make the figures better.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connection.h"
#include "loop.h"
#include "step.h"

static uint32_t ready_count, lost_count, opening_count;
static char first_loss[160];

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

/* -- what is printed ------------------------------------------------------------------------------------------------ */

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
            loop_add(connection);
        }
        pump(deadline);
    }
    look(&to);
    printf("{\"ready\":%u,", ready_count);
    print_costs(&from, &to);
    print_end();
}

static void step(double rate, double warm, double measured, double drain, double give_up_ms)
{
    struct result result = run(publisher_count, rate, warm, measured, drain, give_up_ms);
    printf("{\"rate\":%.3f,\"sent\":%lu,\"expected\":%lu,\"delivered\":%lu,\"duplicates\":%lu,\"disordered\":%lu,"
           "\"stale\":%lu,\"misdelivered\":%lu,\"other\":%lu,\"gave_up\":%s,",
           rate, result.sent, result.expected, counts.delivered, counts.duplicates, counts.disordered, stale_count,
           misdelivered_count, other_count, hopeless ? "true" : "false");
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

/* One message in every room, again until all of one time have reached everybody: now all are subscribed. */
static void settle(double patience_seconds)
{
    uint64_t deadline = after(patience_seconds);
    uint32_t publishers = publisher_count < room_count ? publisher_count : room_count;
    struct result result;
    do
        result = run(publishers, publishers * 10.0, 0, 0.1, 2, 1e9);
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
    loop_begin();
    events = (struct events){on_ready, on_lost, step_take, loop_want_write};
    conversation.headers = strdup("");
    setvbuf(stdin, NULL, _IONBF, 0); /* so that `pump_until_input` sees every line */
    for (;;) {
        pump_until_input(); /* between commands the connections are still read, and pings answered */
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
