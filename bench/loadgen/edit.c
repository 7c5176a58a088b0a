/* Writers edit at a steady rate; every other client of the document must get every edit. Latency runs from the
 * moment an edit was due, so a sender that is held up does not hide the delay. */
#include "loadgen.h"

#include <stdio.h>

static int documents, writers, per_document, clients;
static struct connection *connections;
static struct stream *streams;
static uint64_t start, warm_edits, sent, delivered, own_seen, acknowledged;
static int synced, open_now;
static double interval;
static struct connection *reader; /* whose update is being walked */

static uint64_t due(uint64_t edit) {
    return start + (uint64_t)((double)edit * interval);
}


/* Edits are dealt to the writers in turn, so a writer's clock tells when each was due. */
static uint64_t edit_of(int document, int writer, uint64_t clock) {
    return clock * (uint64_t)(documents * writers) + (uint64_t)(document * writers + writer);
}

static void on_range(void *context, uint64_t client, uint64_t clock, uint64_t length) {
    (void)context;
    uint64_t writer = client - FIRST_CLIENT;
    if (writer >= (uint64_t)writers)
        die("an update of client %llu, which is none of ours", (unsigned long long)client);
    uint64_t fresh = see(&reader->seen[writer], clock, length);
    int document = reader->index / per_document;
    if ((int)writer == reader->index % per_document) {
        own_seen += fresh;
        return;
    }
    delivered += fresh;
    for (uint64_t c = clock; fresh && c < clock + length; c++) {
        uint64_t edit = edit_of(document, (int)writer, c);
        if (edit >= warm_edits)
            latency_add(net_now > due(edit) ? net_now - due(edit) : 0, 1);
    }
}

static void on_update(struct connection *c, const uint8_t *update, size_t n) {
    reader = c;
    if (!update_walk(update, n, on_range, NULL))
        die("an update of %s does not decode", c->document);
}

static void on_synced(struct connection *c) {
    (void)c;
    synced++;
}

static void on_acknowledged(struct connection *c) {
    c->acked++;
    acknowledged++;
}

static void on_closed(struct connection *c) {
    (void)c;
    open_now--;
}

/* The first client of each document opens it before the others come: pycrdt-websocket 0.16 hangs when two open a new
 * document at the same moment. */
static void connect_all(void) {
    uint64_t deadline = nanoseconds() + (uint64_t)(number_option("connect_timeout", 30) * 1e9);
    for (int next = 0; synced < clients;) {
        for (; next < clients && next - synced < 64 && (next < documents || synced >= documents); next++) {
            int document = next % documents;
            struct connection *c = &connections[document * per_document + next / documents];
            c->index = (int)(c - connections);
            c->seen = allocate((size_t)writers, sizeof(struct range_set));
            open_now++;
            session_connect(c, document);
        }
        net_poll(10000000);
        if (net_failed || net_closed || nanoseconds() > deadline)
            die("%d of %d clients synced, %llu refused, %llu closed", synced, clients, (unsigned long long)net_failed,
                (unsigned long long)net_closed);
    }
}

static void send_due(uint64_t total) {
    uint64_t now = nanoseconds();
    for (; sent < total && due(sent) <= now; sent++) {
        uint64_t turn = sent % (uint64_t)(documents * writers), clock = sent / (uint64_t)(documents * writers);
        int document = (int)turn / writers, writer = (int)turn % writers;
        struct stream *s = &streams[writer];
        session_update(&connections[document * per_document + writer], s->bytes.at + s->at[clock], s->at[clock + 1] - s->at[clock]);
    }
}

static uint64_t wait_for(uint64_t edit) {
    uint64_t now = nanoseconds(), at = due(edit);
    return at > now + 50000 ? at - now : 50000;
}

int edit_mode(void) {
    double rate = number_option("rate", 1000), seconds = number_option("seconds", 2), warm = number_option("warm", 0.5);
    documents = (int)number_option("documents", 1);
    writers = (int)number_option("writers", 1);
    per_document = writers + (int)number_option("readers", 1);
    clients = documents * per_document;
    interval = 1e9 / rate;
    uint64_t total = (uint64_t)(rate * (warm + seconds));
    warm_edits = (uint64_t)(rate * warm);
    connections = allocate((size_t)clients, sizeof *connections);
    streams = allocate((size_t)writers, sizeof *streams);
    for (int w = 0; w < writers; w++)
        streams[w] = stream_make(FIRST_CLIENT + (uint32_t)w, (uint32_t)(total / (uint64_t)(documents * writers) + 2));
    session_start((struct script){.synced = on_synced, .update = on_update, .acknowledged = on_acknowledged, .closed = on_closed});
    connect_all();

    start = nanoseconds() + 1000000;
    double own = own_cpu(), theirs = server_cpu();
    while (sent < total && open_now == clients) {
        send_due(total);
        net_poll(sent < total ? wait_for(sent) : 0);
    }
    uint64_t expected = sent * (uint64_t)(per_document - 1), stopped = nanoseconds();
    double elapsed = (double)(stopped - start) / 1e9;
    double own_share = (own_cpu() - own) / elapsed, their_share = (server_cpu() - theirs) / elapsed;
    uint64_t deadline = stopped + (uint64_t)(number_option("drain", 3) * 1e9);
    while (delivered < expected && open_now == clients && nanoseconds() < deadline)
        net_poll(10000000);
    double drain = (double)(nanoseconds() - stopped) / 1e9;

    printf("{\"rate\": %.0f, \"sent\": %llu, \"expected\": %llu, \"delivered\": %llu, \"samples\": %llu, \"p50_ms\": %.3f, "
           "\"p99_ms\": %.3f, \"max_ms\": %.3f, \"echoed\": %llu, \"acknowledged\": %llu, \"closed\": %llu, "
           "\"drain_s\": %.3f, \"behind_ms\": %.3f, \"loadgen_cpu\": %.3f, \"server_cpu\": %.3f}\n",
           rate, (unsigned long long)sent, (unsigned long long)expected, (unsigned long long)delivered,
           (unsigned long long)latency_count(), latency_ms(0.5), latency_ms(0.99), latency_max_ms(),
           (unsigned long long)own_seen, (unsigned long long)acknowledged, (unsigned long long)net_closed, drain,
           sent == total ? (double)(stopped - due(total - 1)) / 1e6 : 0, own_share, their_share);
    net_hold();
    return 0;
}
