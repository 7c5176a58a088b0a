/* Clients that come with work done offline, or with nothing, and sync: how long until each has all that it should. */
#include "loadgen.h"

#include <stdio.h>
#include <string.h>

static struct connection *connections;
static int clients, ids, finished, broken;
static uint64_t expect;
static struct connection *reader;
static FILE *dump;

static void on_range(void *context, uint64_t client, uint64_t clock, uint64_t length) {
    (void)context;
    uint64_t id = client - FIRST_CLIENT;
    if (id >= (uint64_t)ids)
        die("an update of client %llu, which is none of ours", (unsigned long long)client);
    reader->covered += see(&reader->seen[id], clock, length);
}

static void walk(struct connection *c, const uint8_t *update, size_t n) {
    reader = c;
    if (!update_walk(update, n, on_range, NULL))
        die("an update of %s does not decode", c->document);
}

/* Joiners of one document get the same bytes. What those hold is worked out once: to walk 300 KB for each of them
 * would take longer than the server needs to send it. */
static void receive(struct connection *c, const uint8_t *update, size_t n) {
    static struct bytes last;
    static struct range_set *last_seen;
    static uint64_t last_covered;
    size_t size = (size_t)ids * sizeof *last_seen;
    bool first = !c->covered;
    if (first && last.len == n && !memcmp(last.at, update, n)) {
        memcpy(c->seen, last_seen, size);
        c->covered = last_covered;
        return;
    }
    walk(c, update, n);
    if (first) {
        if (!last_seen)
            last_seen = allocate((size_t)ids, sizeof *last_seen);
        last.len = 0;
        bytes_add(&last, update, n);
        memcpy(last_seen, c->seen, size);
        last_covered = c->covered;
    }
}

static void finish_when_complete(struct connection *c) {
    if (c->finished || !c->got_state || !c->gave_state || c->covered < expect)
        return;
    c->finished = nanoseconds();
    latency_add(c->finished - c->started, 1);
    finished++;
}

static void on_update(struct connection *c, const uint8_t *update, size_t n) {
    receive(c, update, n);
    if (dump) {
        uint32_t size = (uint32_t)n;
        fwrite(&size, sizeof size, 1, dump);
        fwrite(update, 1, n, dump);
    }
    if (c->got_state)
        finish_when_complete(c);
}

static void on_closed(struct connection *c) {
    if (!c->finished)
        broken++;
}

/* A file of updates, each behind its length in four bytes (little-endian). */
static int split(struct bytes file, struct bytes **parts) {
    int count = 0;
    for (int pass = 0; pass < 2; pass++) {
        int i = 0;
        for (size_t at = 0; at + 4 <= file.len;) {
            uint32_t n;
            memcpy(&n, file.at + at, 4);
            if (pass)
                (*parts)[i] = (struct bytes){.at = file.at + at + 4, .len = n};
            i++;
            at += 4 + n;
        }
        if (!pass)
            *parts = allocate((size_t)i, sizeof **parts);
        count = i;
    }
    return count;
}

int sync_mode(void) {
    clients = (int)number_option("clients", 1);
    ids = (int)number_option("ids", 1);
    expect = (uint64_t)number_option("expect", 0);
    int documents = (int)number_option("documents", 1), first = (int)number_option("first", 0), at_once = (int)number_option("at_once", clients);
    connections = allocate((size_t)clients, sizeof *connections);
    struct bytes *uploads = NULL;
    int upload_count = 0;
    if (text_option("upload", NULL))
        upload_count = split(file_read(text_option("upload", NULL)), &uploads);
    const char *dump_path = text_option("dump", NULL);
    if (dump_path && !(dump = fopen(dump_path, "wb")))
        die("cannot write %s", dump_path);
    session_start((struct script){.synced = finish_when_complete, .update = on_update, .closed = on_closed});
    for (int i = 0; i < clients; i++) {
        struct connection *c = &connections[i];
        c->index = i;
        c->seen = allocate((size_t)ids, sizeof(struct range_set));
        if (upload_count) {
            c->upload = uploads[i % upload_count];
            walk(c, c->upload.at, c->upload.len);
        }
    }

    uint64_t start = nanoseconds(), deadline = start + (uint64_t)(number_option("timeout", 60) * 1e9);
    double own = own_cpu(), theirs = server_cpu();
    for (int next = 0; finished + broken < clients && nanoseconds() < deadline;) {
        for (; next < clients && next - finished - broken < at_once; next++)
            session_connect(&connections[next], first + next % documents);
        net_poll(20000000);
    }
    double seconds = (double)(nanoseconds() - start) / 1e9;
    uint64_t covered = 0;
    for (int i = 0; i < clients; i++)
        covered += connections[i].covered;
    printf("{\"clients\": %d, \"finished\": %d, \"broken\": %d, \"seconds\": %.4f, \"p50_ms\": %.3f, \"max_ms\": %.3f, "
           "\"covered\": %llu, \"loadgen_cpu\": %.3f, \"server_cpu_s\": %.3f}\n",
           clients, finished, broken, seconds, latency_ms(0.5), latency_max_ms(), (unsigned long long)covered,
           (own_cpu() - own) / seconds, server_cpu() - theirs);
    if (dump)
        fclose(dump);
    net_hold();
    return 0;
}
