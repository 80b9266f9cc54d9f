/* The limit of the machine: whatever comes in is framed once and goes out with one bare `send` for each connection of
 * the room. No Redis, no JSON, no checks: no server that anyone would run. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 20000, ROOMS = 1000, PENDING = 65536 };

static struct client {
    int room; /* -1 until the handshake */
    size_t size;
    char *pending;
} clients[CLIENTS]; /* by file descriptor */

static struct room {
    int count, *members;
} rooms[ROOMS];

/* The only key taken is the example of RFC 6455 §1.3, which the client sends. */
static const char ANSWER[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static void send_all(int fd, const char *bytes, size_t size)
{
    while (size) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd writable = {fd, POLLOUT, 0};
            poll(&writable, 1, 1000);
        } else if (sent < 0) {
            return;
        } else {
            bytes += sent;
            size -= (size_t)sent;
        }
    }
}

static void leave(int fd)
{
    struct room *room = clients[fd].room >= 0 ? &rooms[clients[fd].room] : NULL;
    for (int i = 0; room && i < room->count; i++)
        if (room->members[i] == fd) {
            room->members[i] = room->members[--room->count];
            break;
        }
    close(fd);
}

static void enter(int fd)
{
    struct client *client = &clients[fd];
    char *end = memmem(client->pending, client->size, "\r\n\r\n", 4);
    if (!end)
        return;
    int room = atoi(client->pending + strlen("GET /ws/")) % ROOMS;
    rooms[room].members = realloc(rooms[room].members, (size_t)(rooms[room].count + 1) * sizeof(int));
    rooms[room].members[rooms[room].count++] = fd;
    client->room = room;
    client->size -= (size_t)(end + 4 - client->pending);
    memmove(client->pending, end + 4, client->size);
    send_all(fd, ANSWER, sizeof ANSWER - 1);
}

static void fan_out(int room, const char *payload, size_t size)
{
    static char frame[PENDING];
    size_t head = 2;
    frame[0] = (char)0x81;
    frame[1] = (char)size;
    if (size >= 126) {
        frame[1] = 126;
        frame[2] = (char)(size >> 8);
        frame[3] = (char)size;
        head = 4;
    }
    memcpy(frame + head, payload, size);
    for (int i = 0; i < rooms[room].count; i++)
        send_all(rooms[room].members[i], frame, head + size);
}

/* Whole frames with less than 64 KiB, as the client sends them. */
static void take_frames(struct client *client)
{
    size_t at = 0;
    while (client->size - at >= 6) {
        unsigned char *head = (unsigned char *)client->pending + at;
        size_t size = head[1] & 0x7F, head_size = 6;
        if (size == 126) {
            size = (size_t)head[2] << 8 | head[3];
            head_size = 8;
        }
        if (client->size - at < head_size + size)
            break;
        char *payload = (char *)head + head_size;
        for (size_t i = 0; i < size; i++)
            payload[i] ^= (char)head[head_size - 4 + i % 4];
        if ((head[0] & 0x0F) == 1)
            fan_out(client->room, payload, size);
        at += head_size + size;
    }
    client->size -= at;
    memmove(client->pending, client->pending + at, client->size);
}

int main(int count, char **arguments)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[count - 1]))};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poller = epoll_create1(0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
        return 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, happened[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poller, happened, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = happened[i].data.fd;
            struct client *client = &clients[fd];
            if (fd == listener) {
                fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (fd < 0 || fd >= CLIENTS)
                    continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                client = &clients[fd];
                if (!client->pending)
                    client->pending = malloc(PENDING);
                client->room = -1;
                client->size = 0;
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
                continue;
            }
            ssize_t got = recv(fd, client->pending + client->size, PENDING - client->size, 0);
            if (got <= 0) {
                leave(fd);
                continue;
            }
            client->size += (size_t)got;
            if (client->room < 0)
                enter(fd);
            if (client->room >= 0)
                take_frames(client);
        }
    }
}
