#define _GNU_SOURCE
#include "loadgen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONTINUATION = 0, CLOSE = 8, PING = 9, READ_SIZE = 256 * 1024, EVENTS = 512 };

/* RFC 6455 wants an unpredictable key; a fixed one that is not zero costs the server the same work. */
static const uint8_t MASK[4] = {0x37, 0xfa, 0x21, 0x3d};

struct net_handlers net;
uint64_t net_now, net_closed, net_failed;

static int poller;
static struct sockaddr_in servers[2];
static struct bytes scratch;
static struct connection **queue;
static size_t queue_len, queue_cap;

void net_start(int port, int other_port) {
    poller = epoll_create1(0);
    for (int i = 0; i < 2; i++) {
        servers[i].sin_family = AF_INET;
        servers[i].sin_port = htons((uint16_t)(i ? other_port : port));
        servers[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    prctl(PR_SET_TIMERSLACK, 1); /* the default of 50 us would be part of every latency */
}

static void watch(struct connection *c, int operation, bool write) {
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event))
        die("epoll_ctl: %s", strerror(errno));
    c->writing = write;
}

static void give_up(struct connection *c) {
    if (c->phase == CLOSED)
        return;
    if (c->phase == OPEN)
        net_closed++;
    else
        net_failed++;
    c->phase = CLOSED;
    close(c->fd);
    if (net.closed)
        net.closed(c);
}

static void enqueue(struct connection *c) {
    if (c->queued)
        return;
    if (queue_len == queue_cap) {
        queue_cap = queue_cap ? queue_cap * 2 : 1024;
        queue = realloc(queue, queue_cap * sizeof *queue);
        if (!queue)
            die("out of memory");
    }
    c->queued = true;
    queue[queue_len++] = c;
}

void net_connect(struct connection *c, const char *path) {
    const struct sockaddr_in *server = &servers[c->index % 2];
    char request[512];
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                     path, ntohs(server->sin_port));
    bytes_add(&c->out, request, (size_t)n);
    c->started = nanoseconds();
    c->phase = CONNECTING;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket: %s (is the limit of open files too low?)", strerror(errno));
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (const struct sockaddr *)server, sizeof *server) && errno != EINPROGRESS) {
        give_up(c);
        return;
    }
    watch(c, EPOLL_CTL_ADD, true);
}

static void flush(struct connection *c) {
    size_t sent = 0;
    while (sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.at + sent, c->out.len - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            give_up(c);
            return;
        }
        sent += (size_t)n;
    }
    c->out.len -= sent;
    if (c->out.len)
        memmove(c->out.at, c->out.at + sent, c->out.len);
    if (c->writing != (c->out.len > 0))
        watch(c, EPOLL_CTL_MOD, c->out.len > 0);
}

static void send_frame(struct connection *c, uint8_t opcode, const uint8_t *payload, size_t n) {
    uint8_t head[14] = {(uint8_t)(0x80 | opcode)};
    size_t size;
    if (n < 126) {
        head[1] = (uint8_t)(0x80 | n);
        size = 2;
    } else if (n < 65536) {
        head[1] = 0x80 | 126;
        head[2] = (uint8_t)(n >> 8);
        head[3] = (uint8_t)n;
        size = 4;
    } else {
        head[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++)
            head[2 + i] = (uint8_t)((uint64_t)n >> (56 - 8 * i));
        size = 10;
    }
    memcpy(head + size, MASK, 4);
    bytes_add(&c->out, head, size + 4);
    bytes_add(&c->out, payload, n);
    uint8_t *at = c->out.at + c->out.len - n;
    for (size_t i = 0; i < n; i++)
        at[i] ^= MASK[i & 3];
    enqueue(c);
}

void net_send(struct connection *c, const uint8_t *payload, size_t n) {
    if (c->phase == OPEN)
        send_frame(c, 2, payload, n);
}

static void take(struct connection *c, uint8_t first, const uint8_t *payload, size_t n) {
    uint8_t opcode = first & 0x0f;
    bool final = first & 0x80;
    if (opcode == PING) {
        send_frame(c, 10, payload, n);
    } else if (opcode == CLOSE) {
        give_up(c);
    } else if (opcode < CLOSE && final && opcode != CONTINUATION) {
        net.frame(c, payload, n);
    } else if (opcode < CLOSE) {
        bytes_add(&c->fragments, payload, n);
        if (final) {
            net.frame(c, c->fragments.at, c->fragments.len);
            c->fragments.len = 0;
        }
    }
}

/* How much of what was read made whole frames. */
static size_t frames(struct connection *c, const uint8_t *at, size_t n) {
    size_t done = 0;
    while (c->phase == OPEN && n - done >= 2) {
        const uint8_t *f = at + done;
        size_t head = 2;
        uint64_t size = f[1] & 0x7f;
        if (size >= 126) {
            size_t wide = size == 126 ? 2 : 8;
            head += wide;
            if (n - done < head)
                break;
            size = 0;
            for (size_t i = 0; i < wide; i++)
                size = size << 8 | f[2 + i];
        }
        if (n - done - head < size)
            break;
        take(c, f[0], f + head, size);
        done += head + size;
    }
    return done;
}

static size_t upgrade(struct connection *c, const uint8_t *at, size_t n) {
    const uint8_t *end = memmem(at, n, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (n < 12 || memcmp(at + 9, "101", 3)) {
        static bool said;
        if (!said)
            fprintf(stderr, "loadgen: upgrade refused: %.*s\n", (int)(n < 200 ? n : 200), (const char *)at);
        said = true;
        give_up(c);
        return n;
    }
    c->phase = OPEN;
    net.opened(c);
    return (size_t)(end + 4 - at);
}

static void readable(struct connection *c) {
    scratch.len = 0;
    bytes_add(&scratch, c->in.at, c->in.len);
    c->in.len = 0;
    if (scratch.cap - scratch.len < READ_SIZE) {
        scratch.cap += READ_SIZE;
        scratch.at = realloc(scratch.at, scratch.cap);
        if (!scratch.at)
            die("out of memory");
    }
    ssize_t n = recv(c->fd, scratch.at + scratch.len, READ_SIZE, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        n = 0;
    else if (n <= 0) {
        give_up(c);
        return;
    }
    net_now = nanoseconds();
    scratch.len += (size_t)n;
    size_t done = 0;
    if (c->phase == UPGRADING)
        done = upgrade(c, scratch.at, scratch.len);
    if (c->phase == OPEN)
        done += frames(c, scratch.at + done, scratch.len - done);
    if (c->phase != CLOSED)
        bytes_add(&c->in, scratch.at + done, scratch.len - done);
}

static void writable(struct connection *c) {
    if (c->phase == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            give_up(c);
            return;
        }
        c->phase = UPGRADING;
    }
    flush(c);
}

void net_poll(uint64_t timeout_ns) {
    static struct epoll_event events[EVENTS];
    for (size_t i = 0; i < queue_len; i++) {
        queue[i]->queued = false;
        if (queue[i]->phase == OPEN && !queue[i]->writing)
            flush(queue[i]);
    }
    queue_len = 0;
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000u), .tv_nsec = (long)(timeout_ns % 1000000000u)};
    int n = epoll_pwait2(poller, events, EVENTS, &timeout, NULL);
    for (int i = 0; i < n; i++) {
        struct connection *c = events[i].data.ptr;
        if (c->phase != CLOSED && events[i].events & EPOLLOUT)
            writable(c);
        if (c->phase != CLOSED && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            readable(c);
    }
}

void net_hold(void) {
    struct pollfd input = {.fd = 0, .events = POLLIN};
    char byte;
    fflush(stdout);
    while (number_option("hold", 0)) {
        net_poll(100000000);
        if (poll(&input, 1, 0) > 0 && read(0, &byte, 1) <= 0)
            return;
    }
}
