#define _GNU_SOURCE
#include "connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct conversation conversation;
struct events events;

/* The key and its answer are the example of RFC 6455 §1.3. */
static const char KEY[] = "dGhlIHNhbXBsZSBub25jZQ==", ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

enum { READ_SIZE = 256 * 1024, FRAME_MAX = 4 * 1024 * 1024 };
static char buffer[FRAME_MAX + READ_SIZE];

uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

char *fill_in(const char *text, uint32_t room, uint32_t index, const char *body)
{
    size_t size = 0;
    char *filled = NULL;
    FILE *out = open_memstream(&filled, &size);
    while (*text) {
        if (!strncmp(text, "{room}", 6)) {
            fprintf(out, "%03u", room);
            text += 6;
        } else if (!strncmp(text, "{conn}", 6)) {
            fprintf(out, "%05u", index);
            text += 6;
        } else if (body && !strncmp(text, "{body}", 6)) {
            fputs(body, out);
            text += 6;
        } else {
            fputc(*text++, out);
        }
    }
    fclose(out);
    return filled;
}

char *make_frame(const char *text, size_t size, size_t *frame_size, size_t *payload_at)
{
    char *frame = calloc(1, size + 14);
    size_t head = 2;
    frame[0] = (char)0x81;
    if (size < 126) {
        frame[1] = (char)(0x80 | size);
    } else if (size < 65536) {
        frame[1] = (char)(0x80 | 126);
        frame[2] = (char)(size >> 8);
        frame[3] = (char)size;
        head = 4;
    } else {
        frame[1] = (char)(0x80 | 127);
        for (int i = 0; i < 8; i++)
            frame[2 + i] = (char)((uint64_t)size >> (56 - 8 * i));
        head = 10;
    }
    head += 4; /* the mask, zero */
    memcpy(frame + head, text, size);
    *frame_size = head + size;
    if (payload_at)
        *payload_at = head;
    return frame;
}

int connection_open(struct connection *connection)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)conversation.port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        return -1;
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection->state = CONNECTING;
    connection->step = 0;
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) {
        close(connection->fd);
        connection->state = CLOSED;
        return -1;
    }
    return 0;
}

void connection_close(struct connection *connection)
{
    struct linger at_once = {1, 0}; /* a reset: thousands of sockets in TIME_WAIT would be in the next run's way */
    if (connection->state == CLOSED)
        return;
    setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(connection->fd);
    connection->state = CLOSED;
    free(connection->rest);
    free(connection->unsent);
    connection->rest = connection->unsent = NULL;
    connection->rest_size = connection->unsent_size = 0;
}

static void lose(struct connection *connection, const char *why)
{
    events.lost(connection, why);
    connection_close(connection);
}

static void keep(char **kept, size_t *kept_size, const char *bytes, size_t size)
{
    *kept = realloc(*kept, *kept_size + size);
    memcpy(*kept + *kept_size, bytes, size);
    *kept_size += size;
}

void connection_send(struct connection *connection, const char *frames, size_t size)
{
    if (connection->state == CLOSED)
        return;
    ssize_t sent = 0;
    if (!connection->unsent_size) {
        sent = send(connection->fd, frames, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            lose(connection, strerror(errno));
            return;
        }
        if (sent < 0)
            sent = 0;
    }
    if ((size_t)sent < size) {
        keep(&connection->unsent, &connection->unsent_size, frames + sent, size - (size_t)sent);
        events.want_write(connection, 1);
    }
}

static void send_text(struct connection *connection, const char *text)
{
    size_t size;
    char *frame = make_frame(text, strlen(text), &size, NULL);
    connection_send(connection, frame, size);
    free(frame);
}

/* Say what is to be said until something has to be waited for. */
static void talk(struct connection *connection)
{
    while (connection->step < conversation.line_count && conversation.lines[connection->step].kind == '>') {
        char *text = fill_in(conversation.lines[connection->step++].text, connection->room, connection->index, NULL);
        send_text(connection, text);
        free(text);
        if (connection->state == CLOSED)
            return;
    }
    if (connection->step == conversation.line_count) {
        connection->state = READY;
        events.ready(connection);
    }
}

static void hear(struct connection *connection, const char *text, size_t size, uint64_t now)
{
    if (conversation.ask && size == strlen(conversation.ask) && !memcmp(text, conversation.ask, size)) {
        send_text(connection, conversation.answer);
    } else if (connection->state == READY) {
        events.message(connection, text, size, now);
    } else {
        char *wanted =
            fill_in(conversation.lines[connection->step].text, connection->room, connection->index, NULL);
        if (size >= strlen(wanted) && !memcmp(text, wanted, strlen(wanted))) {
            connection->step++;
            talk(connection);
        }
        free(wanted);
    }
}

static void hear_control(struct connection *connection, int opcode, const char *payload, size_t size)
{
    if (opcode == 8) {
        char why[160];
        int code = size >= 2 ? (unsigned char)payload[0] << 8 | (unsigned char)payload[1] : 1005;
        snprintf(why, sizeof why, "closed with %d %.*s", code, size > 2 ? (int)size - 2 : 0, payload + 2);
        lose(connection, why);
    } else if (opcode == 9) {
        char pong[6 + 125] = {(char)0x8A, (char)(0x80 | size)};
        memcpy(pong + 6, payload, size);
        connection_send(connection, pong, 6 + size);
    }
}

/* Takes whole frames; returns where the first that is not whole begins. */
static const char *take_frames(struct connection *connection, const char *at, const char *end, uint64_t now)
{
    while (end - at >= 2) {
        const unsigned char *head = (const unsigned char *)at;
        uint64_t size = head[1] & 0x7F;
        size_t head_size = 2;
        if (size == 126) {
            if (end - at < 4)
                break;
            size = (uint64_t)head[2] << 8 | head[3];
            head_size = 4;
        } else if (size == 127) {
            if (end - at < 10)
                break;
            size = 0;
            for (int i = 2; i < 10; i++)
                size = size << 8 | head[i];
            head_size = 10;
        }
        if ((head[0] & 0x70) || (head[1] & 0x80) || size > FRAME_MAX - 10) {
            lose(connection, "sent a frame that is not a server's (RFC 6455 §5.2), or above 4 MiB");
            return end;
        }
        if ((uint64_t)(end - at) < head_size + size)
            break;
        const char *payload = at + head_size;
        int opcode = head[0] & 0x0F;
        at = payload + size;
        if (opcode < 8)
            hear(connection, payload, size, now);
        else
            hear_control(connection, opcode, payload, size);
        if (connection->state == CLOSED)
            return end;
    }
    return at;
}

/* Returns where the frames begin, or NULL while the answer is not whole. */
static const char *take_answer(struct connection *connection, char *at, const char *end)
{
    char *head_end = memmem(at, (size_t)(end - at), "\r\n\r\n", 4);
    if (!head_end)
        return NULL;
    *head_end = 0;
    if (strncmp(at, "HTTP/1.1 101", 12) || !strstr(at, ACCEPT)) {
        char why[160];
        snprintf(why, sizeof why, "refused: %.*s", (int)strcspn(at, "\r\n"), at);
        lose(connection, why);
        return end;
    }
    connection->state = TALKING;
    talk(connection);
    return head_end + 4;
}

size_t connection_readable(struct connection *connection)
{
    size_t have = connection->rest_size;
    memcpy(buffer, connection->rest, have);
    ssize_t got = recv(connection->fd, buffer + have, READ_SIZE, 0);
    if (got <= 0) {
        if (got == 0)
            lose(connection, "ended without a close frame");
        else if (errno != EAGAIN && errno != EINTR)
            lose(connection, strerror(errno));
        return 0;
    }
    uint64_t now = clock_ns();
    const char *at = buffer, *end = buffer + have + got;
    connection->rest_size = 0;
    if (connection->state == UPGRADING) {
        at = take_answer(connection, buffer, end);
        if (!at)
            at = buffer;
    }
    if (connection->state == TALKING || connection->state == READY)
        at = take_frames(connection, at, end, now);
    if (connection->state != CLOSED && at < end)
        keep(&connection->rest, &connection->rest_size, at, (size_t)(end - at));
    return (size_t)got;
}

static void ask_for_upgrade(struct connection *connection)
{
    char *path = fill_in(conversation.path, connection->room, connection->index, NULL);
    char *request = NULL;
    int size = asprintf(&request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                        path, conversation.port, KEY, conversation.headers);
    connection->state = UPGRADING;
    connection_send(connection, request, (size_t)size);
    free(request);
    free(path);
}

void connection_writable(struct connection *connection)
{
    if (connection->state == CLOSED)
        return;
    if (connection->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            lose(connection, strerror(error));
            return;
        }
        events.want_write(connection, 0);
        ask_for_upgrade(connection);
        return;
    }
    ssize_t sent = send(connection->fd, connection->unsent, connection->unsent_size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        lose(connection, strerror(errno));
    } else if (sent > 0) {
        connection->unsent_size -= (size_t)sent;
        memmove(connection->unsent, connection->unsent + sent, connection->unsent_size);
    }
    if (connection->state != CLOSED && !connection->unsent_size)
        events.want_write(connection, 0);
}
