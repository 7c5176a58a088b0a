/* The load generator: one thread, one epoll, raw sockets. `loadgen MODE key=value ...` prints one JSON line. */
#ifndef LOADGEN_H
#define LOADGEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- util.c: options, clocks, CPU, growable bytes ---- */

struct bytes {
    uint8_t *at;
    size_t len, cap;
};

void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void options(int argc, char **argv);
const char *text_option(const char *key, const char *fallback);
double number_option(const char *key, double fallback);
uint64_t nanoseconds(void);
double own_cpu(void);          /* seconds of CPU used by this process */
double server_cpu(void);       /* seconds of CPU used by the process of option `pid`; 0 without it */
void *allocate(size_t count, size_t size);
void bytes_add(struct bytes *b, const void *data, size_t n);
void bytes_byte(struct bytes *b, uint8_t value);
void bytes_uint(struct bytes *b, uint64_t value); /* lib0 varUint */
struct bytes file_read(const char *path);

/* ---- histogram.c: latencies in nanoseconds, within 1.6 % ---- */

void latency_add(uint64_t ns, uint64_t count);
double latency_ms(double quantile);
double latency_max_ms(void);
uint64_t latency_count(void);

/* ---- net.c: connections and RFC 6455 client frames ---- */

struct range_set {
    uint32_t next, missing; /* every clock below `next` was seen, but for `missing` of them */
};

struct connection {
    int fd, index;
    enum { CONNECTING, UPGRADING, OPEN, CLOSED } phase;
    bool queued, writing;       /* queued: in the list of connections to flush */
    bool got_state, gave_state; /* the two halves of the Yjs handshake */
    uint32_t handshake_acks;    /* SyncStatus messages still due for what the handshake sent */
    char document[96];
    struct bytes in, out, fragments;
    struct bytes upload;        /* what this client answers a SyncStep1 with: a Yjs update */
    struct range_set *seen;     /* by client id, counted from FIRST_CLIENT */
    uint64_t started, finished, covered, acked;
};

struct net_handlers {
    void (*opened)(struct connection *);
    void (*frame)(struct connection *, const uint8_t *payload, size_t n);
    void (*closed)(struct connection *);
};

extern struct net_handlers net;
extern uint64_t net_now;  /* when the bytes being handled were read */
extern uint64_t net_closed, net_failed;

void net_start(int port, int other_port); /* connections with an odd index go to the other one */
void net_connect(struct connection *, const char *path);
void net_send(struct connection *, const uint8_t *payload, size_t n); /* leaves with the next net_poll */
void net_poll(uint64_t timeout_ns);
void net_hold(void); /* with hold=1: stay connected, the answer being printed, until standard input closes */

/* ---- session.c: the handshake and the messages of both dialects ---- */

struct script {
    void (*synced)(struct connection *);  /* both halves of the handshake are done */
    void (*update)(struct connection *, const uint8_t *update, size_t n);
    void (*acknowledged)(struct connection *); /* SyncStatus 1 for one edit */
    void (*awareness)(struct connection *, const uint8_t *update, size_t n);
    void (*closed)(struct connection *);
};

void session_start(struct script script);
void session_connect(struct connection *, int document);
void session_update(struct connection *, const uint8_t *update, size_t n);
void session_awareness(struct connection *, const uint8_t *update, size_t n);

/* ---- yjs.c: updates that people could have typed ---- */

#define FIRST_CLIENT 3000000000u /* as long on the wire as the random ids of real clients */

struct stream {
    struct bytes bytes;
    uint32_t *at; /* the update of clock c is bytes[at[c] .. at[c + 1]) */
    uint32_t count;
};

struct stream stream_make(uint32_t client, uint32_t count);

typedef void range_handler(void *context, uint64_t client, uint64_t clock, uint64_t length);

bool update_walk(const uint8_t *update, size_t n, range_handler *range, void *context);

static inline bool read_uint(const uint8_t **at, const uint8_t *end, uint64_t *value) {
    uint64_t result = 0;
    for (int shift = 0; *at < end && shift < 64; shift += 7) {
        uint8_t byte = *(*at)++;
        result |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value = result;
            return true;
        }
    }
    return false;
}

/* How many of these clocks are new to this client's view. A hole that is filled later counts once. */
static inline uint64_t see(struct range_set *set, uint64_t clock, uint64_t length) {
    uint64_t end = clock + length, fresh = 0;
    if (clock > set->next)
        set->missing += (uint32_t)(clock - set->next);
    if (clock < set->next && set->missing) {
        uint64_t late = (end < set->next ? end : set->next) - clock;
        fresh = late < set->missing ? late : set->missing;
        set->missing -= (uint32_t)fresh;
    }
    if (end > set->next) {
        fresh += end - (clock > set->next ? clock : set->next);
        set->next = (uint32_t)end;
    }
    return fresh;
}

/* ---- the modes ---- */

int edit_mode(void);
int sync_mode(void);
int presence_mode(void);

#endif
