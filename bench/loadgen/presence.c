/* Everyone in one room moves a cursor once a period; everyone else must hear of each move. */
#include "loadgen.h"

#include <stdio.h>
#include <string.h>

static int clients, synced;
static struct connection *connections;
static uint32_t *heard; /* the last clock that client i has of client j: heard[i * clients + j] */
static uint64_t start, period, first_counted, last_counted, delivered;

static uint64_t due(int client, uint64_t clock) {
    return start + (clock - 1) * period + period * (uint64_t)client / (uint64_t)clients;
}

/* y-protocols/awareness.js: count, then client id, clock and state as a JSON string for each. */
static void on_awareness(struct connection *c, const uint8_t *at, size_t size) {
    const uint8_t *end = at + size;
    uint64_t count, client, clock, n;
    if (!read_uint(&at, end, &count))
        return;
    while (count--) {
        if (!read_uint(&at, end, &client) || !read_uint(&at, end, &clock) || !read_uint(&at, end, &n) || n > (uint64_t)(end - at))
            die("a presence update does not decode");
        at += n;
        uint64_t who = client - FIRST_CLIENT;
        if (who >= (uint64_t)clients || (int)who == c->index)
            continue;
        uint32_t *last = &heard[(size_t)c->index * (size_t)clients + who];
        if (clock <= *last)
            continue;
        *last = (uint32_t)clock;
        if (clock >= first_counted && clock <= last_counted) {
            uint64_t at_ns = due((int)who, clock);
            delivered++;
            latency_add(net_now > at_ns ? net_now - at_ns : 0, 1);
        }
    }
}

static void on_synced(struct connection *c) {
    (void)c;
    synced++;
}

static void move(int client, uint64_t clock) {
    static struct bytes update;
    char state[160];
    int n = snprintf(state, sizeof state,
                     "{\"user\":{\"name\":\"Person %03d\",\"color\":\"#30bced\"},\"cursor\":{\"anchor\":%llu,\"head\":%llu}}", client,
                     (unsigned long long)clock * 7, (unsigned long long)clock * 7 + 3);
    update.len = 0;
    bytes_uint(&update, 1);
    bytes_uint(&update, FIRST_CLIENT + (uint32_t)client);
    bytes_uint(&update, clock);
    bytes_uint(&update, (uint64_t)n);
    bytes_add(&update, state, (size_t)n);
    session_awareness(&connections[client], update.at, update.len);
}

int presence_mode(void) {
    clients = (int)number_option("clients", 500);
    period = (uint64_t)(number_option("period", 1) * 1e9);
    uint64_t warm = (uint64_t)number_option("warm", 2), rounds = (uint64_t)number_option("rounds", 10);
    first_counted = warm + 1;
    last_counted = warm + rounds;
    connections = allocate((size_t)clients, sizeof *connections);
    heard = allocate((size_t)clients * (size_t)clients, sizeof *heard);
    session_start((struct script){.synced = on_synced, .awareness = on_awareness});
    uint64_t deadline = nanoseconds() + 30000000000u;
    for (int next = 0; synced < clients;) {
        for (; next < clients && next - synced < 64 && (!next || synced); next++) { /* the first opens the room */
            connections[next].index = next;
            session_connect(&connections[next], 0);
        }
        net_poll(10000000);
        if (net_failed || net_closed || nanoseconds() > deadline)
            die("%d of %d clients synced", synced, clients);
    }

    start = nanoseconds() + 1000000;
    double own = 0, theirs = 0;
    uint64_t moves = (warm + rounds) * (uint64_t)clients, counted = warm * (uint64_t)clients, begun = start;
    for (uint64_t done = 0; done < moves;) {
        uint64_t now = nanoseconds();
        for (; done < moves && due((int)(done % (uint64_t)clients), done / (uint64_t)clients + 1) <= now; done++) {
            if (done == counted) {
                own = own_cpu();
                theirs = server_cpu();
                begun = now;
            }
            move((int)(done % (uint64_t)clients), done / (uint64_t)clients + 1);
        }
        net_poll(500000);
    }
    double elapsed = (double)(nanoseconds() - begun) / 1e9;
    double own_share = (own_cpu() - own) / elapsed, their_share = (server_cpu() - theirs) / elapsed;
    uint64_t expected = rounds * (uint64_t)clients * (uint64_t)(clients - 1);
    deadline = nanoseconds() + 2000000000u;
    while (delivered < expected && nanoseconds() < deadline)
        net_poll(10000000);
    printf("{\"expected\": %llu, \"delivered\": %llu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"closed\": %llu, "
           "\"loadgen_cpu\": %.3f, \"server_cpu\": %.3f}\n",
           (unsigned long long)expected, (unsigned long long)delivered, latency_ms(0.5), latency_ms(0.99),
           (unsigned long long)net_closed, own_share, their_share);
    return 0;
}
